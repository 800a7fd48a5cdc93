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

// What becomes of a finished sum; (row, column) is its place in the whole product.
struct Assign {
  float* c;
  std::ptrdiff_t stride;
  INLINE void operator()(int row, int column, Vector v) const { store(c + row * stride + column, v); }
};
struct AssignWithRowBias {
  float* c;
  std::ptrdiff_t stride;
  const float* bias;
  INLINE void operator()(int row, int column, Vector v) const { store(c + row * stride + column, v + all(bias[row])); }
};
struct AssignWithMatrix {
  float* c;
  std::ptrdiff_t stride;
  const float* matrix;
  std::ptrdiff_t matrix_stride;
  INLINE void operator()(int row, int column, Vector v) const {
    store(c + row * stride + column, v + load(matrix + row * matrix_stride + column));
  }
};
struct AssignScaled {
  float* c;
  std::ptrdiff_t stride;
  const float* scale;  // per column
  INLINE void operator()(int row, int column, Vector v) const {
    store(c + row * stride + column, v * load(scale + column));
  }
};
struct Accumulate {
  float* c;
  std::ptrdiff_t stride;
  INLINE void operator()(int row, int column, Vector v) const {
    float* place = c + row * stride + column;
    store(place, load(place) + v);
  }
};
struct AddBranch {  // the residual: x + scale * (product + bias)
  float* x;
  std::ptrdiff_t stride;
  const float* bias;
  const float* scale;  // by address: a value would take a register from the sums of the next tile
  INLINE void operator()(int row, int column, Vector v) const {
    float* place = x + row * stride + column;
    store(place, load(place) + all(*scale) * (v + all(bias[row])));
  }
};

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
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) finish(row + i, column + j * kLanes, sums[i][j]);
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
