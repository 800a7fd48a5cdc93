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
    left = static_cast<int64_t>(across) * g.shape.window + g.shape.shift;
    top = static_cast<int64_t>(down) * g.shape.window + g.shape.shift;
    if (g.shape.shift > 0)
      border = (across == g.windows_across - 1 ? kRight : 0) | (down == g.windows_down - 1 ? kBottom : 0);
  }
  int64_t token(const Geometry& g, int index) const {
    const int64_t y = (top + index / g.shape.window) % g.shape.height;
    const int64_t x = (left + index % g.shape.window) % g.shape.width;
    return (image * g.shape.height + y) * g.shape.width + x;
  }
  int64_t image, left, top;
  int border = kInterior;
};

// The window's tokens out of x (token after token) into [channel][token]; padded tokens are zero.
inline void gather(const Geometry& g, const Place& place, const float* x, float* window) {
  for (int first = 0; first < g.columns; first += kLanes) {
    const float* rows[kLanes];
    const int valid = g.tokens - first < kLanes ? g.tokens - first : kLanes;
    for (int i = 0; i < valid; ++i) rows[i] = x + place.token(g, first + i) * g.channels;
    int channel = 0;
    for (; channel + kLanes <= g.channels; channel += kLanes) {
      Vector square[kLanes];
      for (int i = 0; i < kLanes; ++i) square[i] = i < valid ? load(rows[i] + channel) : Vector{};
      transpose(square);
      for (int i = 0; i < kLanes; ++i) store(window + (channel + i) * g.columns + first, square[i]);
    }
    for (; channel < g.channels; ++channel)
      for (int i = 0; i < kLanes; ++i)
        window[channel * g.columns + first + i] = i < valid ? rows[i][channel] : 0.0f;
  }
}

// The inverse of gather.
inline void scatter(const Geometry& g, const Place& place, const float* window, float* y) {
  for (int first = 0; first < g.tokens; first += kLanes) {
    float* rows[kLanes];
    const int valid = g.tokens - first < kLanes ? g.tokens - first : kLanes;
    for (int i = 0; i < valid; ++i) rows[i] = y + place.token(g, first + i) * g.channels;
    int channel = 0;
    for (; channel + kLanes <= g.channels; channel += kLanes) {
      Vector square[kLanes];
      for (int i = 0; i < kLanes; ++i) square[i] = load(window + (channel + i) * g.columns + first);
      transpose(square);
      for (int i = 0; i < valid; ++i) store(rows[i] + channel, square[i]);
    }
    for (; channel < g.channels; ++channel)
      for (int i = 0; i < valid; ++i) rows[i][channel] = window[channel * g.columns + first + i];
  }
}

// (x - mean) / sqrt(variance + 1e-5) of each token over the channels, and 1 / sqrt(...) where deviation is not null.
template <int kVectors>
INLINE void normalise_columns(const Geometry& g, const float* x, float* y, float* deviation) {
  Vector mean[kVectors] = {}, variance[kVectors] = {}, inverse[kVectors];
  for (int c = 0; c < g.channels; ++c)
    for (int j = 0; j < kVectors; ++j) mean[j] += load(x + c * g.columns + j * kLanes);
  for (int j = 0; j < kVectors; ++j) mean[j] /= all(static_cast<float>(g.channels));
  for (int c = 0; c < g.channels; ++c)
    for (int j = 0; j < kVectors; ++j) {
      const Vector d = load(x + c * g.columns + j * kLanes) - mean[j];
      variance[j] += d * d;
    }
  for (int j = 0; j < kVectors; ++j) {
    inverse[j] = all(1.0f) / square_root(variance[j] / all(static_cast<float>(g.channels)) + all(1e-5f));
    if (deviation != nullptr) store(deviation + j * kLanes, inverse[j]);
  }
  for (int c = 0; c < g.channels; ++c)
    for (int j = 0; j < kVectors; ++j)
      store(y + c * g.columns + j * kLanes, (load(x + c * g.columns + j * kLanes) - mean[j]) * inverse[j]);
}

inline void normalise(const Geometry& g, const float* x, float* y, float* deviation = nullptr) {
  int column = 0;
  for (; column + 4 * kLanes <= g.columns; column += 4 * kLanes)
    normalise_columns<4>(g, x + column, y + column, deviation == nullptr ? nullptr : deviation + column);
  for (; column < g.columns; column += kLanes)
    normalise_columns<1>(g, x + column, y + column, deviation == nullptr ? nullptr : deviation + column);
}

// Scores in powers of two -> 2**(score - largest), and one over their sum over the keys.
template <int kVectors>
INLINE void softmax_columns(float* scores, std::ptrdiff_t stride, int keys, float* inverse) {
  Vector largest[kVectors], total[kVectors] = {};
  for (int j = 0; j < kVectors; ++j) largest[j] = load(scores + j * kLanes);
  for (int key = 1; key < keys; ++key)
    for (int j = 0; j < kVectors; ++j) largest[j] = maximum(load(scores + key * stride + j * kLanes), largest[j]);
  for (int key = 0; key < keys; ++key)
    for (int j = 0; j < kVectors; ++j) {
      float* place = scores + key * stride + j * kLanes;
      const Vector e = exp2_of_negative(load(place) - largest[j]);
      store(place, e);
      total[j] += e;
    }
  for (int j = 0; j < kVectors; ++j) store(inverse + j * kLanes, all(1.0f) / total[j]);
}

inline void softmax(float* scores, std::ptrdiff_t stride, int keys, int columns, float* inverse) {
  int column = 0;
  for (; column + 2 * kLanes <= columns; column += 2 * kLanes)
    softmax_columns<2>(scores + column, stride, keys, inverse + column);
  for (; column < columns; column += kLanes) softmax_columns<1>(scores + column, stride, keys, inverse + column);
}

// Scores of some queries against all keys, with bias and mask; q and k are the operands of one head.
template <class Element>
void score(const Geometry& g, int border, const float* bias, const float* masks, const Element* q, const Element* k,
           int depth, int columns, float* scores, std::ptrdiff_t stride) {
  product(g.tokens, columns, depth, Columns<Element>{k, g.columns}, q, g.columns,
          AssignWithMatrix{scores, stride, bias, g.columns});
  if (border == kInterior) return;
  const float* mask = masks + static_cast<std::ptrdiff_t>(border - 1) * g.tokens * g.columns;
  for (int key = 0; key < g.tokens; ++key)
    for (int column = 0; column < columns; column += kLanes)
      store(scores + key * stride + column,
            load(scores + key * stride + column) + load(mask + key * g.columns + column));
}

template <bool kHalf>
class ForwardWindow {
 public:
  static constexpr int kQueries = kTileVectors * kLanes;  // whose scores are in the fastest cache together

  ForwardWindow(const Geometry& g, Pieces& pieces)
      : x(pieces.take(g.channels * g.columns)),
        input(pieces.take(g.shape.again ? g.channels * g.columns : 0)),
        normal(pieces.take(g.channels * g.columns)),
        qkv(pieces.take(3 * g.channels * g.columns)),
        mixed(pieces.take(g.channels * g.columns)),
        hidden(pieces.take(g.hidden * g.columns)),
        scores(pieces.take(g.tokens * kQueries)),
        inverse(pieces.take(kQueries)),
        pairs(pieces.take((kHalf ? widest(g) : 0) * g.columns)),
        key_pairs(pieces.take(kHalf ? g.head_dim * g.columns : 0)),
        value_pairs(pieces.take(kHalf ? g.head_dim * g.columns : 0)),
        score_pairs(pieces.take(kHalf ? g.tokens * kQueries : 0)) {}

  void run(const Geometry& g, const PackedWeights<kHalf>& w, int64_t index, const float* from, float* to,
           const float* keep1, const float* keep2) const {
    using Element = typename Format<kHalf>::Element;
    const Place place(g, index);
    const int c = g.channels, columns = g.columns;
    gather(g, place, from, x);
    if (g.shape.again) std::memcpy(input, x, sizeof(float) * c * columns);

    normalise(g, x, normal);
    product(3 * c, columns, w.depth_of(c), Packed<Element>{w.qkv, w.depth_of(c)},
            row_pairs<kHalf>(normal, columns, c, columns, pairs), columns, AssignWithRowBias{qkv, columns, w.qkv_bias});
    for (int head = 0; head < g.heads; ++head) attend(g, w, place.border, head);
    product(c, columns, w.depth_of(c), Packed<Element>{w.proj, w.depth_of(c)},
            row_pairs<kHalf>(mixed, columns, c, columns, pairs), columns,
            AddBranch{x, columns, w.proj_bias, keep1 == nullptr ? &kAll : keep1 + place.image});

    normalise(g, x, normal);
    product(g.hidden, columns, w.depth_of(c), Packed<Element>{w.fc1, w.depth_of(c)},
            row_pairs<kHalf>(normal, columns, c, columns, pairs), columns,
            AssignWithRowBias{hidden, columns, w.fc1_bias});
    for (int i = 0; i < g.hidden * columns; i += kLanes) store(hidden + i, gelu(load(hidden + i)));
    product(c, columns, w.depth_of(g.hidden), Packed<Element>{w.fc2, w.depth_of(g.hidden)},
            row_pairs<kHalf>(hidden, columns, g.hidden, columns, pairs), columns,
            AddBranch{x, columns, w.fc2_bias, keep2 == nullptr ? &kAll : keep2 + place.image});

    if (g.shape.again)
      for (int i = 0; i < c * columns; i += kLanes) store(x + i, load(x + i) + load(input + i));
    scatter(g, place, x, to);
  }

 private:
  static int widest(const Geometry& g) { return g.hidden > g.channels ? g.hidden : g.channels; }

  void attend(const Geometry& g, const PackedWeights<kHalf>& w, int border, int head) const {
    const int columns = g.columns, d = g.head_dim;
    const float* q = qkv + head * d * columns;
    const float* k = q + g.channels * columns;
    const float* v = k + g.channels * columns;
    const float* bias = w.bias + static_cast<std::ptrdiff_t>(head) * g.tokens * columns;
    const auto* queries = row_pairs<kHalf>(q, columns, d, columns, pairs);
    const auto* keys = row_pairs<kHalf>(k, columns, d, columns, key_pairs);
    const auto values = column_pairs<kHalf>(v, d, columns, value_pairs);
    for (int column = 0; column < columns; column += kQueries) {
      const int width = columns - column < kQueries ? columns - column : kQueries;
      const float* mask = w.masks == nullptr ? nullptr : w.masks + column;
      score(g, border, bias + column, mask, queries + column, keys, w.depth_of(d), width, scores, kQueries);
      softmax(scores, kQueries, g.tokens, width, inverse);
      product(d, width, w.depth_of(g.tokens), values,
              row_pairs<kHalf>(scores, kQueries, g.tokens, width, score_pairs), kQueries,
              AssignScaled{mixed + head * d * columns + column, columns, inverse});
    }
  }

  float *x, *input, *normal, *qkv, *mixed, *hidden, *scores, *inverse, *pairs, *key_pairs, *value_pairs, *score_pairs;
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
