// The C interface of the kernels: plain structs and pointers, so that one build serves every version of torch.
//
// All arrays are float32, contiguous, row by row. Weights are "folded": the LayerNorms' affine parts are in qkv and
// fc1, the scale of the scores and log2(e) are in q and in the bias (swinlet/kernels/block.py).

#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define SWINLET_PUBLIC __declspec(dllexport)
#else
#define SWINLET_PUBLIC __attribute__((visibility("default")))
#endif

typedef struct {
  int64_t images, height, width;  // of the token map; height and width are multiples of window
  int32_t channels, heads, window, shift, hidden;
  int32_t again;    // 1: the block's input is added once more (V2)
  int32_t half;     // 1: operands of matrix products in bf16, sums in float32; for even head dimensions, else 0
  int32_t threads;  // at most so many
} SwinletShape;

typedef struct {
  const float *qkv_weight, *qkv_bias;    // (3 * channels, channels), (3 * channels)
  const float *bias;                     // (heads, window**2 keys, window**2 queries)
  const float *proj_weight, *proj_bias;  // (channels, channels), (channels)
  const float *fc1_weight, *fc1_bias;    // (hidden, channels), (hidden)
  const float *fc2_weight, *fc2_bias;    // (channels, hidden), (channels)
} SwinletWeights;

typedef struct {  // same shapes
  float *qkv_weight, *qkv_bias, *bias, *proj_weight, *proj_bias, *fc1_weight, *fc1_bias, *fc2_weight, *fc2_bias;
} SwinletGradients;

// The entry point of OpenMP that runs function(data) in every thread of a team, or null: then threads are started anew.
typedef void (*SwinletParallel)(void (*function)(void *), void *data, unsigned threads, unsigned flags);

// Number of floats that swinlet_pack writes.
SWINLET_PUBLIC int64_t swinlet_packed_size(const SwinletShape *shape);

// Weights in the order in which the forward pass reads them.
SWINLET_PUBLIC void swinlet_pack(const SwinletShape *shape, const SwinletWeights *weights, float *packed);

// Tells weights that were changed from those that were packed. ``start`` chains arrays.
SWINLET_PUBLIC uint64_t swinlet_checksum(const float *values, int64_t count, uint64_t start);

// x, y: (images, height * width, channels), y may be x. keep1, keep2: factor of each image's two branches (drop-path),
// or null for 1. Returns 0, or 1 if memory ran out.
SWINLET_PUBLIC int swinlet_forward(const SwinletShape *shape, const float *packed, const float *x, float *y,
                                   const float *keep1, const float *keep2, SwinletParallel parallel);

// Gradients of x (into dx) and of all weights (assigned) for the gradient dy of y. Bit-identical from call to call
// with the same number of threads. Returns 0, or 1 if memory ran out.
SWINLET_PUBLIC int swinlet_backward(const SwinletShape *shape, const SwinletWeights *weights, const float *x,
                                    const float *dy, float *dx, const SwinletGradients *gradients, const float *keep1,
                                    const float *keep2, SwinletParallel parallel);

typedef struct {
  int64_t images, height, width;
  int32_t inputs, outputs;  // channels, each at least 16
  int32_t threads;          // at most so many
} SwinletConvolution;

// Number of floats that swinlet_pack_convolution writes.
SWINLET_PUBLIC int64_t swinlet_packed_convolution_size(const SwinletConvolution *shape);

// weight: (outputs, inputs, 3, 3), bias: (outputs).
SWINLET_PUBLIC void swinlet_pack_convolution(const SwinletConvolution *shape, const float *weight, const float *bias,
                                             float *packed);

// A 3x3 convolution with zero padding. x: (images, height, width, inputs); plus: (images, height, width, outputs), which
// is added, or null; y: the same shape, overlapping neither. Returns 0, or 1 if memory ran out.
SWINLET_PUBLIC int swinlet_convolve(const SwinletConvolution *shape, const float *packed, const float *x,
                                    const float *plus, float *y, SwinletParallel parallel);

#ifdef __cplusplus
}
#endif
