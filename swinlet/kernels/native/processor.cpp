// What the processor can do; compiled for any of its kind.

#include "interface.h"

// 0: the baseline, 1: AVX2 and FMA, 2: AVX-512, 3: AVX-512 with bf16 dot products; the order in library.py.
extern "C" SWINLET_PUBLIC int swinlet_processor_level(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl") ||
      !__builtin_cpu_supports("avx512dq"))
    return 1;
  return __builtin_cpu_supports("avx512bf16") ? 3 : 2;
#else
  return 0;
#endif
}
