/* The two kinds of layers: an LSTM's step, and a linear one. */
#pragma once

#include "products.h"

/* Where one row of an LSTM reads and writes; NULL where nobody wants it. */
typedef struct {
  const float *add; /* [4U], to the gates */
  const float *cell;
  float *next_cell;
  uint8_t *hidden, *output;
  float *exact, *last; /* the hidden state in float */
} Place;

typedef struct {
  const Place *places;
  Grid grid;
} Cells;

/* Gates before their functions -> cell and hidden state of 16 units.
 *
 * With e_x = e^-x: f c + i g = c / (1 + e_f) + (1 - e_2g) / ((1 + e_i) (1 + e_2g)), and o tanh(c) likewise.
 */
ALONE void finish_lstm(int64_t rows, const int32_t sums[][BLOCK], const Weights *weights, int64_t block,
                       int64_t first, const void *more) {
  const Cells *cells = more;
  const Grid grid = cells->grid;
  const floats one = (floats){} + 1.0f;
  const int32_t *start = weights->start + BLOCK * block;
  const float *scale = weights->scale + BLOCK * block;
#pragma GCC unroll 1
  for (int64_t row = 0; row < rows; row++) {
    const Place *place = cells->places + first + row;
    const float *add = place->add + BLOCK * block;
    floats gates[VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) {
      const ints sum = load_ints(sums[row] + LANES * v) + load_ints(start + LANES * v);
      gates[v] = __builtin_convertvector(sum, floats) * load(scale + LANES * v) + load(add + LANES * v);
    }
    floats i = one + decay(gates[0]), f = one + decay(gates[1]), g = decay(gates[2] + gates[2]);
    floats o = one + decay(gates[3]), new = i * (one + g);
    floats cell = over(load(place->cell + LANES * block) * new + (one - g) * f, f * new);
    floats squashed = decay(cell + cell);
    floats hidden = over(one - squashed, o * (one + squashed));
    store(place->next_cell + LANES * block, cell);
    store_bytes(place->hidden + LANES * block, hidden, grid);
    if (place->output) memcpy(place->output + LANES * block, place->hidden + LANES * block, LANES);
    if (place->exact) store(place->exact + LANES * block, hidden);
    if (place->last) store(place->last + LANES * block, hidden);
  }
}

static void lstm(int64_t rows, const Part *parts, int count, const Weights *weights, const Place *places,
                 Grid grid) {
  const Product product = {parts, count, weights};
  const Cells cells = {places, grid};
  multiply(rows, &product, finish_lstm, &cells);
}

typedef struct {
  float *out; /* [R, N rounded up to 16], rows `stride` apart */
  int64_t stride;
  int more; /* whether the product is added to what is there */
} Sums;

/* 64 outputs, or as many whole vectors as there are left. */
ALONE void finish_linear(int64_t rows, const int32_t sums[][BLOCK], const Weights *weights, int64_t block,
                         int64_t first, const void *more) {
  const Sums *found = more;
  const int64_t left = weights->columns - BLOCK * block, columns = left < BLOCK ? left : BLOCK;
  const int32_t *start = weights->start + BLOCK * block;
  const float *scale = weights->scale + BLOCK * block;
#pragma GCC unroll 1
  for (int64_t row = 0; row < rows; row++) {
    float *out = found->out + (first + row) * found->stride + BLOCK * block;
#pragma GCC unroll 1
    for (int64_t column = 0; column < columns; column += LANES) {
      const ints whole = load_ints(sums[row] + column) + load_ints(start + column);
      floats sum = __builtin_convertvector(whole, floats) * load(scale + column);
      if (weights->bias) sum += load(weights->bias + BLOCK * block + column);
      store(out + column, found->more ? sum + load(out + column) : sum);
    }
  }
}

static void linear(int64_t rows, const Part *parts, int count, const Weights *weights, float *out,
                   int64_t stride, int more) {
  const Product product = {parts, count, weights};
  const Sums sums = {out, stride, more};
  multiply(rows, &product, finish_linear, &sums);
}

/* floats [N] -> their tanh as units; N is a multiple of 16. */
ALONE void squash(const float *from, uint8_t *to, int64_t count) {
  for (int64_t i = 0; i < count; i += LANES) {
    floats e = decay(load(from + i) * 2.0f), one = (floats){} + 1.0f;
    store_bytes(to + i, over(one - e, one + e), UNIT);
  }
}
