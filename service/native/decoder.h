/* A decoder step: cells, attention, scores, and the choice of the next token. */
#pragma once

#include "layers.h"

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
  /* SELECT among the first `size` of `out`, [R] each; `barred`: a token that may not be chosen, or -1 */
  int64_t *next_token;
  float *next_score, *largest, *log_sum;
  const int64_t *barred;
} Operation;

/* An operation's inputs from a row on. */
static void parts_from(const Operation *op, int64_t first, Part *parts) {
  for (int part = 0; part < op->parts; part++) {
    parts[part] = op->part[part];
    parts[part].bytes += first * parts[part].stride;
  }
}

static void step_lstm(const Operation *op, int64_t first, int64_t rows) {
  Part parts[PARTS];
  Place places[CHUNK];
  const int64_t units = op->units;
  parts_from(op, first, parts);
  for (int64_t row = 0; row < rows; row++) {
    const int64_t at = (first + row) * units;
    places[row] = (Place){
        .add = op->table ? op->table + op->token[first + row] * 4 * units : op->weights.bias,
        .cell = op->cell + at,
        .next_cell = op->next_cell + at,
        .hidden = op->hidden + at,
        .exact = op->exact ? op->exact + at : NULL,
    };
  }
  lstm(rows, parts, (int)op->parts, &op->weights, places, UNIT);
}

static void step_linear(const Operation *op, int64_t first, int64_t rows) {
  Part parts[PARTS];
  parts_from(op, first, parts);
  float *out = op->out + first * op->stride;
  linear(rows, parts, (int)op->parts, &op->weights, out, op->stride, 0);
  if (op->hidden)
    for (int64_t row = 0; row < rows; row++)
      squash(out + row * op->stride, op->hidden + (first + row) * op->weights.columns, op->weights.columns);
}

#define BESIDE 4 /* sums at a time, so that each need not wait for its own last addition */

/* What some keys, one after the other, have in common with a query. */
INLINE void match(const float *query, const float *keys, int64_t units, float *scores) {
  floats sums[BESIDE] = {};
  for (int64_t i = 0; i < units; i += LANES) {
    const floats part = load(query + i);
    for (int key = 0; key < BESIDE; key++) sums[key] += part * load(keys + key * units + i);
  }
  for (int key = 0; key < BESIDE; key++) scores[key] = sum_of(sums[key]);
}

/* `count` vectors of what a row's weights make of its values, as units. */
INLINE void blend(int count, const float *weights, int64_t length, const float *values, int64_t stride,
                  uint8_t *units) {
  floats sums[BESIDE] = {};
  for (int64_t at = 0; at < length; at++)
    for (int i = 0; i < count; i++) sums[i] += weights[at] * load(values + at * stride + i * LANES);
  for (int i = 0; i < count; i++) store_bytes(units + i * LANES, sums[i], UNIT);
}

/* One row: softmax(keys . query) over the source's own tokens; what it weighs of the values, as units. */
ALONE void attend(const Operation *op, int64_t row) {
  const int64_t units = op->units, size = op->size, stride = size + 1, held = op->lengths[row];
  const int64_t length = held < op->width ? held : op->width; /* a row that nobody has may have held more */
  const float *query = op->query + row * units, *keys = op->keys + row * op->width * units;
  const float *values = op->values + row * op->width * stride;
  float *weights = op->alignments + row * op->width, largest = -INFINITY, total = 0;
  uint8_t *context = op->hidden + row * size;
  for (int64_t at = 0; at < length; at += BESIDE) match(query, keys + at * units, units, weights + at);
  for (int64_t at = 0; at < length; at++) largest = weights[at] > largest ? weights[at] : largest;
  for (int64_t at = 0; at < length; at++) total += weights[at] = expf(weights[at] - largest);
  for (int64_t at = 0; at < length; at++) weights[at] /= total;
  memset(weights + length, 0, (op->width - length) * sizeof(float));
  int64_t i = 0;
  for (; i + BESIDE * LANES <= size; i += BESIDE * LANES)
    blend(BESIDE, weights, length, values + i, stride, context + i);
  for (; i < size; i += LANES) blend(1, weights, length, values + i, stride, context + i);
}

/* The token with the largest logit but for one, the lowest on a tie. */
static int64_t best_but(int64_t barred, const float *logits, int64_t size) {
  int64_t best = barred == 0;
  for (int64_t token = best + 1; token < size; token++)
    if (logits[token] > logits[best] && token != barred) best = token;
  return best;
}

/* One row: the best token that may be chosen, and its natural-log probability. */
ALONE void select_one(const Operation *op, int64_t row) {
  const float *logits = op->out + row * op->stride;
  const int64_t best = best_but(-1, logits, op->size);
  float sum = 0;
  for (int64_t from = 0; from < op->size; from += LANES) {
    floats powers = decay(logits[best] - load(logits + from));
    const int64_t lanes = op->size - from < LANES ? op->size - from : LANES;
    for (int64_t lane = 0; lane < lanes; lane++) sum += powers[lane];
  }
  const int64_t chosen = best == op->barred[row] ? best_but(best, logits, op->size) : best;
  op->next_token[row] = chosen;
  op->largest[row] = logits[best];
  op->log_sum[row] = logf(sum);
  op->next_score[row] = (logits[chosen] - logits[best]) - op->log_sum[row];
}

/* Rows first..first + rows - 1 through all operations. */
void chairlift_step(const Operation *operations, int64_t count, int64_t first, int64_t rows) {
  const unsigned before = flush_denormals();
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
  _mm_setcsr(before);
}

/* Rows 0..rows - 1 through up to `most` steps, by `even` and `odd` operations in turn, until one says `end`. Returns
 * how many steps that took; what each said goes to tokens and scores [most, rows]. */
int64_t chairlift_steps(const Operation *even, const Operation *odd, int64_t count, int64_t rows, int64_t most,
                        int64_t end, int64_t *tokens, float *scores) {
  for (int64_t step = 0; step < most; step++, tokens += rows, scores += rows) {
    const Operation *operations = step % 2 ? odd : even, *select = operations + count - 1;
    chairlift_step(operations, count, 0, rows);
    memcpy(tokens, select->next_token, rows * sizeof *tokens);
    memcpy(scores, select->next_score, rows * sizeof *scores);
    for (int64_t row = 0; row < rows; row++)
      if (tokens[row] == end) return step + 1;
  }
  return most;
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
