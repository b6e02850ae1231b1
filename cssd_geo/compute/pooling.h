// Spectral-aware pooling: for each centre the mean of the votes in its window, weighted by how alike the spectra are.
//
// Shapes: C features, K classes, w window. Centres are taken in blocks of some rows and STEP columns, which share their
// `reach` columns of neighbours; two rows of a block at a time fill the lanes of a panel.

#pragma once

#include "products.h"

constexpr Size STEP = 8, HEIGHT = LANES / STEP;
constexpr float32 NOWHERE = -1e30f;  // what is added to a product is less where the weight is to be zero

INLINE Size reach_of(Size window) { return STEP + window - 1; }

// The neighbours of two rows of centres.
INLINE Size neighbours_of(Size window) { return (HEIGHT + window - 1) * reach_of(window); }

// Which neighbours lie in the window of which centre, (HEIGHT + w - 1, reach, LANES): as what is added to products before they
// become exponentials, or, if that is not `sharp`, as what they are multiplied with.
template <class W> INLINE void draw_pattern(Size window, bool sharp, W sharpness, W *pattern) {
    const W yes = sharp ? -sharpness : 1, no = sharp ? 2 * NOWHERE : 0;
    for (Size y = 0; y < HEIGHT + window - 1; y++)
        for (Size x = 0; x < reach_of(window); x++)
            for (Size i = 0; i < LANES; i++) {
                const Size down = y - i / STEP, across = x - i % STEP;
                *pattern++ = down >= 0 && down < window && across >= 0 && across < window ? yes : no;
            }
}

// How much room `pool` needs.
INLINE Size room_to_pool(Size rows, Size features, Size classes, Size window) {
    return (features + neighbours_of(window)) * LANES + (rows + window - 1) * reach_of(window) * (classes + 1);
}

// Some rows of centres: `units(y)` and `votes(y)` are the rows of their rows + w - 1 neighbours: features (columns + w - 1, C),
// whose products are those of spectra, and votes (K + 1, columns + w - 1), the last ones 1, or all 0 where there is no
// neighbour. Into out (rows, columns, K).
template <class T, class W, class Units, class Votes>
INLINE void pool(Units units, Votes votes, const W *pattern, W *out, Size rows, Size columns, Size features, Size classes,
                 Size window, bool sharp, W *room) {
    const Size reach = reach_of(window), all = (rows + window - 1) * reach, line = columns + window - 1;
    W *weights = room, *ballots = weights + neighbours_of(window) * LANES;
    T *panel = (T *)(ballots + all * (classes + 1));
    const Multiplier<T> multiplier;
    for (Size left = 0; left < columns; left += STEP) {
        const Size there = fewer(reach, line - left), across = fewer(STEP, columns - left);
        const Size parts = (there - 1) / AT_A_TIME<T> + 1, part = (there - 1) / parts + 1;
        for (Size y = 0; y < rows + window - 1; y++)
            for (Size k = 0; k <= classes; k++) {
                W *to = ballots + k * all + y * reach;
                std::memcpy(to, votes(y) + k * line + left, there * sizeof(W));
                std::memset(to + there, 0, (reach - there) * sizeof(W));
            }
        for (Size top = 0; top < rows; top += HEIGHT) {
            const Size high = fewer(HEIGHT, rows - top), near = (high + window - 1) * reach;
            const W *mine = ballots + top * reach;
            const T *centres[LANES];
            for (Size i = 0; i < LANES; i++)
                centres[i] = units(top + fewer(i / STEP, high - 1) + window / 2) +
                             (left + fewer(i % STEP, across - 1) + window / 2) * features;
            pack(centres, features, panel);
            std::memset(weights, 0, near * LANES * sizeof(W));
            for (Size y = 0; y < high + window - 1; y++)
                for (Size x = 0; x < there; x += part)
                    multiply_rows(fewer(part, there - x), units(top + y) + (left + x) * features, features, panel, features,
                                  weights + (y * reach + x) * LANES);
            for (Size i = 0; i < near * LANES; i++)
                weights[i] = !sharp               ? weights[i] * pattern[i]
                             : pattern[i] < NOWHERE ? 0
                                                    : exponential(weights[i] + pattern[i]);
            W voters[LANES] = {};
            multiply<1>(mine + classes * all, all, sharp ? weights : pattern, near, voters);
            for (Size k = 0, some; k < classes; k += some) {
                W sums[MOST_ROWS * LANES] = {};
                some = fewer(MOST_ROWS, classes - k);
                multiply_some<MOST_ROWS>(some, mine + k * all, all, (const W *)weights, near, sums);
                for (Size i = 0; i < some; i++)
                    for (Size y = 0; y < high; y++)
                        for (Size x = 0; x < across; x++)
                            out[((top + y) * columns + left + x) * classes + k + i] =
                                sums[i * LANES + y * STEP + x] / larger(voters[y * STEP + x], W(1e-12));
            }
        }
    }
}
