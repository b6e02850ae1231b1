// What is done with single pixels of the network, and products of pixels with what follows them.
//
// Shapes: x pixels in a row, C features, channels last; sizes and strides are numbers of values.

#pragma once

#include "products.h"

constexpr Size AHEAD = 8;  // pixels from those that are computed to those that are fetched

// The maximum of weighted neighbours in three rows. They are spelled out, so that a compiler sees one loop over the features.
template <class T>
INLINE void dilate(const T *above, const T *here, const T *below, const Work<T> *element, T *out, Size columns,
                   Size features) {
    for (Size x = 0; x < columns; x++) {
        const T *__restrict top = above + x * features, *__restrict middle = here + x * features;
        const T *__restrict bottom = below + x * features;
        T *__restrict best = out + x * features;
        const Size right = features, far_right = 2 * features;
        fetch(best + AHEAD * features, features * sizeof(T));
        fetch(bottom + (2 + AHEAD) * features, features * sizeof(T));
        for (Size c = 0; c < features; c++) {
            Work<T> most = load(top[c]) * element[0];
            most = larger(most, load(top[c + right]) * element[1]);
            most = larger(most, load(top[c + far_right]) * element[2]);
            most = larger(most, load(middle[c]) * element[3]);
            most = larger(most, load(middle[c + right]) * element[4]);
            most = larger(most, load(middle[c + far_right]) * element[5]);
            most = larger(most, load(bottom[c]) * element[6]);
            most = larger(most, load(bottom[c + right]) * element[7]);
            most = larger(most, load(bottom[c + far_right]) * element[8]);
            store(most, best[c]);
        }
    }
}

template <class T> INLINE Work<T> length(const T *values, Size features) {
    Work<T> sums[LANES] = {}, sum = 0;  // side by side, or nothing would be
    Size c = 0;
    for (; c + LANES <= features; c += LANES)
        for (Size i = 0; i < LANES; i++) sums[i] += load(values[c + i]) * load(values[c + i]);
    for (; c < features; c++) sum += load(values[c]) * load(values[c]);
    for (Size i = 0; i < LANES; i++) sum += sums[i];
    return std::sqrt(sum);
}

// Pixels, brought to one length; zero stays zero.
template <class T>
INLINE void write_units(const T *values, T *out, Size count, Size features, Work<T> size) {
    for (Size x = 0; x < count; x++) {
        const T *__restrict pixel = values + x * features;
        T *__restrict unit = out + x * features;
        fetch(unit + AHEAD * features, features * sizeof(T));
        const Work<T> factor = size / larger(length(pixel, features), Work<T>(1e-12));
        for (Size c = 0; c < features; c++) store(load(pixel[c]) * factor, unit[c]);
    }
}

// Stored values of pixels in a row, whose bands and columns lie so far apart, as (count, bands).
template <class S, class W>
INLINE void gather(const S *stored, Size band, Size column, W *out, Size count, Size bands) {
    if (column != 1) {
        for (Size x = 0; x < count; x++)
            for (Size k = 0; k < bands; k++) out[x * bands + k] = W(stored[x * column + k * band]);
        return;
    }
    for (Size k = 0; k < bands; k++) fetch(stored + k * band + count, count * sizeof(S));
    for (Size first = 0; first < bands; first += LANES)
        for (Size from = 0; from < count; from += LANES) {
            W block[LANES * LANES];
            const Size high = fewer(LANES, bands - first), wide = fewer(LANES, count - from);
            for (Size k = 0; k < high; k++)
                for (Size i = 0; i < wide; i++) block[k * LANES + i] = W(stored[(first + k) * band + from + i]);
            for (Size i = 0; i < wide; i++)
                for (Size k = 0; k < high; k++) out[(from + i) * bands + first + k] = block[k * LANES + i];
        }
}

// Types of stored values, in the order of `flow.py`.
enum Kind : Size { UINT8, INT8, UINT16, INT16, UINT32, INT32, UINT64, INT64, FLOAT32, FLOAT64 };

// The same from values of a type, some of them after the first one.
template <class W>
static void gather_some(const void *stored, Size kind, Size after, Size band, Size column, W *out, Size count, Size bands) {
    const auto from = [=](auto *values) { gather(values + after, band, column, out, count, bands); };
    if (kind == UINT8) from((const uint8_t *)stored);
    if (kind == INT8) from((const int8_t *)stored);
    if (kind == UINT16) from((const uint16_t *)stored);
    if (kind == INT16) from((const int16_t *)stored);
    if (kind == UINT32) from((const uint32_t *)stored);
    if (kind == INT32) from((const int32_t *)stored);
    if (kind == UINT64) from((const uint64_t *)stored);
    if (kind == INT64) from((const int64_t *)stored);
    if (kind == FLOAT32) from((const float32 *)stored);
    if (kind == FLOAT64) from((const float64 *)stored);
}

// Some pixels times panels of LANES columns, plus bias (n, LANES), into out (count, columns), as `store_sums` has it.
// `multiply` adds products with the panel of a column to sums (count, LANES).
template <Size MOST, class W, class T, class Multiply, class Then, class Finish>
INLINE void project(Size count, const W *bias, T *out, Size columns, Multiply multiply, Then then, Finish finish) {
    W sums[MOST * LANES];
    for (Size column = 0; column < columns; column += LANES) {
        begin_sums(count, bias + column, sums);
        multiply(column, sums);
        store_sums(count, sums, out, columns, column, then, finish);
    }
}

// The first columns go to `out`, as `project` has it; `more` to `rest` as they are. `begin` tells how the pixels from `first`
// are multiplied, so many of them, up to MOST.
template <Size MOST, class W, class T, class Begin, class Then, class Finish>
INLINE void project_all(Begin begin, const W *bias, T *out, W *rest, Size count, Size columns, Size more, Then then,
                        Finish finish) {
    const Size whole = (columns + LANES - 1) / LANES * LANES;
    for (Size first = 0; first < count; first += MOST) {
        const Size some = fewer(MOST, count - first);
        const auto multiply = begin(first, some);
        T *to = out + first * columns, *next = to + some * columns;
        project<MOST>(
            some, bias, to, columns,
            [=](Size column, W *sums) {
                multiply(column, sums);
                fetch(next + some * column, some * LANES * sizeof(T));  // all of it, little by little
            },
            then, [=](W *sums, Size at, Size few) { finish(sums, first * columns + at, few); });
        project<MOST>(
            some, bias + whole, rest + first * more, more,
            [=](Size column, W *sums) { multiply(whole + column, sums); }, nothing_more, untouched);
    }
}

// Room for the pieces of the pixels that are multiplied together.
INLINE Size size_of_pieces(Size depth) { return AT_A_TIME<bfloat16> * PIECES * padded(depth); }

#ifdef AMX
// Values (depth) in pieces, so far apart; returns whether one of the last pieces is not zero, as where values are not whole
// numbers up to 65,535.
INLINE bool cut(const float32 *__restrict values, Size depth, bfloat16 *__restrict pieces, Size apart) {
    uint32_t last = 0;
    for (Size k = 0; k < depth; k++) {
        const float32 value = values[k];
        store(value, pieces[k]);
        const float32 rest = value - load(pieces[k]);
        store(rest, pieces[apart + k]);
        const float32 end = rest - load(pieces[apart + k]);
        store(end, pieces[2 * apart + k]);
        last |= bits_of(end);
    }
    return last << 1;
}

// Pixels (count, depth) of float32 and panels (n, PIECES, padded / 2, LANES, 2): see `multiply_pieces`.
template <class T, class Then, class Finish>
INLINE void project_pieces(const float32 *pixels, const bfloat16 *panels, const float32 *bias, T *out, float32 *rest,
                           Size count, Size depth, Size columns, Size more, bfloat16 *room, Then then, Finish finish) {
    const Size stride = PIECES * padded(depth);
    const Multiplier<bfloat16> multiplier;
    const auto begin = [=](Size first, Size some) {
        bool third = false;
        for (Size i = 0; i < some; i++)
            third |= cut(pixels + (first + i) * depth, depth, room + i * stride, padded(depth));
        return [=](Size column, float32 *sums) {
            multiply_pieces(some, room, third, panels + column * stride, padded(depth), sums);
        };
    };
    project_all<AT_A_TIME<bfloat16>>(begin, bias, out, rest, count, columns, more, then, finish);
}
#endif

// Products of pixels (count, depth), as `project_all` has them. Panels are (n, depth, LANES), or what else the type P of the
// pixels is multiplied with. Room for `size_of_pieces`, zeros.
template <class P, class W, class T, class Then, class Finish>
INLINE void product(const P *pixels, const void *panels, const W *bias, T *out, W *rest, Size count, Size depth, Size columns,
                    Size more, bfloat16 *room, Then then, Finish finish) {
#ifdef AMX
    if constexpr (PIECES_OF<P> > 1)
        return project_pieces(pixels, (const bfloat16 *)panels, bias, out, rest, count, depth, columns, more, room, then,
                              finish);
#endif
    (void)room;
    const Multiplier<P> multiplier;
    const auto begin = [=](Size first, Size some) {
        return [=](Size column, W *sums) {
            multiply_rows(some, pixels + first * depth, depth, (const P *)panels + column * depth, depth, sums);
        };
    };
    project_all<AT_A_TIME<P>>(begin, bias, out, rest, count, columns, more, then, finish);
}
