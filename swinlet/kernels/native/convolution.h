// 3x3 convolutions with zero padding, in inference and float32: F(2x2, 3x3) of Lavin and Gray, "Fast Algorithms for
// Convolutional Neural Networks" (arXiv:1509.09308).
//
// A tile of 2x2 pixels of the result needs 4x4 of the image. Both it and the weights are transformed to 16 values, whose
// products over the channels are 16 matrix products: 4 multiplications for each pixel and pair of channels instead of 9.
// Larger tiles would need fewer, but lose a digit. Images lie channel by channel in each pixel, as tokens do; vectors are
// of channels.

#pragma once

#include "parallel.h"
#include "geometry.h"

namespace swinlet {

constexpr int kTile = 2, kPatch = kTile + 2, kPoints = kPatch * kPatch;  // sides in pixels, values of a tile

struct ConvolutionGeometry {
  explicit ConvolutionGeometry(const SwinletConvolution& shape)
      : shape(shape),
        inputs(shape.inputs),
        outputs(shape.outputs),
        columns(round_up(shape.outputs, kLanes)),
        down((shape.height + kTile - 1) / kTile),
        across((shape.width + kTile - 1) / kTile),
        tiles(shape.images * down * across) {}

  SwinletConvolution shape;
  int inputs, outputs;
  int columns;  // outputs padded to whole vectors
  int64_t down, across, tiles;
};

struct PackedConvolution {
  PackedConvolution(const ConvolutionGeometry& g, float* block) {
    Pieces pieces(block);
    bias = pieces.take(g.columns);
    weights = pieces.take(static_cast<std::ptrdiff_t>(kPoints) * g.inputs * g.columns);
    size = pieces.used();
  }

  float* bias;
  float* weights;  // [point][input][output]
  std::ptrdiff_t size;
};

// weight: (outputs, inputs, 3, 3).
inline void pack(const ConvolutionGeometry& g, const float* weight, const float* bias, const PackedConvolution& packed) {
  std::memset(packed.bias, 0, sizeof(float) * packed.size);
  std::memcpy(packed.bias, bias, sizeof(float) * g.outputs);
  constexpr double transform[kPatch][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
  for (int output = 0; output < g.outputs; ++output)
    for (int input = 0; input < g.inputs; ++input, weight += 9)
      for (int point = 0; point < kPoints; ++point) {
        double sum = 0;
        for (int i = 0; i < 9; ++i) sum += transform[point / kPatch][i / 3] * transform[point % kPatch][i % 3] * weight[i];
        const std::ptrdiff_t row = static_cast<std::ptrdiff_t>(point) * g.inputs + input;
        packed.weights[row * g.columns + output] = static_cast<float>(sum);
      }
}

// Calls run(first channel) for whole vectors of channels, the last ones twice if there is no whole number of vectors.
template <class Run>
INLINE void each_vector(int channels, const Run& run) {
  for (int channel = 0; channel + kLanes <= channels; channel += kLanes) run(channel);
  if (channels % kLanes) run(channels - kLanes);
}

// Some tiles at a time, so that all that belongs to them stays in the cache.
class TileGroup {
 public:
  static constexpr int kMost = 6 * kTileRows;

  TileGroup(const ConvolutionGeometry& g, Pieces& pieces)
      : zeros(pieces.take(g.inputs)),
        points(pieces.take(static_cast<std::ptrdiff_t>(kPoints) * kMost * g.inputs)),
        sums(pieces.take(static_cast<std::ptrdiff_t>(kPoints) * kMost * g.columns)) {}

  void run(const ConvolutionGeometry& g, const PackedConvolution& packed, int64_t first, int count, const float* x,
           const float* plus, float* y) const {
    for (int tile = 0; tile < count; ++tile) transform(g, first + tile, x, points + tile * g.inputs);
    for (int point = 0; point < kPoints; ++point)
      product(count, g.columns, g.inputs, Rows<float>{points + point * kMost * g.inputs, g.inputs},
              packed.weights + static_cast<std::ptrdiff_t>(point) * g.inputs * g.columns, g.columns,
              Floats<Sum>{sums + point * kMost * g.columns, g.columns, {}});
    for (int tile = 0; tile < count; ++tile) transform_back(g, packed, first + tile, sums + tile * g.columns, plus, y);
  }

  float* zeros;  // a pixel outside the image

 private:
  struct Corner {
    Corner(const ConvolutionGeometry& g, int64_t tile)
        : image(tile / (g.across * g.down)), top(tile / g.across % g.down * kTile), left(tile % g.across * kTile) {}
    int64_t image, top, left;
  };

  void transform(const ConvolutionGeometry& g, int64_t tile, const float* x, float* target) const {
    const Corner corner(g, tile);
    const float* pixels[kPoints];
    for (int i = 0; i < kPoints; ++i) {
      const int64_t row = corner.top + i / kPatch - 1, column = corner.left + i % kPatch - 1;
      const bool inside = row >= 0 && row < g.shape.height && column >= 0 && column < g.shape.width;
      pixels[i] = inside ? x + ((corner.image * g.shape.height + row) * g.shape.width + column) * g.inputs : zeros;
    }
    each_vector(g.inputs, [&](int channel) {
      Vector v[kPatch][kPatch];
      for (int i = 0; i < kPoints; ++i) v[i / kPatch][i % kPatch] = load(pixels[i] + channel);
      for (int i = 0; i < kPatch; ++i) {  // down the columns
        const Vector a = v[0][i], b = v[1][i], c = v[2][i], d = v[3][i];
        v[0][i] = a - c, v[1][i] = b + c, v[2][i] = c - b, v[3][i] = b - d;
      }
      for (int i = 0; i < kPatch; ++i) {
        const Vector a = v[i][0], b = v[i][1], c = v[i][2], d = v[i][3];
        v[i][0] = a - c, v[i][1] = b + c, v[i][2] = c - b, v[i][3] = b - d;
      }
      for (int i = 0; i < kPoints; ++i)
        store(target + static_cast<std::ptrdiff_t>(i) * kMost * g.inputs + channel, v[i / kPatch][i % kPatch]);
    });
  }

  static void transform_back(const ConvolutionGeometry& g, const PackedConvolution& packed, int64_t tile,
                             const float* source, const float* plus, float* y) {
    const Corner corner(g, tile);
    const int64_t rows = g.shape.height - corner.top, columns = g.shape.width - corner.left;
    const int64_t place = ((corner.image * g.shape.height + corner.top) * g.shape.width + corner.left) * g.outputs;
    each_vector(g.outputs, [&](int channel) {
      Vector v[kPatch][kPatch], half[kTile][kPatch];
      for (int i = 0; i < kPoints; ++i)
        v[i / kPatch][i % kPatch] = load(source + static_cast<std::ptrdiff_t>(i) * kMost * g.columns + channel);
      for (int i = 0; i < kPatch; ++i) {
        half[0][i] = v[0][i] + v[1][i] + v[2][i];
        half[1][i] = v[1][i] - v[2][i] - v[3][i];
      }
      const Vector bias = load(packed.bias + channel);
      const auto put = [&](int64_t at, Vector value) {
        store(y + at, plus == nullptr ? value + bias : value + bias + load(plus + at));
      };
      for (int i = 0; i < kTile && i < rows; ++i) {
        const int64_t at = place + i * g.shape.width * g.outputs + channel;
        put(at, half[i][0] + half[i][1] + half[i][2]);
        if (columns > 1) put(at + g.outputs, half[i][1] - half[i][2] - half[i][3]);
      }
    });
  }

  float *points, *sums;  // [point][tile][channel]
};

inline int convolve(const SwinletConvolution& shape, const float* packed, const float* x, const float* plus, float* y,
                    SwinletParallel parallel) {
  const ConvolutionGeometry g(shape);
  const PackedConvolution weights(g, const_cast<float*>(packed));
  const int64_t groups = (g.tiles + TileGroup::kMost - 1) / TileGroup::kMost;
  const auto work = [&](int part) {
    thread_local Block block;
    Pieces counted(nullptr);
    const TileGroup unplaced(g, counted);
    Pieces pieces(block.at_least(counted.used()));
    const TileGroup group(g, pieces);
    std::memset(group.zeros, 0, sizeof(float) * g.inputs);
    const int64_t first = part * static_cast<int64_t>(TileGroup::kMost);
    const int64_t rest = g.tiles - first;
    group.run(g, weights, first, static_cast<int>(rest < TileGroup::kMost ? rest : TileGroup::kMost), x, plus, y);
  };
  return run_parts(static_cast<int>(groups), shape.threads, parallel, work) ? 0 : 1;
}

}  // namespace swinlet
