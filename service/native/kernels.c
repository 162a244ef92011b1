/* Recurrent steps in whole numbers: what an int8 bundle's graphs compute, in one pass over the weights.
 *
 * Knows nothing of bundles, tokens' texts or scheduling. A unit is a byte: 128 means 0, 1/127 is the scale. Between
 * its layers an encoder has a finer grid, which its weights bring along.
 * Products of bytes and int8 weights are added up exactly in 32 bits, and what follows is one loop over
 * rows: so no row's bits depend on how many rows there are, or on which one it is.
 *
 * vectors.h: sixteen numbers at a time; products.h: exact sums; layers.h: what becomes of them; encoder.h and
 * decoder.h: the functions that service/kernel_engine.py calls, by the structures of service/kernels.py.
 *
 * Letters: R rows, K bytes of an input, U units of a layer, N outputs of a linear layer, S width of the source
 * axis, D bytes of an encoder's output. Weights lie in blocks of 64 columns: [N / 64, K / 4, 64, 4]. A block of
 * an LSTM is 16 units, 16 columns for each of the gates i, f, g, o. Arrays that belong to columns (start, scale,
 * bias, table) are in that order too. `start` takes the zero of the bytes out of the sums: minus that zero, times
 * the sum of a column.
 */
#include "decoder.h"
#include "encoder.h"
