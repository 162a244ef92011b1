/* Bytes times int8 weights, block by block: exact sums, and what becomes of them. */
#pragma once

#include "vectors.h"

#ifdef __AMX_INT8__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define VECTORS 4 /* of a block */
#define BLOCK (LANES * VECTORS)
#define LINES 6   /* rows whose sums stay in registers */
#define TILE 16   /* rows whose sums are finished together */
#define FEW 3     /* rows: fewer are not worth a tile of the processor's own */
#define CHUNK 256 /* rows for which a block of weights is read once */
#define PARTS 3   /* inputs side by side, at the most */

typedef struct {
  const uint8_t *bytes; /* [R, K], rows `stride` apart */
  int64_t stride, count;
} Part;

typedef struct {
  const int8_t *weight;
  const int32_t *start;
  const float *scale;
  const float *bias; /* or NULL */
  int64_t columns;
} Weights;

/* Adds four products to each of 16 sums: the same four bytes, times four weights of each column. */
INLINE ints add_products(ints sums, const uint8_t *four, const int8_t *weights) {
  int32_t packed;
  memcpy(&packed, four, sizeof packed);
  __m512i columns = _mm512_loadu_si512(weights);
  return (ints)_mm512_dpbusd_epi32((__m512i)sums, _mm512_set1_epi32(packed), columns);
}

static int64_t bytes_of(const Part *parts, int count) {
  int64_t sum = 0;
  for (int part = 0; part < count; part++) sum += parts[part].count;
  return sum;
}

/* Adds up one block of columns for `rows` rows, which stay in registers: LINES at the most. */
INLINE void sums_of(const int rows, const Part *parts, int count, int64_t first, const int8_t *weight,
                    int32_t sums[][BLOCK]) {
  ints all[LINES][VECTORS];
#pragma GCC unroll 6
  for (int row = 0; row < rows; row++) memset(all[row], 0, sizeof all[row]);
  for (int part = 0; part < count; part++) {
    const int64_t stride = parts[part].stride;
    const uint8_t *from = parts[part].bytes + first * stride, *end = from + parts[part].count;
    for (; from < end; from += 4, weight += 4 * BLOCK)
#pragma GCC unroll 6
      for (int row = 0; row < rows; row++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++)
          all[row][v] = add_products(all[row][v], from + row * stride, weight + 4 * LANES * v);
  }
#pragma GCC unroll 6
  for (int row = 0; row < rows; row++) memcpy(sums[row], all[row], sizeof all[row]);
}

static void sums_of_few(int64_t rows, const Part *parts, int count, int64_t first, const int8_t *weight,
                        int32_t sums[][BLOCK]) {
  for (; rows > 0; rows -= LINES, first += LINES, sums += LINES) switch (rows) {
      case 1: sums_of(1, parts, count, first, weight, sums); break;
      case 2: sums_of(2, parts, count, first, weight, sums); break;
      case 3: sums_of(3, parts, count, first, weight, sums); break;
      case 4: sums_of(4, parts, count, first, weight, sums); break;
      case 5: sums_of(5, parts, count, first, weight, sums); break;
      default: sums_of(6, parts, count, first, weight, sums);
    }
}

typedef struct {
  const Part *parts;
  int count;
  const Weights *weights;
} Product;

/* What becomes of one block's sums, row by row: rows first to first + rows - 1. One loop and no second copy of it,
 * so that every row is finished by the same instructions. */
typedef void Finish(int64_t rows, const int32_t sums[][BLOCK], const Weights *weights, int64_t block,
                    int64_t first, const void *more);

/* Rows whose sums are there and that are not finished yet. */
typedef struct {
  Finish *finish;
  const Weights *weights;
  const void *more;
  const int32_t (*sums)[BLOCK];
  int64_t rows, block, first;
} Due;

INLINE void finish_some(Due *due, int64_t most) {
  const int64_t rows = due->rows < most ? due->rows : most;
  if (!rows) return;
  due->finish(rows, due->sums, due->weights, due->block, due->first, due->more);
  due->sums += rows, due->first += rows, due->rows -= rows;
}

#ifdef __AMX_INT8__
/* A processor's own tiles: 16 rows, 64 bytes of an input at a time, 16 columns. While they are multiplied, rows
 * that are due are finished. */
typedef struct {
  uint8_t palette, start, reserved[14];
  uint16_t bytes[16];
  uint8_t rows[16];
} TileShapes;

static void shape_tiles(int64_t rows, int64_t chunk) {
  TileShapes shapes = {.palette = 1};
  for (int v = 0; v < VECTORS; v++) shapes.bytes[v] = 4 * LANES, shapes.rows[v] = (uint8_t)rows;
  shapes.bytes[4] = (uint16_t)chunk, shapes.rows[4] = (uint8_t)rows;
  shapes.bytes[5] = (uint16_t)chunk, shapes.rows[5] = (uint8_t)rows;
  for (int v = 6; v < 8; v++) shapes.bytes[v] = 4 * LANES, shapes.rows[v] = (uint8_t)(chunk / 4);
  _tile_loadconfig(&shapes);
}

INLINE void clear_tiles(void) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

/* Tiles `first` and `first` + 1, 0 or 2: sums of 16 rows, side by side. */
INLINE void store_two(const int first, int32_t *sums) {
  if (first) {
    _tile_stored(2, sums, 4 * BLOCK);
    _tile_stored(3, sums + 16, 4 * BLOCK);
  } else {
    _tile_stored(0, sums, 4 * BLOCK);
    _tile_stored(1, sums + 16, 4 * BLOCK);
  }
}

/* Sums of up to 16 rows and a block: four tiles of sums, one of rows. After each chunk `some` rows are finished. */
static void sums_in_tiles(const Part *parts, int count, int64_t first, const int8_t *weight, int64_t chunk,
                          int32_t sums[][BLOCK], Due *due, int64_t some) {
  clear_tiles();
  for (int part = 0; part < count; part++) {
    const int64_t stride = parts[part].stride;
    const uint8_t *from = parts[part].bytes + first * stride, *end = from + parts[part].count;
    for (; from < end; from += chunk, weight += chunk * BLOCK) {
      _tile_loadd(4, from, stride);
      _tile_loadd(6, weight, 4 * BLOCK);
      _tile_dpbusd(0, 4, 6);
      _tile_loadd(7, weight + 64, 4 * BLOCK);
      _tile_dpbusd(1, 4, 7);
      _tile_loadd(6, weight + 128, 4 * BLOCK);
      _tile_dpbusd(2, 4, 6);
      _tile_loadd(7, weight + 192, 4 * BLOCK);
      _tile_dpbusd(3, 4, 7);
      finish_some(due, some);
    }
  }
  store_two(0, &sums[0][0]);
  store_two(2, &sums[0][32]);
}

/* Sums of 32 rows and half a block, for both halves: four tiles of sums, two of rows, two of weights. */
static void sums_of_two_tiles(const Part *parts, int count, int64_t first, const int8_t *weight, int64_t chunk,
                              int32_t sums[][BLOCK], Due *due, int64_t some) {
  for (int half = 0; half < 2; half++) {
    const int8_t *columns = weight + 128 * half;
    clear_tiles();
    for (int part = 0; part < count; part++) {
      const int64_t stride = parts[part].stride;
      const uint8_t *from = parts[part].bytes + first * stride, *end = from + parts[part].count;
      for (; from < end; from += chunk, columns += chunk * BLOCK) {
        _tile_loadd(4, from, stride);
        _tile_loadd(6, columns, 4 * BLOCK);
        _tile_dpbusd(0, 4, 6);
        _tile_loadd(5, from + 16 * stride, stride);
        _tile_dpbusd(2, 5, 6);
        _tile_loadd(7, columns + 64, 4 * BLOCK);
        _tile_dpbusd(1, 4, 7);
        _tile_dpbusd(3, 5, 7);
        finish_some(due, some);
      }
    }
    store_two(0, &sums[0][32 * half]);
    store_two(2, &sums[16][32 * half]);
  }
}

/* The most bytes of an input, at most 64, that cut every part into equal chunks. */
static int64_t chunk_of(const Part *parts, int count) {
  for (int64_t chunk = 64;; chunk -= 4) { /* each count is a multiple of 4 */
    int part = 0;
    while (part < count && parts[part].count % chunk == 0) part++;
    if (part == count) return chunk;
  }
}

int64_t chairlift_prepare(void) { return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18); }
#else
int64_t chairlift_prepare(void) { return 0; }
#endif

/* A block of weights is read once for many rows. */
static void multiply(int64_t rows, const Product *product, Finish *finish, const void *more) {
  const Part *parts = product->parts;
  const Weights *weights = product->weights;
  const int64_t count = bytes_of(parts, product->count);
  _Alignas(64) int32_t sums[2][2 * TILE][BLOCK]; /* a line of the cache each */
  Due due = {.finish = finish, .weights = weights, .more = more};
  int now = 0; /* which of the sums are computed; the others are due */
#ifdef __AMX_INT8__
  const int64_t chunk = chunk_of(parts, product->count);
  int64_t shaped = 0;
#endif
  /* Pairs of tiles first, then a tile, then what is left: the shape of the tiles changes once. */
  const int64_t edges[] = {0, rows / (2 * TILE) * (2 * TILE), rows / TILE * TILE, rows};
  for (int pass = 0; pass < 3; pass++)
    for (int64_t block = 0; block * BLOCK < weights->columns; block++)
      for (int64_t first = edges[pass]; first < edges[pass + 1];) {
        const int64_t left = edges[pass + 1] - first, most = pass ? TILE : 2 * TILE;
        const int64_t some = left < most ? left : most;
        const int8_t *weight = weights->weight + block * count * BLOCK;
#ifdef __AMX_INT8__
        if (some >= FEW && chunk >= 32) {
          const int64_t lines = some < TILE ? some : TILE;
          const int64_t share = (TILE * chunk + count - 1) / count; /* all that are due, over all chunks */
          if (shaped != lines) shape_tiles(shaped = lines, chunk);
          (some > TILE ? sums_of_two_tiles : sums_in_tiles)(parts, product->count, first, weight, chunk, sums[now],
                                                            &due, share);
        } else
#endif
          sums_of_few(some, parts, product->count, first, weight, sums[now]);
        finish_some(&due, due.rows);
        due.sums = (const int32_t(*)[BLOCK])sums[now], due.rows = some, due.block = block, due.first = first;
        now = !now;
        first += some;
      }
  finish_some(&due, due.rows);
#ifdef __AMX_INT8__
  if (shaped) _tile_release();
#endif
}
