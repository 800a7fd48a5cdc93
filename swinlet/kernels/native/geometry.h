// Sizes of a block's arrays, and how its weights lie in memory once packed.

#pragma once

#include "interface.h"
#include "product.h"
#include "scratch.h"

namespace swinlet {

// bf16 pairs: an element of a product covers two values along k.
template <bool kHalf>
struct Format {
  using Element = float;
  static constexpr int kStep = 1;
};
template <>
struct Format<true> {
  using Element = uint32_t;
  static constexpr int kStep = 2;
};

constexpr int kLargestWindow = 16;

constexpr int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

// Which borders of the image a window of a shifted block touches: what lies beyond them came from the other side.
enum Border { kInterior = 0, kRight = 1, kBottom = 2, kCorner = 3 };

struct Geometry {
  explicit Geometry(const SwinletShape& shape)
      : shape(shape),
        channels(shape.channels),
        heads(shape.heads),
        head_dim(shape.channels / shape.heads),
        hidden(shape.hidden),
        tokens(shape.window * shape.window),
        columns(round_up(tokens, kLanes)),
        windows_across(static_cast<int>(shape.width / shape.window)),
        windows_down(static_cast<int>(shape.height / shape.window)),
        windows(shape.images * windows_across * windows_down) {}

  SwinletShape shape;
  int channels, heads, head_dim, hidden;
  int tokens;   // of a window
  int columns;  // tokens padded to whole vectors: the row stride of [channel][token] arrays
  int windows_across, windows_down;
  int64_t windows;  // of all images
};

// The packed weights. The matrices of the forward pass come first; the backward pass has the transposed ones as well.
template <bool kHalf>
struct PackedWeights {
  using Element = typename Format<kHalf>::Element;

  PackedWeights(const Geometry& g, float* block, bool with_transposed) {
    Pieces pieces(block);
    const auto panels = [&](int rows, int depth) {
      return reinterpret_cast<Element*>(pieces.take(static_cast<std::ptrdiff_t>(round_up(rows, kTileRows)) *
                                                    depth_of(depth)));
    };
    qk = panels(2 * g.channels, g.channels);
    v = panels(g.channels, g.channels);
    proj = panels(g.channels, g.channels);
    fc1 = panels(g.hidden, g.channels);
    fc2 = panels(g.channels, g.hidden);
    qkv_bias = pieces.take(3 * g.channels);
    proj_bias = pieces.take(g.channels);
    fc1_bias = pieces.take(g.hidden);
    fc2_bias = pieces.take(g.channels);
    bias = pieces.take(static_cast<std::ptrdiff_t>(g.heads) * g.tokens * g.columns);
    if (g.shape.shift > 0) masks = pieces.take(static_cast<std::ptrdiff_t>(3) * g.tokens * g.columns);
    if (with_transposed) {
      qkv_transposed = panels(g.channels, 3 * g.channels);
      proj_transposed = panels(g.channels, g.channels);
      fc1_transposed = panels(g.channels, g.hidden);
      fc2_transposed = panels(g.hidden, g.channels);
    }
    size = pieces.used();
  }

  static int depth_of(int k) { return (k + Format<kHalf>::kStep - 1) / Format<kHalf>::kStep; }

  Element *qk, *v, *proj, *fc1, *fc2;
  float *qkv_bias, *proj_bias, *fc1_bias, *fc2_bias;
  float* bias;              // [head][key][query]
  float* masks = nullptr;   // [border - 1][key][query]
  Element *qkv_transposed = nullptr, *proj_transposed = nullptr, *fc1_transposed = nullptr, *fc2_transposed = nullptr;
  std::ptrdiff_t size;
};

}  // namespace swinlet
