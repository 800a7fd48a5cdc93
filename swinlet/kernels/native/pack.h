// From plain arrays to those that the products read.

#pragma once

#include <type_traits>

#include "geometry.h"

namespace swinlet {

constexpr float kMasked = -100.0f * 1.4426950408889634f;  // the official mask, times log2(e)

INLINE uint32_t bf16_bits(float value) { return bf16_bits(all(value))[0]; }

// Panels of value(row, k).
template <class Element, class Value>
void pack_panels(int rows, int depth, Element* target, const Value& value) {
  for (int first = 0; first < rows; first += kTileRows)
    for (int k = 0; k < depth; k += std::is_same_v<Element, float> ? 1 : 2)
      for (int row = first; row < first + kTileRows; ++row, ++target) {
        const float here = row < rows ? value(row, k) : 0.0f;
        if constexpr (std::is_same_v<Element, float>) {
          *target = here;
        } else {
          const float next = row < rows && k + 1 < depth ? value(row, k + 1) : 0.0f;
          *target = bf16_bits(here) | bf16_bits(next) << 16;
        }
      }
}

template <class Element>
void pack_matrix(const float* matrix, int rows, int depth, Element* plain, Element* transposed = nullptr) {
  pack_panels(rows, depth, plain, [=](int row, int k) { return matrix[row * depth + k]; });
  if (transposed != nullptr)
    pack_panels(depth, rows, transposed, [=](int row, int k) { return matrix[k * depth + row]; });
}

// Region of a row or column of a window at the border: 1 for what the cyclic shift brought over, else 0.
INLINE int region(int position, const SwinletShape& shape) { return position >= shape.window - shape.shift; }

inline void make_masks(const Geometry& g, float* masks) {
  for (int border = kRight; border <= kCorner; ++border)
    for (int key = 0; key < g.tokens; ++key)
      for (int query = 0; query < g.columns; ++query, ++masks) {
        const int window = g.shape.window;
        const bool across = (border & kRight) && region(key % window, g.shape) != region(query % window, g.shape);
        const bool down = (border & kBottom) && region(key / window, g.shape) != region(query / window, g.shape);
        *masks = across || down ? kMasked : 0.0f;
      }
}

template <bool kHalf>
void pack(const Geometry& g, const SwinletWeights& weights, const PackedWeights<kHalf>& packed) {
  const int c = g.channels;
  const float* qkv = weights.qkv_weight;
  pack_matrix(qkv, 2 * c, c, packed.qk);
  pack_matrix(qkv + static_cast<std::ptrdiff_t>(2 * c) * c, c, c, packed.v);
  if (packed.qkv_transposed != nullptr)
    pack_panels(c, 3 * c, packed.qkv_transposed, [=](int row, int k) { return qkv[k * c + row]; });
  pack_matrix(weights.proj_weight, c, c, packed.proj, packed.proj_transposed);
  pack_matrix(weights.fc1_weight, g.hidden, c, packed.fc1, packed.fc1_transposed);
  pack_matrix(weights.fc2_weight, c, g.hidden, packed.fc2, packed.fc2_transposed);
  std::memcpy(packed.qkv_bias, weights.qkv_bias, sizeof(float) * 3 * c);
  std::memcpy(packed.proj_bias, weights.proj_bias, sizeof(float) * c);
  std::memcpy(packed.fc1_bias, weights.fc1_bias, sizeof(float) * g.hidden);
  std::memcpy(packed.fc2_bias, weights.fc2_bias, sizeof(float) * c);
  for (int row = 0; row < g.heads * g.tokens; ++row) {
    float* target = packed.bias + static_cast<std::ptrdiff_t>(row) * g.columns;
    std::memset(target, 0, sizeof(float) * g.columns);
    std::memcpy(target, weights.bias + static_cast<std::ptrdiff_t>(row) * g.tokens, sizeof(float) * g.tokens);
  }
  if (packed.masks != nullptr) make_masks(g, packed.masks);
}

// [rows][columns] -> [columns][rows padded to whole vectors], the padding being zero. ``columns`` is a multiple of
// kLanes, as is the row stride of the result.
inline void transpose(const float* source, std::ptrdiff_t stride, int rows, int columns, float* target,
                      std::ptrdiff_t target_stride) {
  for (int row = 0; row < rows; row += kLanes)
    for (int column = 0; column < columns; column += kLanes) {
      Vector square[kLanes];
      for (int i = 0; i < kLanes; ++i)
        square[i] = row + i < rows ? load(source + (row + i) * stride + column) : Vector{};
      transpose(square);
      for (int i = 0; i < kLanes; ++i) store(target + (column + i) * target_stride + row, square[i]);
    }
}

// Calls run(column, kVectors) for all columns: four vectors at a time, which have no need to wait for each other, then one.
template <class Run>
INLINE void each_columns(int columns, const Run& run) {
  int column = 0;
  for (; column + 4 * kLanes <= columns; column += 4 * kLanes) run(column, std::integral_constant<int, 4>());
  for (; column < columns; column += kLanes) run(column, std::integral_constant<int, 1>());
}

// Writes kVectors vectors of columns of value(row, vector) as the right operand of a product: floats, or pairs of rows.
template <int kVectors, class Element, class Value>
INLINE void write_columns(int rows, Element* target, std::ptrdiff_t stride, const Value& value) {
  for (int row = 0; row < rows; row += std::is_same_v<Element, float> ? 1 : 2)
    for (int j = 0; j < kVectors; ++j)
      if constexpr (std::is_same_v<Element, float>)
        store(target + row * stride + j * kLanes, value(row, j));
      else {
        const Vector first = value(row, j);
        store(target + row / 2 * stride + j * kLanes, bf16_pairs(first, row + 1 < rows ? value(row + 1, j) : Vector{}));
      }
}

// The right operand of a product: the array itself, or pairs of its rows in ``spare``.
template <bool kHalf>
const typename Format<kHalf>::Element* row_pairs(const float* source, std::ptrdiff_t stride, int rows, int columns,
                                                 float* spare) {
  if constexpr (!kHalf) {
    return source;
  } else {
    auto* target = reinterpret_cast<uint32_t*>(spare);
    each_columns(columns, [=](int column, auto vectors) {
      write_columns<vectors>(rows, target + column, stride,
                             [=](int row, int j) { return load(source + row * stride + column + j * kLanes); });
    });
    return target;
  }
}

// The left operand of a product over columns: the array itself, or pairs of its columns in ``spare``; then the stride is
// half of the array's.
template <bool kHalf>
Rows<typename Format<kHalf>::Element> column_pairs(const float* source, int rows, int columns, float* spare) {
  if constexpr (!kHalf) {
    return {source, columns};
  } else {
    auto* target = reinterpret_cast<char*>(spare);
    for (int i = 0; i < rows * columns; i += kLanes) {
      const Halves halves = bf16_halves(load(source + i));
      std::memcpy(target + 2 * i, &halves, sizeof halves);
    }
    return {reinterpret_cast<const uint32_t*>(spare), columns / 2};
  }
}

}  // namespace swinlet
