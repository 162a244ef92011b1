/* Sixteen floats or whole numbers at a time: a register of AVX-512. */
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <immintrin.h>

#define LANES 16
#define INLINE static inline __attribute__((always_inline))
#define ALONE static __attribute__((noinline)) /* one copy: the same instructions for every row */

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef uint8_t bytes __attribute__((vector_size(LANES)));

INLINE floats load(const float *from) {
  floats value;
  memcpy(&value, from, sizeof value);
  return value;
}

INLINE void store(float *to, floats value) { memcpy(to, &value, sizeof value); }

INLINE ints load_ints(const int32_t *from) {
  ints value;
  memcpy(&value, from, sizeof value);
  return value;
}

INLINE float sum_of(floats value) { return _mm512_reduce_add_ps((__m512)value); }

/* From here on a number too small for a float of full precision is 0, as in the graphs' sessions: each such one costs
 * the processor a hundred times as long, and the weights of attention have many. Returns what `_mm_setcsr` undoes. */
INLINE unsigned flush_denormals(void) {
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | _MM_FLUSH_ZERO_ON | _MM_DENORMALS_ZERO_ON);
  return before;
}

/* e^-x, but no more than 2^39, such that a product of three and a few more still is a float. A polynomial for
 * 2^r, r in [0, 1), whose largest relative error is 7.5e-8, and a power of two. */
INLINE floats decay(floats x) {
  const __m512 y = _mm512_min_ps((__m512)(x * -1.44269504f), _mm512_set1_ps(39.0f));
  floats rest = (floats)_mm512_reduce_ps(y, _MM_FROUND_TO_NEG_INF);
  floats sum = rest * 1.87757658e-3f + 8.98934063e-3f;
  sum = sum * rest + 5.58263175e-2f;
  sum = sum * rest + 2.40153611e-1f;
  sum = sum * rest + 6.93153083e-1f;
  sum = sum * rest + 0.99999994f;
  return (floats)_mm512_scalef_ps((__m512)sum, y);
}

/* x / y: an estimate of 1 / y, good to 14 bits, once refined, in a fraction of a division's time. */
INLINE floats over(floats x, floats y) {
  floats once = (floats)_mm512_rcp14_ps((__m512)y);
  return x * (once * (2.0f - y * once));
}

/* How floats become bytes: times `factor`, rounded to the nearest, ties to even, plus `zero`. */
typedef struct {
  float factor;
  int32_t zero;
} Grid;

static const Grid UNIT = {127.0f, 128};

INLINE void store_bytes(uint8_t *to, floats value, Grid grid) {
  const __m512i whole = _mm512_cvtps_epi32((__m512)(value * grid.factor));
  const __m512i units = _mm512_max_epi32((__m512i)((ints)whole + grid.zero), _mm512_setzero_si512());
  _mm_storeu_si128((__m128i *)to, _mm512_cvtusepi32_epi8(units));
}
