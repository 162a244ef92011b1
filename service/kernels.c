/* Recurrent steps in whole numbers: what an int8 bundle's graphs compute, in one pass over the weights.
 *
 * Knows nothing of bundles, tokens' texts or scheduling. A unit is a byte: 128 means 0, 1/127 is the scale. Between
 * its layers an encoder has a finer grid, which its weights bring along.
 * Products of bytes and int8 weights are added up exactly in 32 bits, and what follows is one function for one
 * row: so no row's bits depend on how many rows there are, or on which one it is.
 *
 * Letters: R rows, K bytes of an input, U units of a layer, N outputs of a linear layer, S width of the source
 * axis, D bytes of an encoder's output. Weights lie in blocks of 64 columns: [N / 64, K / 4, 64, 4]. A block of
 * an LSTM is 16 units, 16 columns for each of the gates i, f, g, o. Arrays that belong to columns (start, scale,
 * bias, table) are in that order too. `start` takes the zero of the bytes out of the sums: minus that zero, times
 * the sum of a column.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __AVX2__
#include <immintrin.h>
#endif
#ifdef __AMX_INT8__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define LANES 16
#define VECTORS 4 /* of a block */
#define BLOCK (LANES * VECTORS)
#define LINES 6    /* rows whose sums stay in registers */
#define TILE 16    /* rows whose sums are finished together */
#define FEW 8     /* rows: fewer are not worth a tile of the processor's own */
#define CHUNK 256  /* rows for which a block of weights is read once */
#define PARTS 3
#define INLINE static inline __attribute__((always_inline))
#define ALONE static __attribute__((noinline)) /* one copy: the same instructions for every row */

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef uint8_t bytes __attribute__((vector_size(LANES)));

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
#ifdef __AVX512F__
  return (floats)_mm512_max_ps(_mm512_min_ps((__m512)x, _mm512_set1_ps(most)), _mm512_set1_ps(least));
#else
  ints above = x > most, below = x < least;
  ints bits = (above & (ints)(most - (floats){})) | (~above & (ints)x);
  return (floats)((below & (ints)(least - (floats){})) | (~below & bits));
#endif
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
#ifdef __AVX512F__
  return (floats)_mm512_scalef_ps((__m512)sum, (__m512)whole);
#else
  return sum * (floats)((__builtin_convertvector(whole, ints) + 127) << 23);
#endif
}

/* e^-x, such that a product of two and a few more still is a float. */
INLINE floats decay(floats x) { return power_of_e(clamp(-x, -27.0f, 27.0f)); }

INLINE floats over(floats x, floats y) {
#ifdef __AVX512F__ /* an estimate of 1 / y, twice refined: a fraction of a division's time */
  floats once = (floats)_mm512_rcp14_ps((__m512)y);
  once = once * (2.0f - y * once);
  return x * (once * (2.0f - y * once));
#else
  return x / y;
#endif
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

/* Adds four products to each of 16 sums: the same four bytes, times four weights of each column. */
INLINE ints add_products(ints sums, const uint8_t *four, const int8_t *weights) {
  int32_t packed;
  memcpy(&packed, four, sizeof packed);
#if defined(__AVX512VNNI__)
  __m512i columns = _mm512_loadu_si512(weights);
  return (ints)_mm512_dpbusd_epi32((__m512i)sums, _mm512_set1_epi32(packed), columns);
#elif defined(__AVX2__)
  union {
    ints whole;
    __m256i half[2];
  } all = {sums};
  __m256i repeated = _mm256_set1_epi32(packed), ones = _mm256_set1_epi16(1);
  for (int i = 0; i < 2; i++) { /* pairs fit into 16 bits: no two neighbours weigh more than 128 together */
    __m256i columns = _mm256_loadu_si256((const __m256i *)(weights + 32 * i));
    __m256i pairs = _mm256_maddubs_epi16(repeated, columns);
    all.half[i] = _mm256_add_epi32(all.half[i], _mm256_madd_epi16(pairs, ones));
  }
  return all.whole;
#else
  for (int lane = 0; lane < LANES; lane++)
    for (int i = 0; i < 4; i++) sums[lane] += (int32_t)four[i] * weights[4 * lane + i];
  return sums;
#endif
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

#ifdef __AMX_INT8__
/* A processor's own tiles: 16 rows, 64 bytes of an input at a time, 16 columns. */
typedef struct {
  uint8_t palette, start, reserved[14];
  uint16_t bytes[16];
  uint8_t rows[16];
} TileShapes;

static void shape_tiles(int64_t rows, int64_t chunk) {
  TileShapes shapes = {.palette = 1};
  for (int v = 0; v < VECTORS; v++) shapes.bytes[v] = 4 * LANES, shapes.rows[v] = (uint8_t)rows;
  shapes.bytes[4] = (uint16_t)chunk, shapes.rows[4] = (uint8_t)rows;
  for (int v = 5; v < 7; v++) shapes.bytes[v] = 4 * LANES, shapes.rows[v] = (uint8_t)(chunk / 4);
  _tile_loadconfig(&shapes);
}

static void sums_in_tiles(const Part *parts, int count, int64_t first, const int8_t *weight, int64_t chunk,
                          int32_t sums[][BLOCK]) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int part = 0; part < count; part++) {
    const int64_t stride = parts[part].stride;
    const uint8_t *from = parts[part].bytes + first * stride, *end = from + parts[part].count;
    for (; from < end; from += chunk, weight += chunk * BLOCK) {
      _tile_loadd(4, from, stride);
      _tile_loadd(5, weight, 4 * BLOCK);
      _tile_dpbusd(0, 4, 5);
      _tile_loadd(6, weight + 64, 4 * BLOCK);
      _tile_dpbusd(1, 4, 6);
      _tile_loadd(5, weight + 128, 4 * BLOCK);
      _tile_dpbusd(2, 4, 5);
      _tile_loadd(6, weight + 192, 4 * BLOCK);
      _tile_dpbusd(3, 4, 6);
    }
  }
  _tile_stored(0, &sums[0][0], 4 * BLOCK);
  _tile_stored(1, &sums[0][16], 4 * BLOCK);
  _tile_stored(2, &sums[0][32], 4 * BLOCK);
  _tile_stored(3, &sums[0][48], 4 * BLOCK);
}

/* The most bytes of an input, at most 64, that cut every part into equal chunks. */
static int64_t chunk_of(const Part *parts, int count) {
  int64_t chunk = 64;
  for (int part = 0; part < count; part++)
    while (parts[part].count % chunk) chunk -= 4;
  for (int part = 0; part < count; part++)
    if (parts[part].count % chunk) return 4;
  return chunk;
}

int64_t chairlift_prepare(void) { return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18); }
#else
int64_t chairlift_prepare(void) { return 0; }
#endif

typedef struct {
  const Part *parts;
  int count;
  const Weights *weights;
} Product;

/* What becomes of one block's sums, row by row: rows first to first + rows - 1. One loop and no second copy of it,
 * so that every row is finished by the same instructions. */
typedef void Finish(int64_t rows, const int32_t sums[][BLOCK], const Weights *weights, int64_t block,
                    int64_t first, const void *more);

/* A block of weights is read once for many rows. */
static void multiply(int64_t rows, const Product *product, Finish *finish, const void *more) {
  const Part *parts = product->parts;
  const Weights *weights = product->weights;
  const int64_t size = bytes_of(parts, product->count) * BLOCK;
  int32_t sums[TILE][BLOCK];
#ifdef __AMX_INT8__
  const int64_t chunk = chunk_of(parts, product->count);
  int64_t shaped = 0;
#endif
  const int64_t edges[] = {0, rows / TILE * TILE, rows}; /* whole tiles first: their shape changes once */
  for (int pass = 0; pass < 2; pass++)
    for (int64_t block = 0; block * BLOCK < weights->columns; block++)
      for (int64_t first = edges[pass]; first < edges[pass + 1]; first += TILE) {
        const int64_t left = edges[pass + 1] - first, some = left < TILE ? left : TILE;
        const int8_t *weight = weights->weight + block * size;
#ifdef __AMX_INT8__
        if (some >= FEW && chunk >= 32) {
          if (shaped != some) shape_tiles(shaped = some, chunk);
          sums_in_tiles(parts, product->count, first, weight, chunk, sums);
        } else
#endif
          sums_of_few(some, parts, product->count, first, weight, sums);
        finish(some, (const int32_t(*)[BLOCK])sums, weights, block, first, more);
      }
#ifdef __AMX_INT8__
  if (shaped) _tile_release();
#endif
}

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

/* One encoder layer in one direction. */
typedef struct {
  Weights read; /* of the layer below; without weights, `table` [tokens, 4U] holds what each token adds */
  Weights back;
  const float *table;
  int64_t units;
  int64_t backwards;
  Grid grid; /* of its hidden states */
} Direction;

/* The whole encoder. Letters: B sources, S tokens of the longest, D bytes of an output, H of the decoder. */
typedef struct {
  int64_t layers, ways, units; /* U of one direction; D is ways * U */
  const Direction *directions; /* [layers, ways] */
  int64_t bridges, hidden;     /* layers of the decoder; H */
  const Weights *first_hidden; /* [bridges] */
  const Weights *first_cell;   /* [bridges, 2]: of a coarse byte, and of a fine one */
  Grid coarse, fine;
  int64_t attends;
  const Weights *keys; /* or NULL: the outputs themselves */
} Encoder;

/* One run, the longest source first. What becomes of source b goes to row rows[b] of the decoder's arrays. */
typedef struct {
  int64_t sources, width;
  const int64_t *lengths; /* [B], falling */
  const int64_t *ids;     /* [B, S] */
  const int64_t *rows;    /* [B] */
  uint8_t *const *hidden; /* [bridges] of [R, H] */
  float *const *cells;    /* [bridges] of [R, H] */
  float *keys, *values;   /* [R, memory width, H] and [.., D + 1], the last column 1 at a source's own tokens */
  int64_t memory_width;
  float *floats;  /* to work in: B * S * (4U + D + H) + B * (2 * layers * D + U + H) */
  uint8_t *bytes; /* to work in: 3 * B * S * D + B * (2U + 2D) */
} Run;

/* One direction of one layer; `input` [B, S, D] or NULL, `output` likewise, `exact` the same in float. */
static void encode_layer(const Encoder *encoder, const Direction *way, const Run *run, const uint8_t *input,
                         uint8_t *output, float *exact, float *hidden, float *cell, float *drive, float *cells,
                         uint8_t *states) {
  const int64_t units = encoder->units, size = encoder->ways * units, first_unit = way->backwards * units;
  const int64_t sources = run->sources;
  if (input) {
    Part read = {input, size, size};
    linear(sources * run->width, &read, 1, &way->read, drive, 4 * units, 0);
  }
  memset(states, way->grid.zero, 2 * sources * units);
  memset(cells, 0, sources * units * sizeof(float));
  int64_t inside = sources;
  for (int64_t time = 0; time < run->lengths[0]; time++) {
    uint8_t *now = states + (time & 1) * sources * units, *next = states + (~time & 1) * sources * units;
    while (run->lengths[inside - 1] <= time) inside--;
    for (int64_t first = 0; first < inside; first += CHUNK) {
      Place places[CHUNK];
      const int64_t rows = inside - first < CHUNK ? inside - first : CHUNK;
      for (int64_t row = 0; row < rows; row++) {
        const int64_t source = first + row;
        const int64_t at = source * run->width + (way->backwards ? run->lengths[source] - 1 - time : time);
        places[row] = (Place){
            .add = input ? drive + at * 4 * units : way->table + run->ids[at] * 4 * units,
            .cell = cells + source * units,
            .next_cell = cells + source * units,
            .hidden = next + source * units,
            .output = output ? output + at * size + first_unit : NULL,
            .exact = exact ? exact + at * size + first_unit : NULL,
            .last = hidden + source * size + first_unit,
        };
      }
      Part back = {now + first * units, units, units};
      lstm(rows, &back, 1, &way->back, places, way->grid);
    }
  }
  for (int64_t source = 0; source < sources; source++)
    memcpy(cell + source * size + first_unit, cells + source * units, units * sizeof(float));
}

/* A layer's last h and c [B, D] -> h and c of a layer of the decoder. A c is read in two bytes. */
static void cross_bridge(const Encoder *encoder, const Run *run, int64_t bridge, const float *hidden,
                         const float *cell, float *sums, uint8_t *high, uint8_t *low) {
  const int64_t size = encoder->ways * encoder->units, all = run->sources * size, units = encoder->hidden;
  for (int64_t i = 0; i < all; i += LANES) store_bytes(high + i, load(hidden + i), UNIT);
  Part part = {high, size, size};
  linear(run->sources, &part, 1, encoder->first_hidden + bridge, sums, units, 0);
  for (int64_t source = 0; source < run->sources; source++)
    squash(sums + source * units, run->hidden[bridge] + run->rows[source] * units, units);
  for (int64_t i = 0; i < all; i += LANES) {
    floats exact = load(cell + i);
    store_bytes(high + i, exact, encoder->coarse);
    bytes coarse;
    memcpy(&coarse, high + i, sizeof coarse);
    floats told = __builtin_convertvector(__builtin_convertvector(coarse, ints) - encoder->coarse.zero, floats);
    store_bytes(low + i, exact - told / encoder->coarse.factor, encoder->fine);
  }
  linear(run->sources, &part, 1, encoder->first_cell + 2 * bridge, sums, units, 0);
  part.bytes = low;
  linear(run->sources, &part, 1, encoder->first_cell + 2 * bridge + 1, sums, units, 1);
  for (int64_t source = 0; source < run->sources; source++)
    memcpy(run->cells[bridge] + run->rows[source] * units, sums + source * units, units * sizeof(float));
}

/* The last layer's outputs [B, S, D] -> what every step looks back on. */
static void remember(const Encoder *encoder, const Run *run, const float *exact, float *keys, uint8_t *units) {
  const int64_t size = encoder->ways * encoder->units, places = run->sources * run->width;
  if (encoder->keys) {
    for (int64_t i = 0; i < places * size; i += LANES) store_bytes(units + i, load(exact + i), UNIT);
    Part part = {units, size, size};
    linear(places, &part, 1, encoder->keys, keys, encoder->hidden, 0);
  }
  for (int64_t source = 0; source < run->sources; source++)
    for (int64_t at = 0; at < run->lengths[source]; at++) {
      const int64_t from = source * run->width + at, to = run->rows[source] * run->memory_width + at;
      float *value = run->values + to * (size + 1);
      memcpy(value, exact + from * size, size * sizeof(float));
      value[size] = 1;
      memcpy(run->keys + to * encoder->hidden, (encoder->keys ? keys : exact) + from * encoder->hidden,
             encoder->hidden * sizeof(float));
    }
}

void chairlift_encode(const Encoder *encoder, const Run *run) {
  const int64_t size = encoder->ways * encoder->units, places = run->sources * run->width;
  float *drive = run->floats, *exact = drive + places * 4 * encoder->units, *keys = exact + places * size;
  float *cells = keys + places * encoder->hidden, *sums = cells + run->sources * encoder->units;
  float *ends = sums + run->sources * encoder->hidden; /* [layers, 2, B, D] */
  uint8_t *outputs[2] = {run->bytes, run->bytes + places * size};
  uint8_t *units = outputs[1] + places * size, *states = units + places * size;
  uint8_t *high = states + 2 * run->sources * encoder->units, *low = high + run->sources * size;
  const uint8_t *input = NULL;
  for (int64_t layer = 0; layer < encoder->layers; layer++) {
    const int last = layer == encoder->layers - 1;
    float *hidden = ends + layer * 2 * run->sources * size, *cell = hidden + run->sources * size;
    uint8_t *output = last ? NULL : outputs[layer & 1];
    for (int64_t way = 0; way < encoder->ways; way++)
      encode_layer(encoder, encoder->directions + layer * encoder->ways + way, run, input, output,
                   last && encoder->attends ? exact : NULL, hidden, cell, drive, cells, states);
    input = output;
  }
  for (int64_t bridge = 0; bridge < encoder->bridges; bridge++) {
    const int64_t layer = bridge < encoder->layers ? bridge : encoder->layers - 1;
    const float *hidden = ends + layer * 2 * run->sources * size;
    cross_bridge(encoder, run, bridge, hidden, hidden + run->sources * size, sums, high, low);
  }
  if (encoder->attends) remember(encoder, run, exact, keys, units);
}

/* What a decoder step does, one after the other, each for all rows. */
enum { LSTM, LINEAR, ATTEND, SELECT };

typedef struct {
  int64_t kind;
  int64_t parts;
  Part part[PARTS];
  Weights weights;
  /* LSTM */
  int64_t units;
  const float *table;   /* [tokens, 4U], in place of weights.bias */
  const int64_t *token; /* [R] */
  const float *cell;
  float *next_cell;
  uint8_t *hidden; /* [R, U] */
  float *exact;    /* [R, U] or NULL */
  /* LINEAR: float [R, stride], and its tanh as units in `hidden`, or NULL */
  float *out;
  int64_t stride;
  /* ATTEND: the query is `exact` of an LSTM; context in `hidden` [R, size] */
  const float *query;     /* [R, U] */
  const float *keys;      /* [R, S, U] */
  const float *values;    /* [R, S, size + 1] */
  const int64_t *lengths; /* [R] */
  float *alignments;      /* [R, S] */
  int64_t width, size;
  /* SELECT among the first `size` of `out` */
  int64_t *next_token;
  float *next_score, *largest, *log_sum; /* [R] each */
} Operation;

static void step_lstm(const Operation *op, int64_t first, int64_t rows) {
  Part parts[PARTS];
  Place places[CHUNK];
  const int64_t units = op->units;
  for (int part = 0; part < op->parts; part++) {
    parts[part] = op->part[part];
    parts[part].bytes += first * parts[part].stride;
  }
  for (int64_t row = 0; row < rows; row++) {
    const int64_t at = (first + row) * units;
    places[row] = (Place){
        op->table ? op->table + op->token[first + row] * 4 * units : op->weights.bias,
        op->cell + at,
        op->next_cell + at,
        op->hidden + at,
        NULL,
        op->exact ? op->exact + at : NULL,
        NULL,
    };
  }
  lstm(rows, parts, (int)op->parts, &op->weights, places, UNIT);
}

static void step_linear(const Operation *op, int64_t first, int64_t rows) {
  Part parts[PARTS];
  for (int part = 0; part < op->parts; part++) {
    parts[part] = op->part[part];
    parts[part].bytes += first * parts[part].stride;
  }
  float *out = op->out + first * op->stride;
  linear(rows, parts, (int)op->parts, &op->weights, out, op->stride, 0);
  if (op->hidden)
    for (int64_t row = 0; row < rows; row++)
      squash(out + row * op->stride, op->hidden + (first + row) * op->weights.columns, op->weights.columns);
}

/* One row: softmax(keys . query) over the source's own tokens; what it weighs of the values, as units. */
ALONE void attend(const Operation *op, int64_t row) {
  const int64_t units = op->units, size = op->size, length = op->lengths[row];
  const float *query = op->query + row * units, *keys = op->keys + row * op->width * units;
  const float *values = op->values + row * op->width * (size + 1);
  float *weights = op->alignments + row * op->width, largest = -INFINITY, total = 0;
  for (int64_t at = 0; at < length; at++) {
    floats sums = {};
    float sum = 0;
    for (int64_t i = 0; i < units; i += LANES) sums += load(query + i) * load(keys + at * units + i);
    for (int lane = 0; lane < LANES; lane++) sum += sums[lane];
    weights[at] = sum;
    if (sum > largest) largest = sum;
  }
  for (int64_t at = 0; at < length; at++) total += weights[at] = expf(weights[at] - largest);
  for (int64_t at = 0; at < length; at++) weights[at] /= total;
  memset(weights + length, 0, (op->width - length) * sizeof(float));
  for (int64_t i = 0; i < size; i += LANES) {
    floats sums = {};
    for (int64_t at = 0; at < length; at++) sums += weights[at] * load(values + at * (size + 1) + i);
    store_bytes(op->hidden + row * size + i, sums, UNIT);
  }
}

/* One row: the best token, the lowest on a tie, and its natural-log probability. */
ALONE void select_one(const Operation *op, int64_t row) {
  const float *logits = op->out + row * op->stride;
  int64_t best = 0;
  float sum = 0;
  for (int64_t token = 1; token < op->size; token++)
    if (logits[token] > logits[best]) best = token;
  for (int64_t from = 0; from < op->size; from += LANES) {
    floats powers = power_of_e(clamp(load(logits + from) - logits[best], -40.0f, 0.0f));
    const int64_t lanes = op->size - from < LANES ? op->size - from : LANES;
    for (int64_t lane = 0; lane < lanes; lane++) sum += powers[lane];
  }
  op->next_token[row] = best;
  op->largest[row] = logits[best];
  op->log_sum[row] = logf(sum);
  op->next_score[row] = -op->log_sum[row];
}

/* Rows first..first + rows - 1 through all operations. */
void chairlift_step(const Operation *operations, int64_t count, int64_t first, int64_t rows) {
  for (int64_t from = first; from < first + rows; from += CHUNK) {
    const int64_t some = first + rows - from < CHUNK ? first + rows - from : CHUNK;
    for (const Operation *op = operations; op < operations + count; op++) switch (op->kind) {
        case LSTM: step_lstm(op, from, some); break;
        case LINEAR: step_linear(op, from, some); break;
        case ATTEND:
          for (int64_t row = from; row < from + some; row++) attend(op, row);
          break;
        case SELECT:
          for (int64_t row = from; row < from + some; row++) select_one(op, row);
      }
  }
}

/* What the last step said of some rows: every log-probability [M, size], and the best of each [M, best]. */
void chairlift_distributions(const Operation *op, const int64_t *rows, int64_t count, int64_t best,
                             float *log_probs, int64_t *top_tokens, float *top_scores) {
  for (int64_t i = 0; i < count; i++) {
    const float *logits = op->out + rows[i] * op->stride;
    float *scores = log_probs + i * op->size, *top = top_scores + i * best;
    int64_t *tokens = top_tokens + i * best, held = 0;
    for (int64_t token = 0; token < op->size; token++) {
      const float score = scores[token] = (logits[token] - op->largest[rows[i]]) - op->log_sum[rows[i]];
      if (held == best && !(score > top[best - 1])) continue;
      int64_t place = held < best ? held++ : best - 1;
      for (; place > 0 && score > top[place - 1]; place--) {
        top[place] = top[place - 1];
        tokens[place] = tokens[place - 1];
      }
      top[place] = score;
      tokens[place] = token;
    }
  }
}
