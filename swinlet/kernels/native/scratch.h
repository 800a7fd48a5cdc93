// Memory for the intermediate results of a window, kept by each thread from call to call.

#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

#include "vector.h"

namespace swinlet {

// Hands out aligned pieces of one block of floats. Without a block it only counts, for a first pass that finds the size.
class Pieces {
 public:
  explicit Pieces(float* block) : block_(block) {}
  float* take(std::ptrdiff_t floats) {
    float* piece = block_ == nullptr ? nullptr : block_ + used_;
    used_ += (floats + kAlignment - 1) / kAlignment * kAlignment;
    return piece;
  }
  std::ptrdiff_t used() const { return used_; }

 private:
  static constexpr std::ptrdiff_t kAlignment = 16;  // floats: a cache line
  float* block_;
  std::ptrdiff_t used_ = 0;
};

// A block that grows on demand. Throws std::bad_alloc.
class Block {
 public:
  Block() = default;
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() { std::free(data_); }
  float* at_least(std::ptrdiff_t floats) {
    if (floats > size_) {
      std::free(data_);
      size_ = 0;
      data_ = static_cast<float*>(std::aligned_alloc(64, static_cast<std::size_t>((floats * 4 + 63) / 64 * 64)));
      if (data_ == nullptr) throw std::bad_alloc();
      size_ = floats;
    }
    return data_;
  }

 private:
  float* data_ = nullptr;
  std::ptrdiff_t size_ = 0;
};

}  // namespace swinlet
