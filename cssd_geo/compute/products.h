// Products of a few rows of values with a panel of 16 columns, which is what larger products are made of: sums stay in
// registers, a panel in the fastest cache.
//
// Shapes: depth, over which products are added up; rows, each `stride` values from the next; LANES columns.

#pragma once

#include "numbers.h"

#if defined(__AMX_BF16__) || defined(__AMXBF16__)  // as GCC calls it, and older releases of Clang
#define AMX
#endif

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

// Of bfloat16 processors multiply pairs: `depth` is even, a panel (depth / 2, LANES, 2).
INLINE void pack(const bfloat16 *const *columns, Size depth, bfloat16 *panel) {
    for (Size k = 0; k < depth; k += 2)
        for (Size i = 0; i < LANES; i++) std::memcpy(panel + k * LANES + 2 * i, columns[i] + k, 2 * sizeof(bfloat16));
}

#ifdef __AVX512BF16__
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
#else
// This one does not, but multiplies float32: both of a pair are one, once the other's bits are out of the way.
template <Size ROWS>
static __attribute__((noinline)) void multiply(const bfloat16 *rows, Size stride, const bfloat16 *panel, Size depth,
                                               float32 *sums) {
    typedef typename Register<float32>::type Some;
    typedef uint32_t Pairs __attribute__((vector_size(VECTOR)));
    constexpr Size WIDTH = VECTOR / sizeof(float32), PARTS = LANES / WIDTH, NEAR = 64;  // values of a row, made float32 first
    Some totals[ROWS * PARTS];
    UNROLLED for (Size i = 0; i < ROWS * PARTS; i++) std::memcpy(&totals[i], sums + i * WIDTH, VECTOR);
    for (Size first = 0; first < depth; first += NEAR) {
        const Size some = fewer(NEAR, depth - first);
        float32 wide[ROWS * NEAR];
        for (Size i = 0; i < ROWS; i++)
            for (Size k = 0; k < some; k++) wide[i * NEAR + k] = load(rows[i * stride + first + k]);
        for (Size k = 0; k < some; k += 2)
            UNROLLED for (Size j = 0; j < PARTS; j++) {
                Pairs pairs;
                std::memcpy(&pairs, panel + (first + k) * LANES + 2 * j * WIDTH, VECTOR);
                const Some even = (Some)(pairs << 16), odd = (Some)(pairs & 0xffff0000);
                UNROLLED for (Size i = 0; i < ROWS; i++) totals[i * PARTS + j] += even * wide[i * NEAR + k];
                UNROLLED for (Size i = 0; i < ROWS; i++) totals[i * PARTS + j] += odd * wide[i * NEAR + k + 1];
            }
    }
    UNROLLED for (Size i = 0; i < ROWS * PARTS; i++) std::memcpy(sums + i * WIDTH, &totals[i], VECTOR);
}
#endif

// The same for so many rows, up to MOST.
template <Size MOST, class T, class W>
INLINE void multiply_some(Size count, const T *rows, Size stride, const T *panel, Size depth, W *sums) {
    if (count == MOST) multiply<MOST>(rows, stride, panel, depth, sums);
    if constexpr (MOST > 1)
        if (count < MOST) multiply_some<MOST - 1>(count, rows, stride, panel, depth, sums);
}

// How many rows of T are multiplied at a time, at most.
template <class T> constexpr Size AT_A_TIME = MOST_ROWS;
// Whoever multiplies T holds one of these meanwhile.
template <class T> struct Multiplier {
    ~Multiplier() {}
};

// The same for so many rows, up to AT_A_TIME.
template <class T, class W>
INLINE void multiply_rows(Size count, const T *rows, Size stride, const T *panel, Size depth, W *sums) {
    multiply_some<MOST_ROWS>(count, rows, stride, panel, depth, sums);
}

// Pieces of bfloat16 that hold all bits of a float32, and of how many values of a piece there is a multiple, zeros at the end.
constexpr Size PIECES = 3, TILE_DEPTH = 32;
INLINE Size padded(Size depth) { return (depth + TILE_DEPTH - 1) / TILE_DEPTH * TILE_DEPTH; }

// Of how many pieces the panels are that T is multiplied with.
template <class T> constexpr Size PIECES_OF = 1;

#ifdef AMX
template <> constexpr Size PIECES_OF<float32> = PIECES;

// The processor multiplies up to 16 rows of 32 bfloat16 with as much of a panel at once: tiles, in registers of their own.
constexpr Size TILE_ROWS = 16;
template <> constexpr Size AT_A_TIME<bfloat16> = 2 * TILE_ROWS;
static thread_local Size shaped_for;  // so many rows; 0 where others may have had the tiles

template <> struct Multiplier<bfloat16> {
    Multiplier() { shaped_for = 0; }
    ~Multiplier() { _tile_release(); }
};

static void shape_tiles(Size rows) {
    struct {
        uint8_t palette = 1, start = 0, none[14] = {};
        uint16_t bytes[16] = {};
        uint8_t rows[16] = {};
    } shape;
    for (Size i = 0; i < 8; i++) {
        shape.bytes[i] = TILE_DEPTH * sizeof(bfloat16);
        shape.rows[i] = uint8_t(i < 7 ? rows : TILE_ROWS);
    }
    asm volatile("" : : "r"(&shape) : "memory");  // what the processor reads is written
    _tile_loadconfig(&shape);
    shaped_for = rows;
}

// Half of the rows in one tile and half in another; of an odd number the middle one is in both, which does no harm. What is
// left of the depth is multiplied as above.
static __attribute__((noinline)) void multiply_rows(Size count, const bfloat16 *rows, Size stride, const bfloat16 *panel,
                                                    Size depth, float32 *sums) {
    const Size half = (count + 1) / 2, below = count - half, whole = depth / TILE_DEPTH * TILE_DEPTH;
    const Size step = stride * sizeof(bfloat16), line = LANES * sizeof(float32);
    const bfloat16 *lower = rows + below * stride;
    if (half != shaped_for) shape_tiles(half);
    asm volatile("" : : : "memory");  // nor does a compiler know that tiles are loaded from memory
    _tile_loadd(0, sums, line);
    _tile_loadd(1, sums + below * LANES, line);
    for (Size k = 0; k < whole; k += TILE_DEPTH) {
        _tile_loadd(7, panel + k * LANES, line);
        _tile_loadd(2, rows + k, step);
        _tile_dpbf16ps(0, 2, 7);
        _tile_loadd(3, lower + k, step);
        _tile_dpbf16ps(1, 3, 7);
    }
    _tile_stored(0, sums, line);
    _tile_stored(1, sums + below * LANES, line);
    for (Size i = 0; i < count && whole < depth; i += MOST_ROWS)
        multiply_some<MOST_ROWS>(fewer(MOST_ROWS, count - i), rows + i * stride + whole, stride, panel + whole * LANES,
                                 depth - whole, sums + i * LANES);
}

// Adds rows (count, PIECES, depth) of pieces, the last of which are zero unless there is a `third`, times a panel (PIECES,
// depth / 2, LANES, 2) of pieces to sums (count, LANES), as exactly as float32 are multiplied: all products of pieces that are
// not less than its rounding, those of a size together (Henry, Tang and Heinecke 2019, Leveraging the bfloat16 Artificial
// Intelligence Datatype For Higher-Precision Computations, arXiv 1904.06376). `depth` is a multiple of TILE_DEPTH.
static __attribute__((noinline)) void multiply_pieces(Size count, const bfloat16 *rows, bool third, const bfloat16 *panel,
                                                      Size depth, float32 *sums) {
    const Size half = (count + 1) / 2, below = count - half;
    const Size step = PIECES * depth * sizeof(bfloat16), line = LANES * sizeof(float32);
    const bfloat16 *lower = rows + below * PIECES * depth;
    alignas(64) float32 parts[2][2 * TILE_ROWS * LANES];
    if (half != shaped_for) shape_tiles(half);
    asm volatile("" : : : "memory");
    _tile_loadd(0, sums, line);
    _tile_loadd(1, sums + below * LANES, line);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    for (Size k = 0; k < depth; k += TILE_DEPTH) {  // of each piece of the panel what it is multiplied with
        const bfloat16 *piece = panel + k * LANES, *high = rows + k, *low = lower + k;
        _tile_loadd(7, piece, line);
        _tile_loadd(6, high, step);
        _tile_dpbf16ps(0, 6, 7);
        _tile_loadd(6, low, step);
        _tile_dpbf16ps(1, 6, 7);
        _tile_loadd(6, low + depth, step);
        _tile_dpbf16ps(3, 6, 7);
        _tile_loadd(6, high + depth, step);
        _tile_dpbf16ps(2, 6, 7);
        if (third) {
            _tile_loadd(6, high + 2 * depth, step);
            _tile_dpbf16ps(4, 6, 7);
            _tile_loadd(6, low + 2 * depth, step);
            _tile_dpbf16ps(5, 6, 7);
            _tile_loadd(6, high + depth, step);
        }
        _tile_loadd(7, piece + depth * LANES, line);
        _tile_dpbf16ps(4, 6, 7);
        _tile_loadd(6, low + depth, step);
        _tile_dpbf16ps(5, 6, 7);
        _tile_loadd(6, low, step);
        _tile_dpbf16ps(3, 6, 7);
        _tile_loadd(6, high, step);
        _tile_dpbf16ps(2, 6, 7);
        _tile_loadd(7, piece + 2 * depth * LANES, line);
        _tile_dpbf16ps(4, 6, 7);
        _tile_loadd(6, low, step);
        _tile_dpbf16ps(5, 6, 7);
    }
    _tile_stored(0, sums, line);
    _tile_stored(1, sums + below * LANES, line);
    _tile_stored(2, parts[0], line);
    _tile_stored(3, parts[0] + below * LANES, line);
    _tile_stored(4, parts[1], line);
    _tile_stored(5, parts[1] + below * LANES, line);
    asm volatile("" : : : "memory");
    for (Size i = 0; i < count * LANES; i++) sums[i] += parts[0][i] + parts[1][i];
}
#endif

// Sums (count, LANES) begin as the bias of their panel.
template <class W> INLINE void begin_sums(Size count, const W *bias, W *sums) {
    for (Size i = 0; i < count; i++) std::memcpy(sums + i * LANES, bias, LANES * sizeof(W));
}

// What `store_sums` is told where sums are stored as they are.
constexpr auto nothing_more = [](auto sum) { return sum; };
constexpr auto untouched = [](auto *, Size, Size) {};

// Sums (count, LANES) become what is in out (count, columns) from a column: `then` of each, of which `finish` may change
// some of a pixel in place, and is told where in `out` they go.
template <class W, class T, class Then, class Finish>
INLINE void store_sums(Size count, W *sums, T *out, Size columns, Size column, Then then, Finish finish) {
    const Size few = fewer(LANES, columns - column);
    for (Size i = 0; i < count * LANES; i++) sums[i] = then(sums[i]);
    if (few == LANES) {  // a number that the compiler knows
        for (Size i = 0; i < count; i++) finish(sums + i * LANES, i * columns + column, LANES);
        for (Size i = 0; i < count; i++) store_lanes(sums + i * LANES, out + i * columns + column);
    } else {
        for (Size i = 0; i < count; i++) finish(sums + i * LANES, i * columns + column, few);
        for (Size i = 0; i < count; i++)
            for (Size c = 0; c < few; c++) store(sums[i * LANES + c], out[i * columns + column + c]);
    }
}
