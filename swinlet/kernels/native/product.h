// Matrix products of a window: one register tile for all of them.
//
// C[row][column] = sum over k of A(row, k) * B[k][column]. The columns are contiguous and padded to whole vectors. An
// element is a float, or a word with two bf16 values that are neighbours along k.

#pragma once

#include "vector.h"

namespace swinlet {

// How A lies in memory.
template <class Element>
struct Packed {  // panels of kTileRows rows, [k][row] inside
  const Element* data;
  int depth;
  INLINE const Element* panel(int row) const {
    const int within = row % kTileRows;
    return data + static_cast<std::ptrdiff_t>(row - within) * depth + within;
  }
  INLINE Element at(const Element* panel, int row, std::ptrdiff_t k) const { return panel[k * kTileRows + row]; }
};
template <class Element>
struct Columns {  // [k][row]
  const Element* data;
  std::ptrdiff_t stride;
  INLINE const Element* panel(int row) const { return data + row; }
  INLINE Element at(const Element* panel, int row, std::ptrdiff_t k) const { return panel[k * stride + row]; }
};
template <class Element>
struct Rows {  // [row][k]
  const Element* data;
  std::ptrdiff_t stride;
  INLINE const Element* panel(int row) const { return data + row * stride; }
  INLINE Element at(const Element* panel, int row, std::ptrdiff_t k) const { return panel[row * stride + k]; }
};

// What is made of a finished sum; (row, column) is its place in the whole product.
struct Sum {
  INLINE Vector operator()(int, int, Vector v) const { return v; }
};
struct WithRowBias {
  const float* bias;
  INLINE Vector operator()(int row, int, Vector v) const { return v + all(bias[row]); }
};
template <bool kHalf>
struct GeluWithRowBias {
  const float* bias;
  INLINE Vector operator()(int row, int, Vector v) const { return gelu<kHalf>(v + all(bias[row])); }
};
struct WithMatrix {
  const float* matrix;
  std::ptrdiff_t stride;
  INLINE Vector operator()(int row, int column, Vector v) const { return v + load(matrix + row * stride + column); }
};
struct Scaled {
  const float* scale;  // per column
  INLINE Vector operator()(int, int column, Vector v) const { return v * load(scale + column); }
};
struct OnTop {  // the sum is added to what is there
  const float* c;
  std::ptrdiff_t stride;
  INLINE Vector operator()(int row, int column, Vector v) const { return load(c + row * stride + column) + v; }
};
struct Branch {  // the residual: x + scale * (product + bias)
  const float* x;
  std::ptrdiff_t stride;
  const float* bias;
  const float* scale;  // by address: a value would take a register from the sums of the next tile
  INLINE Vector operator()(int row, int column, Vector v) const {
    return load(x + row * stride + column) + all(*scale) * (v + all(bias[row]));
  }
};

// Where that goes: floats; what another product reads as its right operand, floats or pairs of rows, of which the first is
// even; or what it reads as its left operand over columns.
template <class Value>
struct Floats {
  static constexpr bool kPairs = false;
  float* c;
  std::ptrdiff_t stride;
  Value value;
  INLINE void put(int row, int column, Vector v) const { store(c + row * stride + column, v); }
};
template <class Value>
struct Pairs {
  static constexpr bool kPairs = true;
  uint32_t* c;
  std::ptrdiff_t stride;
  Value value;
  INLINE void put(int row, int column, Vector v, Vector next) const {
    store(c + row / 2 * stride + column, bf16_pairs(v, next));
  }
};
template <class Value>
struct HalvesInRows {
  static constexpr bool kPairs = false;
  uint32_t* c;
  std::ptrdiff_t stride;  // words
  Value value;
  INLINE void put(int row, int column, Vector v) const {
    const Halves halves = bf16_halves(v);
    std::memcpy(reinterpret_cast<char*>(c + row * stride) + 2 * column, &halves, sizeof halves);
  }
};
template <class Value>
Floats<Value> right_operand(float* c, std::ptrdiff_t stride, Value value) {
  return {c, stride, value};
}
template <class Value>
Pairs<Value> right_operand(uint32_t* c, std::ptrdiff_t stride, Value value) {
  return {c, stride, value};
}
template <class Value>
Floats<Value> left_operand(float* c, std::ptrdiff_t columns, Value value) {
  return {c, columns, value};
}
template <class Value>
HalvesInRows<Value> left_operand(uint32_t* c, std::ptrdiff_t columns, Value value) {
  return {c, columns / 2, value};
}

template <int kRows, int kVectors, class A, class Element, class Finish>
INLINE void tile(const A& a, const Element* panel, const Element* b, std::ptrdiff_t stride, int depth, int row,
                 int column, const Finish& finish) {
  Vector sums[kRows][kVectors] = {};
  for (std::ptrdiff_t k = 0; k < depth; ++k) {
    decltype(load(b)) right[kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) right[j] = load(b + k * stride + j * kLanes);
#pragma GCC unroll 6
    for (int i = 0; i < kRows; ++i) {
      const auto left = all(a.at(panel, i, k));
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) sums[i][j] = multiply_add(sums[i][j], left, right[j]);
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < kRows; i += Finish::kPairs ? 2 : 1)
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      const int y = row + i, x = column + j * kLanes;
      const Vector v = finish.value(y, x, sums[i][j]);
      if constexpr (!Finish::kPairs)
        finish.put(y, x, v);
      else
        finish.put(y, x, v, i + 1 < kRows ? finish.value(y + 1, x, sums[i + 1 < kRows ? i + 1 : i][j]) : Vector{});
    }
}

// All rows of kVectors columns.
template <int kVectors, class A, class Element, class Finish>
INLINE void stripe(int rows, int column, int depth, const A& a, const Element* b, std::ptrdiff_t stride,
                   const Finish& finish) {
  int row = 0;
  for (; row + kTileRows <= rows; row += kTileRows)
    tile<kTileRows, kVectors>(a, a.panel(row), b + column, stride, depth, row, column, finish);
  if (rows - row >= 4) {
    tile<4, kVectors>(a, a.panel(row), b + column, stride, depth, row, column, finish);
    row += 4;
  }
  if (rows - row >= 2) {
    tile<2, kVectors>(a, a.panel(row), b + column, stride, depth, row, column, finish);
    row += 2;
  }
  if (rows - row >= 1) tile<1, kVectors>(a, a.panel(row), b + column, stride, depth, row, column, finish);
}

// ``stride`` is that of B, ``columns`` a multiple of kLanes. By value, so that nothing that is stored can change a and
// finish: they stay in registers. Columns come first: those of B stay in the fastest cache, the rows of A are read in
// order, which the processor foresees.
template <class A, class Element, class Finish>
__attribute__((noinline)) void product(int rows, int columns, int depth, const A a, const Element* b,
                                       std::ptrdiff_t stride, const Finish finish) {
  int column = 0;
  for (; column + kTileVectors * kLanes <= columns; column += kTileVectors * kLanes)
    stripe<kTileVectors>(rows, column, depth, a, b, stride, finish);
  if constexpr (kTileVectors > 2)
    for (; column + 2 * kLanes <= columns; column += 2 * kLanes)
      stripe<2>(rows, column, depth, a, b, stride, finish);
  for (; column < columns; column += kLanes) stripe<1>(rows, column, depth, a, b, stride, finish);
}

}  // namespace swinlet
