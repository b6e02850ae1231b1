// Types that are stored and types that are computed with, their roundings, and functions of single values, written so
// that a compiler computes many side by side.
//
// Values are stored as T and computed as Work<T>: bfloat16 in float32, so it is rounded once. float64 is there to
// prove that the results are exact.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

typedef int64_t Size;
constexpr Size LANES = 16;
typedef float float32;
typedef double float64;
struct bfloat16 {
    uint16_t bits;
};
template <class T> using Work = typename std::conditional<std::is_same<T, float64>::value, float64, float32>::type;

INLINE uint32_t bits_of(float32 value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

INLINE float32 float_of(uint32_t bits) {
    float32 value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE float32 load(float32 value) { return value; }
INLINE float64 load(float64 value) { return value; }
INLINE float32 load(bfloat16 value) { return float_of(uint32_t(value.bits) << 16); }

INLINE void store(float32 value, float32 &out) { out = value; }
INLINE void store(float64 value, float64 &out) { out = value; }
INLINE void store(float32 value, bfloat16 &out) {  // to the nearest, ties to even
    uint32_t bits = bits_of(value);
    out.bits = uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

template <class W, class T> INLINE void store_lanes(const W *values, T *out) {
    for (Size i = 0; i < LANES; i++) store(values[i], out[i]);
}
#ifdef __AVX512BF16__
template <> inline void store_lanes(const float32 *values, bfloat16 *out) {
    _mm256_storeu_si256((__m256i *)out, (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(values)));
}
#endif

// Tells the processor that so many bytes will be read or written soon: where they are not in its nearer caches, waiting for
// them takes as long as what is done with them. They need not exist.
INLINE void fetch(const void *from, Size bytes) {
    for (Size i = 0; i < bytes; i += 64) __builtin_prefetch((const char *)from + i, 0, 2);
}

template <class W> INLINE W larger(W one, W other) { return one > other ? one : other; }
template <class W> INLINE W smaller(W one, W other) { return one < other ? one : other; }
INLINE Size fewer(Size one, Size other) { return one < other ? one : other; }

INLINE float64 exponential(float64 x) { return std::exp(x); }

// Cephes' expf, to one unit in the last place; beyond +-80 as at +-80, so that products of it are still normal numbers,
// without which processors take ten times as long.
INLINE float32 exponential(float32 x) {
    x = smaller(larger(x, -80.0f), 80.0f);
    const float32 whole = 12582912.0f;  // beside this only whole numbers are left
    float32 turns = (x * 1.44269504088896341f + whole) - whole;
    float32 rest = (x - turns * 0.693359375f) - turns * -2.12194440e-4f;
    float32 sum = 1.9875691500e-4f;
    sum = sum * rest + 1.3981999507e-3f;
    sum = sum * rest + 8.3334519073e-3f;
    sum = sum * rest + 4.1665795894e-2f;
    sum = sum * rest + 1.6666665459e-1f;
    sum = sum * rest + 5.0000001201e-1f;
    sum = sum * rest * rest + rest + 1.0f;
    return sum * float_of(uint32_t(int32_t(turns) + 127) << 23);
}

INLINE float64 gelu_of(float64 x) { return 0.5 * x * std::erfc(-x * std::sqrt(0.5)); }

// Abramowitz and Stegun 1964, 7.1.26: the error function to 1.5e-7.
INLINE float32 gelu_of(float32 x) {
    float32 size = std::fabs(x) * 0.70710678118654752f, t = 1.0f / (1.0f + 0.3275911f * size);
    float32 sum = 1.061405429f;
    sum = sum * t - 1.453152027f;
    sum = sum * t + 1.421413741f;
    sum = sum * t - 0.284496736f;
    sum = sum * t + 0.254829592f;
    float32 tail = 0.5f * sum * t * exponential(-size * size);
    return x * (x < 0 ? tail : 1.0f - tail);
}
