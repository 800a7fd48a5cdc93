// One window through a transformer block, forwards: everything stays in the cache.
//
// Arrays are [channel][token], so that LayerNorm and softmax work on whole vectors of tokens whatever the head dimension
// is. Scores are [key][query].

#pragma once

#include "pack.h"

namespace swinlet {

constexpr float kAll = 1.0f;  // of a branch, without drop-path

// Where the tokens of a window lie in the image.
struct Place {
  Place(const Geometry& g, int64_t index) {
    const int across = static_cast<int>(index % g.windows_across);
    const int down = static_cast<int>(index / g.windows_across % g.windows_down);
    image = index / (static_cast<int64_t>(g.windows_across) * g.windows_down);
    if (g.shape.shift > 0)
      border = (across == g.windows_across - 1 ? kRight : 0) | (down == g.windows_down - 1 ? kBottom : 0);
    int64_t* token = tokens;
    for (int i = 0; i < g.shape.window; ++i) {
      int64_t y = static_cast<int64_t>(down) * g.shape.window + g.shape.shift + i;
      if (y >= g.shape.height) y -= g.shape.height;
      for (int j = 0; j < g.shape.window; ++j) {
        int64_t x = static_cast<int64_t>(across) * g.shape.window + g.shape.shift + j;
        if (x >= g.shape.width) x -= g.shape.width;
        *token++ = (image * g.shape.height + y) * g.shape.width + x;
      }
    }
  }
  int64_t tokens[kLargestWindow * kLargestWindow];  // rows of x
  int64_t image;
  int border = kInterior;
};

// kLanes tokens, of which ``valid`` are there, into columns of [channel][token]; the others are zero.
template <class Valid>
INLINE void gather_lanes(const Geometry& g, const float* const* rows, Valid valid, float* window) {
  int channel = 0;
  for (; channel + kLanes <= g.channels; channel += kLanes) {
    Vector square[kLanes];
    for (int i = 0; i < kLanes; ++i) square[i] = i < valid ? load(rows[i] + channel) : Vector{};
    transpose(square);
    for (int i = 0; i < kLanes; ++i) store(window + (channel + i) * g.columns, square[i]);
  }
  for (; channel < g.channels; ++channel)
    for (int i = 0; i < kLanes; ++i) window[channel * g.columns + i] = i < valid ? rows[i][channel] : 0.0f;
}

template <class Valid>
INLINE void scatter_lanes(const Geometry& g, const float* window, Valid valid, float* const* rows) {
  int channel = 0;
  for (; channel + kLanes <= g.channels; channel += kLanes) {
    Vector square[kLanes];
    for (int i = 0; i < kLanes; ++i) square[i] = load(window + (channel + i) * g.columns);
    transpose(square);
    for (int i = 0; i < valid; ++i) store(rows[i] + channel, square[i]);
  }
  for (; channel < g.channels; ++channel)
    for (int i = 0; i < valid; ++i) rows[i][channel] = window[channel * g.columns + i];
}

// The window's tokens out of x (token after token) into [channel][token].
inline void gather(const Geometry& g, const Place& place, const float* x, float* window) {
  for (int first = 0; first < g.tokens; first += kLanes) {
    const float* rows[kLanes];
    const int valid = g.tokens - first < kLanes ? g.tokens - first : kLanes;
    for (int i = 0; i < valid; ++i) rows[i] = x + place.tokens[first + i] * g.channels;
    if (valid == kLanes)
      gather_lanes(g, rows, std::integral_constant<int, kLanes>(), window + first);
    else
      gather_lanes(g, rows, valid, window + first);
  }
}

// The inverse of gather.
inline void scatter(const Geometry& g, const Place& place, const float* window, float* y) {
  for (int first = 0; first < g.tokens; first += kLanes) {
    float* rows[kLanes];
    const int valid = g.tokens - first < kLanes ? g.tokens - first : kLanes;
    for (int i = 0; i < valid; ++i) rows[i] = y + place.tokens[first + i] * g.channels;
    if (valid == kLanes)
      scatter_lanes(g, window + first, std::integral_constant<int, kLanes>(), rows);
    else
      scatter_lanes(g, window + first, valid, rows);
  }
}

// (x - mean) / sqrt(variance + 1e-5) of each token over the channels, as the right operand of a product, and
// 1 / sqrt(...) where deviation is not null.
template <class Element>
void normalise(const Geometry& g, const float* source, Element* target, float* deviation = nullptr) {
  each_columns(g.columns, [&](int column, auto vectors) {
    const float* x = source + column;
    Vector mean[vectors] = {}, variance[vectors] = {}, inverse[vectors];
    for (int c = 0; c < g.channels; ++c)
      for (int j = 0; j < vectors; ++j) mean[j] += load(x + c * g.columns + j * kLanes);
    for (int j = 0; j < vectors; ++j) mean[j] /= all(static_cast<float>(g.channels));
    for (int c = 0; c < g.channels; ++c)
      for (int j = 0; j < vectors; ++j) {
        const Vector d = load(x + c * g.columns + j * kLanes) - mean[j];
        variance[j] += d * d;
      }
    for (int j = 0; j < vectors; ++j) {
      inverse[j] = all(1.0f) / square_root(variance[j] / all(static_cast<float>(g.channels)) + all(1e-5f));
      if (deviation != nullptr) store(deviation + column + j * kLanes, inverse[j]);
    }
    write_columns<vectors>(g.channels, target + column, g.columns, [&](int c, int j) {
      return (load(x + c * g.columns + j * kLanes) - mean[j]) * inverse[j];
    });
  });
}

// Scores in powers of two -> 2**(score - largest) as the right operand of a product (which may lie where the scores do),
// and one over their sum over the keys.
template <class Element>
void softmax(const float* scores, std::ptrdiff_t stride, int keys, int columns, Element* target, float* inverse) {
  each_columns(columns, [&](int column, auto vectors) {
    const float* x = scores + column;
    Vector largest[vectors], total[vectors] = {};
    for (int j = 0; j < vectors; ++j) largest[j] = load(x + j * kLanes);
    for (int key = 1; key < keys; ++key)
      for (int j = 0; j < vectors; ++j) largest[j] = maximum(load(x + key * stride + j * kLanes), largest[j]);
    write_columns<vectors>(keys, target + column, stride, [&](int key, int j) {
      constexpr bool kHalf = !std::is_same_v<Element, float>;
      const Vector e = exp2_of_negative<kHalf>(load(x + key * stride + j * kLanes) - largest[j]);
      total[j] += e;
      return e;
    });
    for (int j = 0; j < vectors; ++j) store(inverse + column + j * kLanes, all(1.0f) / total[j]);
  });
}

// Scores of some queries against all keys, with bias and mask; q and k are the operands of one head.
template <class Element>
void score(const Geometry& g, int border, const float* bias, const float* masks, const Element* q, const Element* k,
           int depth, int columns, float* scores, std::ptrdiff_t stride) {
  product(g.tokens, columns, depth, Columns<Element>{k, g.columns}, q, g.columns,
          Floats<WithMatrix>{scores, stride, {bias, g.columns}});
  if (border == kInterior) return;
  const float* mask = masks + static_cast<std::ptrdiff_t>(border - 1) * g.tokens * g.columns;
  for (int key = 0; key < g.tokens; ++key)
    for (int column = 0; column < columns; column += kLanes)
      store(scores + key * stride + column,
            load(scores + key * stride + column) + load(mask + key * g.columns + column));
}

template <bool kHalf>
class ForwardWindow {
  using Element = typename Format<kHalf>::Element;
  static constexpr int kStep = Format<kHalf>::kStep;

 public:
  static constexpr int kQueries = kTileVectors * kLanes;  // whose scores are in the fastest cache together

  ForwardWindow(const Geometry& g, Pieces& pieces)
      : x(pieces.take(g.channels * g.columns)),
        input(pieces.take(g.shape.again ? g.channels * g.columns : 0)),
        scores(pieces.take(g.tokens * kQueries)),
        inverse(pieces.take(kQueries)),
        normal(operand(pieces, g.channels, g.columns)),
        qk(operand(pieces, 2 * g.channels, g.columns)),
        v(operand(pieces, g.channels, g.columns)),
        weights(operand(pieces, g.tokens, kQueries)),
        mixed(operand(pieces, g.channels, g.columns)),
        hidden(operand(pieces, g.hidden, g.columns)) {}

  void run(const Geometry& g, const PackedWeights<kHalf>& w, int64_t index, const float* from, float* to,
           const float* keep1, const float* keep2) const {
    const Place place(g, index);
    const int c = g.channels, columns = g.columns;
    gather(g, place, from, x);
    if (g.shape.again) std::memcpy(input, x, sizeof(float) * c * columns);

    normalise(g, x, normal);
    multiply(g, 2 * c, c, w.qk, normal, right_operand(qk, columns, WithRowBias{w.qkv_bias}));
    multiply(g, c, c, w.v, normal, left_operand(v, columns, WithRowBias{w.qkv_bias + 2 * c}));
    for (int head = 0; head < g.heads; ++head) attend(g, w, place.border, head);
    multiply(g, c, c, w.proj, mixed, onto_x(columns, w.proj_bias, keep1 == nullptr ? &kAll : keep1 + place.image));

    normalise(g, x, normal);
    multiply(g, g.hidden, c, w.fc1, normal, right_operand(hidden, columns, GeluWithRowBias<kHalf>{w.fc1_bias}));
    multiply(g, c, g.hidden, w.fc2, hidden,
             onto_x(columns, w.fc2_bias, keep2 == nullptr ? &kAll : keep2 + place.image));

    if (g.shape.again)
      for (int i = 0; i < c * columns; i += kLanes) store(x + i, load(x + i) + load(input + i));
    scatter(g, place, x, to);
  }

 private:
  static Element* operand(Pieces& pieces, int rows, int columns) {
    return reinterpret_cast<Element*>(pieces.take(static_cast<std::ptrdiff_t>(round_up(rows, kStep)) / kStep * columns));
  }

  Floats<Branch> onto_x(int columns, const float* bias, const float* scale) const {
    return {x, columns, {x, columns, bias, scale}};
  }

  template <class Finish>
  static void multiply(const Geometry& g, int rows, int depth, const Element* matrix, const Element* source,
                       const Finish& finish) {
    const int k = PackedWeights<kHalf>::depth_of(depth);
    product(rows, g.columns, k, Packed<Element>{matrix, k}, source, g.columns, finish);
  }

  // A head's rows are a whole number of operands: its dimension is even where they are pairs.
  void attend(const Geometry& g, const PackedWeights<kHalf>& w, int border, int head) const {
    const int columns = g.columns, d = g.head_dim;
    const std::ptrdiff_t first = static_cast<std::ptrdiff_t>(head) * d * columns / kStep;
    const Element* keys = qk + static_cast<std::ptrdiff_t>(g.channels) * columns / kStep + first;
    const float* bias = w.bias + static_cast<std::ptrdiff_t>(head) * g.tokens * columns;
    for (int column = 0; column < columns; column += kQueries) {
      const int width = columns - column < kQueries ? columns - column : kQueries;
      const float* mask = w.masks == nullptr ? nullptr : w.masks + column;
      score(g, border, bias + column, mask, qk + first + column, keys, w.depth_of(d), width, scores, kQueries);
      softmax(scores, kQueries, g.tokens, width, weights, inverse);
      product(d, width, w.depth_of(g.tokens), Rows<Element>{v + first, columns / kStep}, weights, kQueries,
              right_operand(mixed + first + column, columns, Scaled{inverse}));
    }
  }

  float *x, *input, *scores, *inverse;
  Element *normal, *qk, *v, *weights, *mixed, *hidden;
};

// Calls run(window, index) for the windows of one part; the thread's intermediate results lie in the same memory from call
// to call.
template <class Window, class Run>
void each_window(const Geometry& g, int64_t part, int64_t parts, const Run& run) {
  thread_local Block block;
  Pieces counted(nullptr);
  const Window unplaced(g, counted);
  Pieces pieces(block.at_least(counted.used()));
  const Window window(g, pieces);
  const int64_t end = g.windows * (part + 1) / parts;
  for (int64_t index = g.windows * part / parts; index < end; ++index) run(window, index);
}

}  // namespace swinlet
