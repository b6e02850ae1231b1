// Products of a few rows of values with a panel of 16 columns, which is what larger products are made of: sums stay in
// registers, a panel in the fastest cache.
//
// Shapes: depth, over which products are added up; rows, each `stride` values from the next; LANES columns.

#pragma once

#include "numbers.h"
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

constexpr Size LANES = 16;
// Bytes of a register, and of how many rows all sums find room in registers.
#if defined(__AVX512F__)
constexpr Size VECTOR = 64, MOST_ROWS = 12;
#elif defined(__AVX2__)
constexpr Size VECTOR = 32, MOST_ROWS = 6;
#elif defined(__aarch64__)
constexpr Size VECTOR = 16, MOST_ROWS = 5;
#else
constexpr Size VECTOR = 16, MOST_ROWS = 3;
#endif

// Loops that have to be spelled out, or else sums would lie in memory.
#define UNROLLED _Pragma("GCC unroll 64")

template <class W> struct Register;
template <> struct Register<float32> { typedef float32 type __attribute__((vector_size(VECTOR))); };
template <> struct Register<float64> { typedef float64 type __attribute__((vector_size(VECTOR))); };

// LANES columns of `depth` values as a panel (depth, LANES).
template <class T> INLINE void pack(const T *const *columns, Size depth, T *panel) {
    for (Size k = 0; k < depth; k++)
        for (Size i = 0; i < LANES; i++) panel[k * LANES + i] = columns[i][k];
}

// Adds rows (ROWS, depth) times a panel (depth, LANES) to sums (ROWS, LANES).
template <Size ROWS, class W>
static __attribute__((noinline)) void multiply(const W *rows, Size stride, const W *panel, Size depth, W *sums) {
    typedef typename Register<W>::type Some;
    constexpr Size WIDTH = VECTOR / sizeof(W), PARTS = LANES / WIDTH;
    Some totals[ROWS * PARTS];
    UNROLLED for (Size i = 0; i < ROWS * PARTS; i++) std::memcpy(&totals[i], sums + i * WIDTH, VECTOR);
    for (Size k = 0; k < depth; k++) {
        Some columns[PARTS];
        UNROLLED for (Size j = 0; j < PARTS; j++) std::memcpy(&columns[j], panel + k * LANES + j * WIDTH, VECTOR);
        UNROLLED for (Size i = 0; i < ROWS; i++) {
            const W value = rows[i * stride + k];
            UNROLLED for (Size j = 0; j < PARTS; j++) totals[i * PARTS + j] += columns[j] * value;
        }
    }
    UNROLLED for (Size i = 0; i < ROWS * PARTS; i++) std::memcpy(sums + i * WIDTH, &totals[i], VECTOR);
}

#ifdef __AVX512BF16__
// The processor multiplies pairs of bfloat16: `depth` is even, a panel (depth / 2, LANES, 2).
INLINE void pack(const bfloat16 *const *columns, Size depth, bfloat16 *panel) {
    for (Size k = 0; k < depth; k += 2)
        for (Size i = 0; i < LANES; i++) std::memcpy(panel + k * LANES + 2 * i, columns[i] + k, 2 * sizeof(bfloat16));
}

template <Size ROWS>
static __attribute__((noinline)) void multiply(const bfloat16 *rows, Size stride, const bfloat16 *panel, Size depth,
                                               float32 *sums) {
    __m512 totals[ROWS];
    UNROLLED for (Size i = 0; i < ROWS; i++) totals[i] = _mm512_loadu_ps(sums + i * LANES);
    for (Size k = 0; k < depth; k += 2) {
        const __m512bh columns = (__m512bh)_mm512_loadu_si512(panel + k * LANES);
        UNROLLED for (Size i = 0; i < ROWS; i++) {
            int32_t pair;
            std::memcpy(&pair, rows + i * stride + k, sizeof pair);
            totals[i] = _mm512_dpbf16_ps(totals[i], (__m512bh)_mm512_set1_epi32(pair), columns);
        }
    }
    UNROLLED for (Size i = 0; i < ROWS; i++) _mm512_storeu_ps(sums + i * LANES, totals[i]);
}
#endif

// The same for so many rows, up to MOST.
template <Size MOST, class T, class W>
INLINE void multiply_some(Size count, const T *rows, Size stride, const T *panel, Size depth, W *sums) {
    if (count == MOST) multiply<MOST>(rows, stride, panel, depth, sums);
    if constexpr (MOST > 1)
        if (count < MOST) multiply_some<MOST - 1>(count, rows, stride, panel, depth, sums);
}
