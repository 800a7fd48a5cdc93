// Vectors of float32 as wide as the processor's registers, and the functions of a transformer block on them.
//
// Written with the vector extension of GCC and Clang, so that one source serves SSE, AVX2, AVX-512 and NEON.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX__)
#include <immintrin.h>
#endif

#define INLINE inline __attribute__((always_inline))

namespace swinlet {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

// Rows and vectors of the tile of a product that is kept in registers: 16 registers hold 6x2, 32 hold 6x4.
constexpr int kTileRows = 6;
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kTileVectors = 4;
#else
constexpr int kTileVectors = 2;
#endif

typedef float Vector __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));
typedef Vector VectorAnywhere __attribute__((aligned(4), may_alias));
typedef Words WordsAnywhere __attribute__((aligned(4), may_alias));

INLINE Vector load(const float* p) { return *reinterpret_cast<const VectorAnywhere*>(p); }
INLINE Words load(const uint32_t* p) { return *reinterpret_cast<const WordsAnywhere*>(p); }
INLINE void store(float* p, Vector v) { *reinterpret_cast<VectorAnywhere*>(p) = v; }
INLINE void store(uint32_t* p, Words v) { *reinterpret_cast<WordsAnywhere*>(p) = v; }
INLINE Vector all(float s) { return s - Vector{}; }  // x - 0 is x, also for -0: no instruction is spent on it
INLINE Words all(uint32_t s) { return s - Words{}; }
// Where one value is NaN, the first. Compilers do not find the one instruction for it.
#if defined(__AVX512F__)
INLINE Vector maximum(Vector a, Vector b) { return (Vector)_mm512_max_ps((__m512)b, (__m512)a); }
INLINE Vector minimum(Vector a, Vector b) { return (Vector)_mm512_min_ps((__m512)b, (__m512)a); }
#elif defined(__AVX__)
INLINE Vector maximum(Vector a, Vector b) { return (Vector)_mm256_max_ps((__m256)b, (__m256)a); }
INLINE Vector minimum(Vector a, Vector b) { return (Vector)_mm256_min_ps((__m256)b, (__m256)a); }
#else
INLINE Vector maximum(Vector a, Vector b) { return a < b ? b : a; }
INLINE Vector minimum(Vector a, Vector b) { return b < a ? b : a; }
#endif
INLINE Words bits(Vector v) { return reinterpret_cast<Words>(v); }
INLINE Vector floats(Words w) { return reinterpret_cast<Vector>(w); }

INLINE float sum(Vector v) {
  float total = 0;
  for (int i = 0; i < kLanes; ++i) total += v[i];
  return total;
}

// Square roots are taken once per token and norm, so a call per lane would do; compilers make one instruction of it.
INLINE Vector square_root(Vector v) {
  Vector r;
  for (int i = 0; i < kLanes; ++i) r[i] = __builtin_sqrtf(v[i]);
  return r;
}

// a / b to about 2e-7, for b between 1e-30 and 1e30: on many processors a division takes as long as ten products.
INLINE Vector quotient(Vector a, Vector b) {
#if defined(__AVX512F__)
  const Vector r = (Vector)_mm512_rcp14_ps((__m512)b);
#elif defined(__AVX__)
  const Vector r = (Vector)_mm256_rcp_ps((__m256)b);
#else
  return a / b;
#endif
#if defined(__AVX__)
  return a * (r * (all(2.0f) - b * r));
#endif
}

// 2**x for x <= 0; below -126 it stays at 2**-126. NaN stays NaN. Relative error under 2e-7, or, where the result is to be
// rounded to bf16 (kHalf), under 8e-5.
template <bool kHalf>
INLINE Vector exp2_of_negative(Vector x) {
  x = maximum(x, all(-126.0f));
  // 1.5 * 2**23: adding it rounds to a whole number, kept in the low bits; 127 is the bias of exponents.
  const Vector magic = all(12582912.0f + 127.0f);
  const Vector shifted = x + magic;
  const Vector f = x - (shifted - magic);
  Vector p;
  if constexpr (kHalf) {
    p = all(0.05517167f) * f + all(0.24261113f);
    p = p * f + all(0.69326099f);
    p = p * f + all(0.99992807f);
  } else {
    p = all(0.0013276470126584172f) * f + all(0.009675540961325169f);
    p = p * f + all(0.05550713092088699f);
    p = p * f + all(0.24022120237350464f);
    p = p * f + all(0.6931469440460205f);
    p = p * f + all(1.0f);
  }
  return p * floats(bits(shifted) << 23);
}

// erf(x / sqrt(2)), absolute error under 5e-7: a rational function fitted on [-5.5, 5.5], where |erf| reaches 1.
INLINE Vector erf_of_scaled(Vector x) {
  x = maximum(minimum(x, all(5.5f)), all(-5.5f));
  const Vector t = x * x;
  Vector p = all(4.549897170136319e-08f) * t + all(1.2704124856099952e-05f);
  p = p * t + all(0.0003376440436113626f);
  p = p * t + all(0.009354477748274803f);
  p = p * t + all(0.06770464032888412f);
  p = p * t + all(0.797884464263916f);
  Vector q = all(1.1975032521149842e-06f) * t + all(7.364615885308012e-05f);
  q = q * t + all(0.0018844245932996273f);
  q = q * t + all(0.028645679354667664f);
  q = q * t + all(0.25152111053466797f);
  q = q * t + all(1.0f);
  return maximum(minimum(quotient(x * p, q), all(1.0f)), all(-1.0f));
}

// Distribution function of the standard normal. For results that are to be rounded to bf16 (kHalf) a polynomial, fitted on
// [-4.25, 4.25] so that x times it is right within 1e-4; its constant makes it 0 at the lower end.
template <bool kHalf>
INLINE Vector normal_distribution(Vector x) {
  if constexpr (!kHalf) return all(0.5f) + all(0.5f) * erf_of_scaled(x);
  x = maximum(minimum(x, all(4.25f)), all(-4.25f));
  const Vector t = x * x;
  Vector p = all(-8.460013800615229e-10f) * t + all(7.570548632429563e-08f);
  p = p * t + all(-2.9387201720965095e-06f);
  p = p * t + all(6.552587728947401e-05f);
  p = p * t + all(-0.0009404380689375103f);
  p = p * t + all(0.00925778690725565f);
  p = p * t + all(-0.06545345485210419f);
  p = p * t + all(0.3984200656414032f);
  return all(0.49999946f) + x * p;
}

template <bool kHalf>
INLINE Vector gelu(Vector x) {
  return x * normal_distribution<kHalf>(x);
}

// d gelu / dx = Phi(x) + x * phi(x), Phi and phi being distribution and density of the standard normal.
template <bool kHalf>
INLINE Vector gelu_slope(Vector x) {
  const Vector density = all(0.3989422804f) * exp2_of_negative<kHalf>(x * x * all(-0.7213475204f));
  return normal_distribution<kHalf>(x) + x * density;
}

// Two bf16 values in one word, the first in the lower half; rounded to nearest even.
INLINE Words bf16_bits(Vector v) {
  const Words w = bits(v);
  const Words rounded = (w + all(0x7fffu) + ((w >> 16) & all(1u))) >> 16;
  const Words nan = (w >> 16) | all(0x40u);  // rounding could carry a NaN over to infinity
  return (w & all(0x7fffffffu)) > all(0x7f800000u) ? nan : rounded;
}

typedef uint16_t Halves __attribute__((vector_size(2 * kLanes)));

INLINE Halves bf16_halves(Vector v) {
#if defined(__AVX512BF16__)
  return (Halves)_mm512_cvtneps_pbh((__m512)v);
#else
  return __builtin_convertvector(bf16_bits(v), Halves);
#endif
}

INLINE Words bf16_pairs(Vector first, Vector second) {
#if defined(__AVX512BF16__)
  const __m512i halves = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh((__m512)second, (__m512)first));
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return (Words)_mm512_permutexvar_epi16(order, halves);
#else
  return bf16_bits(first) | (bf16_bits(second) << 16);
#endif
}

// acc + a0 * b0 + a1 * b1 of the pairs (a0, a1) and (b0, b1) in each lane; or of single values.
INLINE Vector multiply_add(Vector acc, Words a, Words b) {
#if defined(__AVX512BF16__)
  return (Vector)_mm512_dpbf16_ps((__m512)acc, (__m512bh)a, (__m512bh)b);
#else
  acc += floats(a << 16) * floats(b << 16);
  return acc + floats(a & all(0xffff0000u)) * floats(b & all(0xffff0000u));
#endif
}
INLINE Vector multiply_add(Vector acc, Vector a, Vector b) { return acc + a * b; }

template <int kDistance, std::size_t... kLane>
INLINE void exchange(Vector& a, Vector& b, std::index_sequence<kLane...>) {
  constexpr int n = kLanes;
  const Vector low = __builtin_shufflevector(a, b, (kLane & kDistance ? kLane - kDistance + n : kLane)...);
  b = __builtin_shufflevector(a, b, (kLane & kDistance ? kLane + n : kLane + kDistance)...);
  a = low;
}

template <int kDistance>
INLINE void transpose_stage(Vector (&rows)[kLanes]) {
  if constexpr (kDistance >= 1) {
    for (int i = 0; i < kLanes; ++i)
      if (!(i & kDistance)) exchange<kDistance>(rows[i], rows[i + kDistance], std::make_index_sequence<kLanes>());
    transpose_stage<kDistance / 2>(rows);
  }
}

// The square of kLanes rows, transposed in registers.
INLINE void transpose(Vector (&rows)[kLanes]) { transpose_stage<kLanes / 2>(rows); }

}  // namespace swinlet
