// The entry points of interface.h.

#include "backward.h"
#include "convolution.h"
#include "parallel.h"
#include "window.h"

namespace swinlet {
namespace {

// Pairs of bf16 values must not be of two heads.
bool in_halves(const SwinletShape& shape) { return shape.half && shape.channels / shape.heads % 2 == 0; }

template <bool kHalf>
int forward(const SwinletShape& shape, const float* packed, const float* x, float* y, const float* keep1,
            const float* keep2, SwinletParallel parallel) {
  const Geometry g(shape);
  const PackedWeights<kHalf> weights(g, const_cast<float*>(packed), false);
  constexpr int64_t kPartsPerThread = 8;  // a thread that the system disturbs leaves more of them to the others
  int64_t parts = kPartsPerThread * (shape.threads > 1 ? shape.threads : 1);
  if (parts > g.windows) parts = g.windows;
  const auto work = [&](int part) {
    each_window<ForwardWindow<kHalf>>(g, part, parts, [&](const ForwardWindow<kHalf>& window, int64_t index) {
      window.run(g, weights, index, x, y, keep1, keep2);
    });
  };
  return run_parts(static_cast<int>(parts), shape.threads, parallel, work) ? 0 : 1;
}

template <bool kHalf>
void pack_forward(const SwinletShape& shape, const SwinletWeights& weights, float* packed) {
  const Geometry g(shape);
  pack<kHalf>(g, weights, PackedWeights<kHalf>(g, packed, false));
}

// A polynomial hash of the bits in each lane, then over the lanes.
uint64_t checksum(const float* values, int64_t count, uint64_t start) {
  Words lanes = all(static_cast<uint32_t>(start));
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) lanes = (lanes ^ bits(load(values + i))) * all(0x9e3779b1u) + (lanes >> 15);
  uint64_t hash = start ^ static_cast<uint64_t>(count);
  const auto add = [&](uint32_t word) { hash = (hash ^ word) * 0x9e3779b97f4a7c15u + (hash >> 29); };
  for (int lane = 0; lane < kLanes; ++lane) add(lanes[lane]);
  for (; i < count; ++i) add(bits(all(values[i]))[0]);
  return hash;
}

}  // namespace
}  // namespace swinlet

extern "C" {

int64_t swinlet_packed_size(const SwinletShape* shape) {
  const swinlet::Geometry g(*shape);
  return swinlet::in_halves(*shape) ? swinlet::PackedWeights<true>(g, nullptr, false).size
                     : swinlet::PackedWeights<false>(g, nullptr, false).size;
}

void swinlet_pack(const SwinletShape* shape, const SwinletWeights* weights, float* packed) {
  swinlet::in_halves(*shape) ? swinlet::pack_forward<true>(*shape, *weights, packed)
              : swinlet::pack_forward<false>(*shape, *weights, packed);
}

uint64_t swinlet_checksum(const float* values, int64_t count, uint64_t start) {
  return swinlet::checksum(values, count, start);
}

int swinlet_forward(const SwinletShape* shape, const float* packed, const float* x, float* y, const float* keep1,
                    const float* keep2, SwinletParallel parallel) {
  return swinlet::in_halves(*shape) ? swinlet::forward<true>(*shape, packed, x, y, keep1, keep2, parallel)
                     : swinlet::forward<false>(*shape, packed, x, y, keep1, keep2, parallel);
}

int swinlet_backward(const SwinletShape* shape, const SwinletWeights* weights, const float* x, const float* dy,
                     float* dx, const SwinletGradients* gradients, const float* keep1, const float* keep2,
                     SwinletParallel parallel) {
  return swinlet::in_halves(*shape) ? swinlet::backward<true>(*shape, *weights, x, dy, dx, *gradients, keep1, keep2, parallel)
                     : swinlet::backward<false>(*shape, *weights, x, dy, dx, *gradients, keep1, keep2, parallel);
}

int64_t swinlet_packed_convolution_size(const SwinletConvolution* shape) {
  return swinlet::PackedConvolution(swinlet::ConvolutionGeometry(*shape), nullptr).size;
}

void swinlet_pack_convolution(const SwinletConvolution* shape, const float* weight, const float* bias, float* packed) {
  const swinlet::ConvolutionGeometry g(*shape);
  swinlet::pack(g, weight, bias, swinlet::PackedConvolution(g, packed));
}

int swinlet_convolve(const SwinletConvolution* shape, const float* packed, const float* x, const float* plus, float* y,
                     SwinletParallel parallel) {
  return swinlet::convolve(*shape, packed, x, plus, y, parallel);
}
}
