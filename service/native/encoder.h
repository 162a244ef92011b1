/* An encoder run: every layer over every token, and what leads from there to the decoder. */
#pragma once

#include "layers.h"

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
  int64_t lowest;              /* the layer that starts the decoder's first; the next one its second; .. */
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

/* One direction of one layer; `input` [T, D] or NULL, `output` likewise, `exact` the same in float. T: the tokens
 * of all sources, the first ones of each, then the second ones; those at place s begin at starts[s]. */
static void encode_layer(const Encoder *encoder, const Direction *way, const Run *run, const int64_t *starts,
                         const uint8_t *input, uint8_t *output, float *exact, float *hidden, float *cell,
                         float *drive, float *cells, uint8_t *states) {
  const int64_t units = encoder->units, size = encoder->ways * units, first_unit = way->backwards * units;
  const int64_t sources = run->sources;
  if (input) {
    Part read = {input, size, size};
    linear(starts[run->width], &read, 1, &way->read, drive, 4 * units, 0);
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
        const int64_t place = way->backwards ? run->lengths[source] - 1 - time : time;
        const int64_t at = starts[place] + source, id = run->ids[source * run->width + place];
        places[row] = (Place){
            .add = input ? drive + at * 4 * units : way->table + id * 4 * units,
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

/* The last layer's outputs [T, D] -> what every step looks back on. */
static void remember(const Encoder *encoder, const Run *run, const int64_t *starts, const float *exact,
                     float *keys, uint8_t *units) {
  const int64_t size = encoder->ways * encoder->units, tokens = starts[run->width];
  if (encoder->keys) {
    for (int64_t i = 0; i < tokens * size; i += LANES) store_bytes(units + i, load(exact + i), UNIT);
    Part part = {units, size, size};
    linear(tokens, &part, 1, encoder->keys, keys, encoder->hidden, 0);
  }
  for (int64_t source = 0; source < run->sources; source++)
    for (int64_t at = 0; at < run->lengths[source]; at++) {
      const int64_t from = starts[at] + source, to = run->rows[source] * run->memory_width + at;
      float *value = run->values + to * (size + 1);
      memcpy(value, exact + from * size, size * sizeof(float));
      value[size] = 1;
      memcpy(run->keys + to * encoder->hidden, (encoder->keys ? keys : exact) + from * encoder->hidden,
             encoder->hidden * sizeof(float));
    }
}

void chairlift_encode(const Encoder *encoder, const Run *run) {
  const unsigned before = flush_denormals();
  const int64_t size = encoder->ways * encoder->units, places = run->sources * run->width;
  float *drive = run->floats, *exact = drive + places * 4 * encoder->units, *keys = exact + places * size;
  float *cells = keys + places * encoder->hidden, *sums = cells + run->sources * encoder->units;
  float *ends = sums + run->sources * encoder->hidden; /* [layers, 2, B, D] */
  uint8_t *outputs[2] = {run->bytes, run->bytes + places * size};
  uint8_t *units = outputs[1] + places * size, *states = units + places * size;
  uint8_t *high = states + 2 * run->sources * encoder->units, *low = high + run->sources * size;
  int64_t starts[run->width + 1], reading = run->sources;
  starts[0] = 0;
  for (int64_t place = 0; place < run->width; place++) {
    while (run->lengths[reading - 1] <= place) reading--;
    starts[place + 1] = starts[place] + reading;
  }
  const uint8_t *input = NULL;
  for (int64_t layer = 0; layer < encoder->layers; layer++) {
    const int last = layer == encoder->layers - 1;
    float *hidden = ends + layer * 2 * run->sources * size, *cell = hidden + run->sources * size;
    uint8_t *output = last ? NULL : outputs[layer & 1];
    for (int64_t way = 0; way < encoder->ways; way++)
      encode_layer(encoder, encoder->directions + layer * encoder->ways + way, run, starts, input, output,
                   last && encoder->attends ? exact : NULL, hidden, cell, drive, cells, states);
    input = output;
  }
  for (int64_t bridge = 0; bridge < encoder->bridges; bridge++) {
    const int64_t next = bridge + encoder->lowest;
    const int64_t layer = next < encoder->layers ? next : encoder->layers - 1;
    const float *hidden = ends + layer * 2 * run->sources * size;
    cross_bridge(encoder, run, bridge, hidden, hidden + run->sources * size, sums, high, low);
  }
  if (encoder->attends) remember(encoder, run, starts, exact, keys, units);
  _mm_setcsr(before);
}
