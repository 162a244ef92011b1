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

INLINE floats clamp(floats x, float least, float most) {
  return (floats)_mm512_max_ps(_mm512_min_ps((__m512)x, _mm512_set1_ps(most)), _mm512_set1_ps(least));
}

/* e^x for x in [-40, 40], to two units in the last place: powers of two, and a polynomial between them. */
INLINE floats power_of_e(floats x) {
  const float to_whole = 12582912.0f; /* 1.5 * 2^23: what is added to it is rounded */
  floats whole = (x * 1.44269504f + to_whole) - to_whole;
  floats rest = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  floats sum = rest * 1.38888889e-3f + 8.33333333e-3f;
  sum = sum * rest + 4.16666667e-2f;
  sum = sum * rest + 1.66666667e-1f;
  sum = sum * rest + 0.5f;
  sum = sum * rest * rest + rest + 1.0f;
  return (floats)_mm512_scalef_ps((__m512)sum, (__m512)whole);
}

/* e^-x, such that a product of two and a few more still is a float. */
INLINE floats decay(floats x) { return power_of_e(clamp(-x, -27.0f, 27.0f)); }

/* x / y: an estimate of 1 / y, twice refined, in a fraction of a division's time. */
INLINE floats over(floats x, floats y) {
  floats once = (floats)_mm512_rcp14_ps((__m512)y);
  once = once * (2.0f - y * once);
  return x * (once * (2.0f - y * once));
}

/* How floats become bytes: times `factor`, rounded to the nearest, ties to even, plus `zero`. */
typedef struct {
  float factor;
  int32_t zero;
} Grid;

static const Grid UNIT = {127.0f, 128};

INLINE void store_bytes(uint8_t *to, floats value, Grid grid) {
  const float to_whole = 12582912.0f;
  floats whole = (value * grid.factor + to_whole) - to_whole;
  whole = clamp(whole, (float)-grid.zero, (float)(255 - grid.zero));
  bytes units = __builtin_convertvector(__builtin_convertvector(whole, ints) + grid.zero, bytes);
  memcpy(to, &units, sizeof units);
}
