// 3 x 3 convolutions with four ninths of the products: Winograd's F(2 x 2, 3 x 3), as Lavin and Gray have it (2016, Fast
// Algorithms for Convolutional Neural Networks, doi 10.1109/CVPR.2016.435). A tile of 4 x 4 pixels becomes 16 sums of
// them, each is multiplied with its own matrix, and of the 16 products of a filter the 2 x 2 results are sums again.
// Where products cost next to nothing, pixels are multiplied as they are.
//
// Sums of pixels are rounded to the type T of the pixels.
//
// Shapes: C features, D filters, n panels of LANES for them.

#pragma once

#include "products.h"

constexpr Size TILES = 24;  // computed together: their sums stay in the second cache
constexpr Size SUMS = 16;   // of a tile
constexpr Size TAPS = 9;    // of the convolution itself

// How many matrices the weight of a convolution of T is made of: SUMS, or TAPS where it takes pixels as they are.
template <class T> constexpr Size MATRICES = SUMS;
#ifdef AMX
template <> constexpr Size MATRICES<bfloat16> = TAPS;
#endif

template <class W> struct Four {
    W a, b, c, d;
};

// The sums of four pixels in a row.
template <class W> INLINE Four<W> sums_of(W a, W b, W c, W d) { return {a - c, b + c, c - b, b - d}; }

template <class W, class T> INLINE void store_each(Four<W> values, T *out, Size step) {
    store(values.a, out[0]);
    store(values.b, out[step]);
    store(values.c, out[2 * step]);
    store(values.d, out[3 * step]);
}

// The sums of a tile of 16 pixels: into (SUMS, step).
template <class T> INLINE void add_up_tile(const T *const *tile, Size features, T *__restrict sums, Size step) {
    const T *__restrict p0 = tile[0], *__restrict p1 = tile[1], *__restrict p2 = tile[2], *__restrict p3 = tile[3];
    const T *__restrict p4 = tile[4], *__restrict p5 = tile[5], *__restrict p6 = tile[6], *__restrict p7 = tile[7];
    const T *__restrict p8 = tile[8], *__restrict p9 = tile[9], *__restrict p10 = tile[10], *__restrict p11 = tile[11];
    const T *__restrict p12 = tile[12], *__restrict p13 = tile[13], *__restrict p14 = tile[14], *__restrict p15 = tile[15];
#pragma GCC ivdep
    for (Size i = 0; i < features; i++) {
        const auto top = sums_of(load(p0[i]), load(p1[i]), load(p2[i]), load(p3[i]));
        const auto upper = sums_of(load(p4[i]), load(p5[i]), load(p6[i]), load(p7[i]));
        const auto lower = sums_of(load(p8[i]), load(p9[i]), load(p10[i]), load(p11[i]));
        const auto bottom = sums_of(load(p12[i]), load(p13[i]), load(p14[i]), load(p15[i]));
        store_each(sums_of(top.a, upper.a, lower.a, bottom.a), sums + i, 4 * step);
        store_each(sums_of(top.b, upper.b, lower.b, bottom.b), sums + i + step, 4 * step);
        store_each(sums_of(top.c, upper.c, lower.c, bottom.c), sums + i + 2 * step, 4 * step);
        store_each(sums_of(top.d, upper.d, lower.d, bottom.d), sums + i + 3 * step, 4 * step);
    }
}

// Products (SUMS, n) become 2 x 2 results (4, n): `then` of each, its bias added.
template <class W, class T, class Then>
INLINE void resolve(const W *__restrict products, const W *__restrict bias, Size n, T *__restrict results, Then then) {
#pragma GCC ivdep
    for (Size i = 0; i < n; i++) {
        const W *m = products + i;
        const W upper0 = m[0] + m[4 * n] + m[8 * n], lower0 = m[4 * n] - m[8 * n] - m[12 * n];
        const W upper1 = m[n] + m[5 * n] + m[9 * n], lower1 = m[5 * n] - m[9 * n] - m[13 * n];
        const W upper2 = m[2 * n] + m[6 * n] + m[10 * n], lower2 = m[6 * n] - m[10 * n] - m[14 * n];
        const W upper3 = m[3 * n] + m[7 * n] + m[11 * n], lower3 = m[7 * n] - m[11 * n] - m[15 * n];
        store(then(upper0 + upper1 + upper2 + bias[i]), results[i]);
        store(then(upper1 - upper2 - upper3 + bias[i]), results[n + i]);
        store(then(lower0 + lower1 + lower2 + bias[i]), results[2 * n + i]);
        store(then(lower1 - lower2 - lower3 + bias[i]), results[3 * n + i]);
    }
}

// Rows `values(y)` of (columns + 2, C), two more than there are of results, with panels (SUMS, n, C, LANES) and bias (n,
// LANES) to rows `out(y)` of (columns, D). The first tile begins `down` rows above and `across` columns left of them, 0 or 1:
// what is not there counts as `blank`, zeros, and has no say in results that are. Room for products (TILES, SUMS, n, LANES),
// sums (SUMS, TILES, C) and results (4, n, LANES).
template <class T, class W, class Values, class Out, class Then>
INLINE void convolve_sums(Values values, const T *panels, const W *bias, Out out, Size rows, Size columns, Size features,
                          Size filters, Size down, Size across, const T *blank, W *room, Then then) {
    const Size step = TILES * features, whole = (filters + LANES - 1) / LANES * LANES;
    auto *to = out(0);
    typedef std::remove_pointer_t<decltype(to)> O;
    W *products = room;
    T *sums = (T *)(products + TILES * SUMS * whole);
    O *results = (O *)(sums + SUMS * step);
    for (Size top = -down; top < rows; top += 2)
        for (Size left = -across; left < columns; left += 2 * TILES) {
            const Size count = fewer(TILES, (columns - left + 1) / 2);
            for (Size t = 0; t < count; t++) {
                const T *tile[16];
                for (Size i = 0; i < 16; i++) {
                    const Size y = top + i / 4, x = left + 2 * t + i % 4;
                    const bool there = y >= 0 && y < rows + 2 && x >= 0 && x < columns + 2;
                    tile[i] = there ? values(y) + x * features : blank;
                }
                add_up_tile(tile, features, sums + t * features, step);
            }
            for (Size i = 0; i < SUMS; i++)
                for (Size filter = 0; filter < whole; filter += LANES)
                    for (Size t = 0; t < count; t += AT_A_TIME<T>) {
                        const Size some = fewer(AT_A_TIME<T>, count - t);
                        W multiplied[AT_A_TIME<T> * LANES] = {};
                        multiply_rows(some, (const T *)sums + i * step + t * features, features,
                                      panels + (i * whole + filter) * features, features, multiplied);
                        for (Size j = 0; j < some; j++)
                            std::memcpy(products + ((t + j) * SUMS + i) * whole + filter, multiplied + j * LANES,
                                        LANES * sizeof(W));
                    }
            for (Size t = 0; t < count; t++) {
                resolve(products + t * SUMS * whole, bias, whole, results, then);
                for (Size i = 0; i < 4; i++) {
                    const Size y = top + i / 2, x = left + 2 * t + i % 2;
                    if (y >= 0 && y < rows && x >= 0 && x < columns)
                        std::memcpy(out(y) + x * filters, results + i * whole, filters * sizeof(O));
                }
            }
        }
}

// The same with panels (TAPS, n, C, LANES), and room for products (n, AT_A_TIME, LANES).
template <class T, class W, class Values, class Out, class Then>
INLINE void convolve_pixels(Values values, const T *panels, const W *bias, Out out, Size rows, Size columns, Size features,
                            Size filters, W *room, Then then) {
    const Size whole = (filters + LANES - 1) / LANES * LANES;
    const auto products = [=](Size filter) { return room + filter * AT_A_TIME<T>; };
    for (Size y = 0; y < rows; y++)
        for (Size left = 0; left < columns; left += AT_A_TIME<T>) {
            const Size some = fewer(AT_A_TIME<T>, columns - left);
            for (Size filter = 0; filter < whole; filter += LANES) begin_sums(some, bias + filter, products(filter));
            for (Size tap = 0; tap < TAPS; tap++)
                for (Size filter = 0; filter < whole; filter += LANES)
                    multiply_rows(some, values(y + tap / 3) + (left + tap % 3) * features, features,
                                  panels + (tap * whole + filter) * features, features, products(filter));
            for (Size filter = 0; filter < whole; filter += LANES)
                store_sums(some, products(filter), out(y) + left * filters, filters, filter, then, untouched);
        }
}

// How much room either needs, in values of Work<T>.
template <class T> INLINE Size room_to_convolve(Size features, Size filters) {
    const Size whole = (filters + LANES - 1) / LANES * LANES;
    return TILES * SUMS * (whole + features) + (4 + AT_A_TIME<T>) * whole;
}

// Either of them.
template <class T, class W, class Values, class Out, class Then>
INLINE void convolve(Values values, const T *panels, const W *bias, Out out, Size rows, Size columns, Size features,
                     Size filters, Size down, Size across, const T *blank, W *room, Then then) {
    const Multiplier<T> multiplier;
    if constexpr (MATRICES<T> == TAPS)
        convolve_pixels(values, panels, bias, out, rows, columns, features, filters, room, then);
    else
        convolve_sums(values, panels, bias, out, rows, columns, features, filters, down, across, blank, room, then);
}
