// The backward pass of a transformer block: each window is computed anew from the block's input, then walked back.
//
// Nothing but that input is kept between the passes. Every part of the windows has its own sums of the weights' gradients,
// which are added in the order of the parts: the same bits from run to run.

#pragma once

#include <algorithm>

#include "parallel.h"
#include "window.h"

namespace swinlet {

// Sums of gradients, in the layouts in which the products leave them.
struct GradientSums {
  GradientSums(const Geometry& g, Pieces& pieces)
      : channel_columns(round_up(g.channels, kLanes)),
        hidden_columns(round_up(g.hidden, kLanes)),
        qkv(pieces.take(3 * g.channels * channel_columns)),
        proj(pieces.take(g.channels * channel_columns)),
        fc1(pieces.take(g.hidden * channel_columns)),
        fc2(pieces.take(g.channels * hidden_columns)),
        qkv_bias(pieces.take(3 * g.channels * kLanes)),
        proj_bias(pieces.take(g.channels * kLanes)),
        fc1_bias(pieces.take(g.hidden * kLanes)),
        fc2_bias(pieces.take(g.channels * kLanes)),
        bias(pieces.take(static_cast<std::ptrdiff_t>(g.heads) * g.tokens * g.columns)) {}

  int channel_columns, hidden_columns;  // row strides
  float *qkv, *proj, *fc1, *fc2;
  float *qkv_bias, *proj_bias, *fc1_bias, *fc2_bias;  // [row][lane], lanes still to be added
  float* bias;                                        // [head][key][query]
};

template <bool kHalf>
class BackwardWindow {
  using Element = typename Format<kHalf>::Element;

 public:
  BackwardWindow(const Geometry& g, Pieces& pieces)
      : x(pieces.take(g.channels * g.columns)),
        dy(pieces.take(g.channels * g.columns)),
        dx(pieces.take(g.channels * g.columns)),
        normal1(pieces.take(g.channels * g.columns)),
        normal2(pieces.take(g.channels * g.columns)),
        deviation1(pieces.take(g.columns)),
        deviation2(pieces.take(g.columns)),
        qkv(pieces.take(3 * g.channels * g.columns)),
        dqkv(pieces.take(3 * g.channels * g.columns)),
        mixed(pieces.take(g.channels * g.columns)),
        branch(pieces.take(g.channels * g.columns)),
        dnormal(pieces.take(g.channels * g.columns)),
        before(pieces.take(g.hidden * g.columns)),
        hidden(pieces.take(g.hidden * g.columns)),
        dhidden(pieces.take(g.hidden * g.columns)),
        weights(pieces.take(static_cast<std::ptrdiff_t>(g.heads) * g.tokens * g.columns)),
        dscores(pieces.take(g.tokens * g.columns)),
        inverse(pieces.take(g.columns)),
        turned(pieces.take(round_up(std::max(std::max(g.hidden, g.channels), g.tokens), kLanes) * g.columns)),
        left(pieces.take(kHalf ? tallest(g) * g.columns : 0)),
        right(pieces.take(kHalf ? tallest(g) * g.columns : 0)) {}

  void run(const Geometry& g, const PackedWeights<kHalf>& w, int64_t index, const float* from, const float* gradient,
           float* to, const float* keep1, const float* keep2, const GradientSums& sums) const {
    const Place place(g, index);
    const int c = g.channels, columns = g.columns, size = c * columns;
    const float* factor1 = keep1 == nullptr ? &kAll : keep1 + place.image;
    const float* factor2 = keep2 == nullptr ? &kAll : keep2 + place.image;
    gather(g, place, from, x);
    gather(g, place, gradient, dy);
    recompute(g, w, place.border, factor1);

    scale(dy, *factor2, size, branch);
    add_weights(g, branch, c, hidden, g.hidden, sums.fc2, sums.hidden_columns, sums.fc2_bias);
    multiply(g, g.hidden, c, w.fc2_transposed, branch, dhidden);
    for (int i = 0; i < g.hidden * columns; i += kLanes)
      store(dhidden + i, load(dhidden + i) * gelu_slope<kHalf>(load(before + i)));
    add_weights(g, dhidden, g.hidden, normal2, c, sums.fc1, sums.channel_columns, sums.fc1_bias);
    multiply(g, c, g.hidden, w.fc1_transposed, dhidden, dnormal);
    std::memcpy(dx, dy, sizeof(float) * size);
    add_norm_gradient(g, normal2, deviation2, dnormal, dx);

    scale(dx, *factor1, size, branch);
    add_weights(g, branch, c, mixed, c, sums.proj, sums.channel_columns, sums.proj_bias);
    multiply(g, c, c, w.proj_transposed, branch, dnormal);  // now of the mixed values
    for (int head = 0; head < g.heads; ++head) attend_back(g, w, head, sums);
    add_weights(g, dqkv, 3 * c, normal1, c, sums.qkv, sums.channel_columns, sums.qkv_bias);
    multiply(g, c, 3 * c, w.qkv_transposed, dqkv, dnormal);
    add_norm_gradient(g, normal1, deviation1, dnormal, dx);

    if (g.shape.again)
      for (int i = 0; i < size; i += kLanes) store(dx + i, load(dx + i) + load(dy + i));
    scatter(g, place, dx, to);
  }

 private:
  static int tallest(const Geometry& g) {
    return std::max(std::max(3 * g.channels, g.hidden), std::max(g.columns, g.tokens)) + 1;
  }

  static void scale(const float* source, float factor, int size, float* target) {
    for (int i = 0; i < size; i += kLanes) store(target + i, load(source + i) * all(factor));
  }

  // target[row][token] = matrix * source, for a packed matrix of (rows, depth)
  void multiply(const Geometry& g, int rows, int depth, const Element* matrix, const float* source, float* target) const {
    const int k = PackedWeights<kHalf>::depth_of(depth);
    product(rows, g.columns, k, Packed<Element>{matrix, k}, row_pairs<kHalf>(source, g.columns, depth, g.columns, right),
            g.columns, Floats<Sum>{target, g.columns, {}});
  }

  void multiply(const Geometry& g, int rows, int depth, const Element* matrix, const float* bias, const float* source,
                float* target) const {
    const int k = PackedWeights<kHalf>::depth_of(depth);
    product(rows, g.columns, k, Packed<Element>{matrix, k}, row_pairs<kHalf>(source, g.columns, depth, g.columns, right),
            g.columns, Floats<WithRowBias>{target, g.columns, {bias}});
  }

  // The forward pass up to the second linear layer of the MLP, keeping what the way back needs.
  void recompute(const Geometry& g, const PackedWeights<kHalf>& w, int border, const float* factor1) const {
    const int c = g.channels, columns = g.columns;
    normalise(g, x, normal1, deviation1);
    multiply(g, 2 * c, c, w.qk, w.qkv_bias, normal1, qkv);
    multiply(g, c, c, w.v, w.qkv_bias + 2 * c, normal1, qkv + 2 * c * columns);
    for (int head = 0; head < g.heads; ++head) attend(g, w, border, head);
    const int k = w.depth_of(c);
    product(c, columns, k, Packed<Element>{w.proj, k}, row_pairs<kHalf>(mixed, columns, c, columns, right), columns,
            Floats<Branch>{x, columns, {x, columns, w.proj_bias, factor1}});
    normalise(g, x, normal2, deviation2);
    multiply(g, g.hidden, c, w.fc1, w.fc1_bias, normal2, before);
    for (int i = 0; i < g.hidden * columns; i += kLanes) store(hidden + i, gelu<kHalf>(load(before + i)));
  }

  float* weights_of(const Geometry& g, int head) const {
    return weights + static_cast<std::ptrdiff_t>(head) * g.tokens * g.columns;
  }

  void attend(const Geometry& g, const PackedWeights<kHalf>& w, int border, int head) const {
    const int columns = g.columns, d = g.head_dim;
    const float* q = qkv + head * d * columns;
    const float* k = q + g.channels * columns;
    const float* v = k + g.channels * columns;
    float* p = weights_of(g, head);
    score(g, border, w.bias + static_cast<std::ptrdiff_t>(head) * g.tokens * columns, w.masks,
          row_pairs<kHalf>(q, columns, d, columns, right), row_pairs<kHalf>(k, columns, d, columns, left), w.depth_of(d),
          columns, p, columns);
    softmax(p, columns, g.tokens, columns, p, inverse);
    for (int key = 0; key < g.tokens; ++key)
      for (int column = 0; column < columns; column += kLanes) {
        float* weight = p + key * columns + column;
        store(weight, load(weight) * load(inverse + column));
      }
    product(d, columns, w.depth_of(g.tokens), column_pairs<kHalf>(v, d, columns, left),
            row_pairs<kHalf>(p, columns, g.tokens, columns, right), columns,
            Floats<Sum>{mixed + head * d * columns, columns, {}});
  }

  // From the gradient of the mixed values (in dnormal) to that of q, k, v and the bias.
  void attend_back(const Geometry& g, const PackedWeights<kHalf>& w, int head, const GradientSums& sums) const {
    const int columns = g.columns, d = g.head_dim, keys = g.tokens;
    const std::ptrdiff_t first = head * d * columns, part = g.channels * columns;
    const float *q = qkv + first, *k = q + part, *v = k + part;
    float *dq = dqkv + first, *dk = dq + part, *dv = dk + part;
    const float* p = weights_of(g, head);
    const float* dmixed = dnormal + first;

    product(keys, columns, w.depth_of(d), Columns<Element>{row_pairs<kHalf>(v, columns, d, columns, left), columns},
            row_pairs<kHalf>(dmixed, columns, d, columns, right), columns, Floats<Sum>{dscores, columns, {}});
    through_softmax(g, p, dscores);
    float* dbias = sums.bias + static_cast<std::ptrdiff_t>(head) * keys * columns;
    for (int i = 0; i < keys * columns; i += kLanes) store(dbias + i, load(dbias + i) + load(dscores + i));

    const int depth = w.depth_of(keys);
    product(d, columns, depth, column_pairs<kHalf>(k, d, columns, left),
            row_pairs<kHalf>(dscores, columns, keys, columns, right), columns, Floats<Sum>{dq, columns, {}});
    transpose(p, columns, keys, columns, turned, columns);
    product(d, columns, depth, column_pairs<kHalf>(dmixed, d, columns, left),
            row_pairs<kHalf>(turned, columns, keys, columns, right), columns, Floats<Sum>{dv, columns, {}});
    transpose(dscores, columns, keys, columns, turned, columns);
    product(d, columns, depth, column_pairs<kHalf>(q, d, columns, left),
            row_pairs<kHalf>(turned, columns, keys, columns, right), columns, Floats<Sum>{dk, columns, {}});
  }

  // dscores: gradient of the attention weights -> gradient of the scores, which are powers of two.
  static void through_softmax(const Geometry& g, const float* p, float* dscores) {
    for (int column = 0; column < g.columns; column += kLanes) {
      Vector dot = {};
      for (int key = 0; key < g.tokens; ++key)
        dot += load(p + key * g.columns + column) * load(dscores + key * g.columns + column);
      for (int key = 0; key < g.tokens; ++key) {
        float* place = dscores + key * g.columns + column;
        store(place, all(0.69314718056f) * load(p + key * g.columns + column) * (load(place) - dot));
      }
    }
  }

  // sum[row][column] += sum over tokens of dout[row][token] * in[column][token], and the same for the bias.
  void add_weights(const Geometry& g, const float* dout, int rows, const float* in, int ins, float* sum, int stride,
                   float* bias_sum) const {
    transpose(in, g.columns, ins, g.columns, turned, stride);
    product(rows, stride, PackedWeights<kHalf>::depth_of(g.tokens), column_pairs<kHalf>(dout, rows, g.columns, left),
            row_pairs<kHalf>(turned, stride, g.tokens, stride, right), stride, Floats<OnTop>{sum, stride, {sum, stride}});
    for (int row = 0; row < rows; ++row) {
      Vector total = load(bias_sum + row * kLanes);
      for (int column = 0; column < g.columns; column += kLanes) total += load(dout + row * g.columns + column);
      store(bias_sum + row * kLanes, total);
    }
  }

  // The gradient of LayerNorm without its affine part.
  static void add_norm_gradient(const Geometry& g, const float* normal, const float* deviation, const float* dnormal,
                                float* dx) {
    for (int column = 0; column < g.columns; column += kLanes) {
      Vector mean = {}, dot = {};
      for (int c = 0; c < g.channels; ++c) {
        const Vector d = load(dnormal + c * g.columns + column);
        mean += d;
        dot += d * load(normal + c * g.columns + column);
      }
      mean /= all(static_cast<float>(g.channels));
      dot /= all(static_cast<float>(g.channels));
      for (int c = 0; c < g.channels; ++c) {
        const int i = c * g.columns + column;
        const Vector inner = load(dnormal + i) - mean - load(normal + i) * dot;
        store(dx + i, load(dx + i) + load(deviation + column) * inner);
      }
    }
  }

  float *x, *dy, *dx, *normal1, *normal2, *deviation1, *deviation2, *qkv, *dqkv, *mixed, *branch, *dnormal, *before,
      *hidden, *dhidden, *weights, *dscores, *inverse, *turned, *left, *right;
};

// Adds up the parts' sums in their order into a plain array.
template <class Source>
void add_up(int rows, int columns, int stride, const std::vector<GradientSums>& parts, const Source& source,
            float* target) {
  for (int row = 0; row < rows; ++row)
    for (int column = 0; column < columns; ++column) {
      float total = 0;
      for (const GradientSums& part : parts) total += source(part)[static_cast<std::ptrdiff_t>(row) * stride + column];
      target[static_cast<std::ptrdiff_t>(row) * columns + column] = total;
    }
}

template <class Source>
void add_up_lanes(int rows, const std::vector<GradientSums>& parts, const Source& source, float* target) {
  for (int row = 0; row < rows; ++row) {
    Vector total = {};
    for (const GradientSums& part : parts) total += load(source(part) + row * kLanes);
    target[row] = sum(total);
  }
}

inline void add_up_all(const Geometry& g, const std::vector<GradientSums>& parts, const SwinletGradients& to) {
  const int c = g.channels, wide = parts[0].channel_columns;
  add_up(3 * c, c, wide, parts, [](const GradientSums& part) { return part.qkv; }, to.qkv_weight);
  add_up(c, c, wide, parts, [](const GradientSums& part) { return part.proj; }, to.proj_weight);
  add_up(g.hidden, c, wide, parts, [](const GradientSums& part) { return part.fc1; }, to.fc1_weight);
  add_up(c, g.hidden, parts[0].hidden_columns, parts, [](const GradientSums& part) { return part.fc2; }, to.fc2_weight);
  add_up(g.heads * g.tokens, g.tokens, g.columns, parts, [](const GradientSums& part) { return part.bias; }, to.bias);
  add_up_lanes(3 * c, parts, [](const GradientSums& part) { return part.qkv_bias; }, to.qkv_bias);
  add_up_lanes(c, parts, [](const GradientSums& part) { return part.proj_bias; }, to.proj_bias);
  add_up_lanes(g.hidden, parts, [](const GradientSums& part) { return part.fc1_bias; }, to.fc1_bias);
  add_up_lanes(c, parts, [](const GradientSums& part) { return part.fc2_bias; }, to.fc2_bias);
}

template <bool kHalf>
int backward(const SwinletShape& shape, const SwinletWeights& weights, const float* x, const float* dy, float* dx,
             const SwinletGradients& gradients, const float* keep1, const float* keep2, SwinletParallel parallel) try {
  const Geometry g(shape);
  static thread_local Block packed_block, sums_block;
  const PackedWeights<kHalf> packed(g, packed_block.at_least(PackedWeights<kHalf>(g, nullptr, true).size), true);
  pack<kHalf>(g, weights, packed);

  const int parts = static_cast<int>(std::min<int64_t>(shape.threads > 1 ? shape.threads : 1, g.windows));
  Pieces counted(nullptr);
  const GradientSums unplaced(g, counted);
  const std::ptrdiff_t size = counted.used() * parts;
  Pieces pieces(sums_block.at_least(size));
  std::vector<GradientSums> sums;
  for (int part = 0; part < parts; ++part) sums.emplace_back(g, pieces);
  std::memset(sums_block.at_least(size), 0, sizeof(float) * static_cast<std::size_t>(size));

  const auto work = [&](int part) {
    each_window<BackwardWindow<kHalf>>(g, part, parts, [&](const BackwardWindow<kHalf>& window, int64_t index) {
      window.run(g, packed, index, x, dy, dx, keep1, keep2, sums[part]);
    });
  };
  if (!run_parts(parts, parts, parallel, work)) return 1;
  add_up_all(g, sums, gradients);
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}

}  // namespace swinlet
