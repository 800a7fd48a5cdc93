// Transformer blocks and convolutions of odd and even sizes through the native kernels, for the sanitizers (make sanitize).
//
// Fails besides on values that are not finite, and on bits that differ between two runs. The arrays inside a thread's
// block of scratch memory are one allocation to the sanitizers: what goes astray there is for tests/test_kernels.py.

#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "../../swinlet/kernels/native/interface.h"

namespace {

using Floats = std::vector<float>;

Floats noise(size_t count, float scale = 0.3f) {
  static uint32_t state = 12345;
  Floats values(count);
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = scale * (static_cast<float>(state >> 8) / 8388608.0f - 1.0f);
  }
  return values;
}

// Output, gradient of the input, gradients of the weights; empty if memory ran out.
std::vector<Floats> run(const SwinletShape& shape, const std::vector<Floats>& w, const Floats& x, const Floats& dy,
                        const float* keep) {
  const SwinletWeights weights{w[0].data(), w[1].data(), w[2].data(), w[3].data(), w[4].data(),
                               w[5].data(), w[6].data(), w[7].data(), w[8].data()};
  Floats packed(swinlet_packed_size(&shape));
  swinlet_pack(&shape, &weights, packed.data());
  std::vector<Floats> results = w;
  const SwinletGradients gradients{results[0].data(), results[1].data(), results[2].data(),
                                   results[3].data(), results[4].data(), results[5].data(),
                                   results[6].data(), results[7].data(), results[8].data()};
  Floats y(x.size()), dx(x.size());
  if (swinlet_forward(&shape, packed.data(), x.data(), y.data(), keep, nullptr, nullptr)) return {};
  if (swinlet_backward(&shape, &weights, x.data(), dy.data(), dx.data(), &gradients, keep, keep, nullptr)) return {};
  results.push_back(y);
  results.push_back(dx);
  return results;
}

bool passes(const SwinletShape& shape) {
  const size_t c = shape.channels, hidden = shape.hidden, tokens = shape.window * shape.window;
  const size_t size = shape.images * shape.height * shape.width * c;
  const std::vector<Floats> weights{noise(3 * c * c), noise(3 * c), noise(shape.heads * tokens * tokens),
                                    noise(c * c),     noise(c),     noise(hidden * c),
                                    noise(hidden),    noise(c * hidden), noise(c)};
  const Floats x = noise(size, 1.0f), dy = noise(size), keep(shape.images, 1.25f);
  const auto first = run(shape, weights, x, dy, keep.data()), second = run(shape, weights, x, dy, keep.data());
  if (first.empty() || second.empty()) return false;
  for (size_t i = 0; i < first.size(); ++i) {
    for (float value : first[i])
      if (!std::isfinite(value)) return false;
    if (std::memcmp(first[i].data(), second[i].data(), first[i].size() * sizeof(float)) != 0) return false;
  }
  return true;
}

bool passes(const SwinletConvolution& shape) {
  const size_t inputs = shape.inputs, outputs = shape.outputs, pixels = shape.images * shape.height * shape.width;
  const Floats weight = noise(outputs * inputs * 9), bias = noise(outputs), x = noise(pixels * inputs, 1.0f);
  Floats packed(swinlet_packed_convolution_size(&shape)), first(pixels * outputs), second(pixels * outputs);
  swinlet_pack_convolution(&shape, weight.data(), bias.data(), packed.data());
  if (swinlet_convolve(&shape, packed.data(), x.data(), nullptr, first.data(), nullptr)) return false;
  const Floats zeros(pixels * outputs);
  if (swinlet_convolve(&shape, packed.data(), x.data(), zeros.data(), second.data(), nullptr)) return false;
  for (float value : first)
    if (!std::isfinite(value)) return false;
  return first == second;
}

}  // namespace

int main() {
  // images, height, width, channels, heads, window, shift, hidden, again, half, threads
  const SwinletShape shapes[] = {{1, 16, 16, 60, 6, 8, 4, 120, 0, 0, 2}, {2, 8, 8, 30, 3, 8, 0, 60, 1, 0, 2},
                                 {1, 10, 15, 21, 3, 5, 2, 31, 1, 0, 3},  {1, 14, 7, 36, 4, 7, 3, 72, 0, 0, 2},
                                 {1, 16, 32, 10, 2, 16, 8, 20, 0, 0, 2}, {2, 3, 4, 5, 1, 1, 0, 5, 0, 0, 4},
                                 {1, 6, 9, 9, 3, 3, 1, 10, 1, 0, 1},     {2, 8, 12, 32, 4, 4, 2, 64, 0, 0, 2}};
  for (SwinletShape shape : shapes)
    for (shape.half = 0; shape.half < 2; ++shape.half)
      if (!passes(shape)) {
        std::printf("failed: %d channels, window %d, half %d\n", shape.channels, shape.window, shape.half);
        return 1;
      }
  // images, height, width, inputs, outputs, threads
  for (const SwinletConvolution& shape : {SwinletConvolution{1, 16, 16, 60, 60, 2}, SwinletConvolution{2, 7, 9, 16, 33, 3},
                                          SwinletConvolution{3, 1, 1, 21, 16, 2}, SwinletConvolution{1, 40, 2, 17, 18, 2}})
    if (!passes(shape)) {
      std::printf("failed: convolution of %d channels\n", shape.inputs);
      return 1;
    }
  std::puts("all passed");
}
