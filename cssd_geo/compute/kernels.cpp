// What lies between the large products of the dense network, each in one pass over memory, and those products that are
// faster together with what follows. `kernels.py` calls these, and says what they compute; where they were not
// compiled, torch does the same in several passes. setup.py compiles them once for each generation of processors.
//
// Shapes: y x x pixels, C features, channels last; sizes and strides are numbers of values. For the pooling: w window,
// K classes; blocks of centres, STEP columns each, share their `reach` columns of neighbours.

#include "convolution.h"
#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define EXPORT extern "C"

constexpr Size AHEAD = 8;  // pixels from those that are computed to those that are fetched

// The nine neighbours are spelled out, so that a compiler sees one loop over the features.
template <class T>
INLINE void dilate(const T *values, Size line, const Work<T> *element, T *out, Size out_line, Size rows, Size columns,
                   Size features) {
    for (Size y = 0; y < rows; y++)
        for (Size x = 0; x < columns; x++) {
            const T *__restrict top = values + y * line + x * features, *middle = top + line, *bottom = middle + line;
            T *__restrict best = out + y * out_line + x * features;
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

// The way back, for whole images: a gradient flows to the neighbour that won, found again by comparing. Adds to
// `to_values`, and for each image to the (9, features) whose sums are the gradients of the element.
template <class T>
INLINE void dilate_back(const T *values, const T *best, const T *gradients, T *to_values, const T *element, T *to_element,
                        Size images, Size rows, Size columns, Size features) {
    for (Size image = 0; image < images; image++)
        for (Size y = 0; y < rows; y++)
            for (Size x = 0; x < columns; x++)
                for (Size i = 0; i < 9; i++) {
                    const Size pixel = ((image * rows + y) * columns + x) * features;
                    const Size neighbour = ((image * (rows + 2) + y + i / 3) * (columns + 2) + x + i % 3) * features;
                    const T *__restrict value = values + neighbour, *__restrict won = best + pixel;
                    const T *__restrict gradient = gradients + pixel;
                    T *__restrict to_value = to_values + neighbour;
                    T *__restrict to_weight = to_element + (image * 9 + i) * features;
                    for (Size c = 0; c < features; c++) {
                        const T whole = gradient[c];  // read anyhow: a branch is vectorised only where there are masks
                        const T share = value[c] * element[i] == won[c] ? whole : 0;
                        to_value[c] += share * element[i];
                        to_weight[c] += share * value[c];
                    }
                }
}

template <class T> INLINE Work<T> length(const T *values, Size features) {
    constexpr Size LANES = 16;  // sums side by side, or nothing would be
    Work<T> sums[LANES] = {}, sum = 0;
    Size c = 0;
    for (; c + LANES <= features; c += LANES)
        for (Size i = 0; i < LANES; i++) sums[i] += load(values[c + i]) * load(values[c + i]);
    for (; c < features; c++) sum += load(values[c]) * load(values[c]);
    for (Size i = 0; i < LANES; i++) sum += sums[i];
    return std::sqrt(sum);
}

template <class T>
INLINE void write_units(const T *values, Size line, T *out, Size rows, Size columns, Size features, Work<T> size) {
    for (Size y = 0; y < rows; y++)
        for (Size x = 0; x < columns; x++) {
            const T *__restrict pixel = values + y * line + x * features;
            T *__restrict unit = out + (y * columns + x) * features;
            fetch(unit + AHEAD * features, features * sizeof(T));
            fetch(pixel + AHEAD * features, features * sizeof(T));
            const Work<T> factor = size / larger(length(pixel, features), Work<T>(1e-12));
            for (Size c = 0; c < features; c++) store(load(pixel[c]) * factor, unit[c]);
        }
}

// Stored values, whose bands, rows and columns lie so far apart, as pixels (rows, columns, bands).
template <class S, class W>
INLINE void gather(const S *stored, Size band, Size line, Size column, W *out, Size rows, Size columns, Size bands) {
    constexpr Size NEAR = 64;  // columns of each band are read at a time: caches hold no fewer side by side
    for (Size y = 0; y < rows; y++, stored += line, out += columns * bands)
        for (Size left = 0; left < columns; left += NEAR) {
            const Size right = fewer(left + NEAR, columns);
            if (column != 1) {
                for (Size x = left; x < right; x++)
                    for (Size k = 0; k < bands; k++) out[x * bands + k] = W(stored[x * column + k * band]);
                continue;
            }
            for (Size k = 0; k < bands; k++) fetch(stored + k * band + right, NEAR * sizeof(S));
            for (Size first = 0; first < bands; first += LANES)
                for (Size from = left; from < right; from += LANES) {
                    W block[LANES * LANES];
                    const Size high = fewer(LANES, bands - first), wide = fewer(LANES, right - from);
                    for (Size k = 0; k < high; k++)
                        for (Size i = 0; i < wide; i++) block[k * LANES + i] = W(stored[(first + k) * band + from + i]);
                    for (Size i = 0; i < wide; i++)
                        for (Size k = 0; k < high; k++) out[(from + i) * bands + first + k] = block[k * LANES + i];
                }
        }
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
        T *to = out + first * columns, *next = to + some * columns;
        const auto multiply = begin(first, some);
        project<MOST>(
            some, bias, to, columns,
            [=](Size column, W *sums) {
                multiply(column, sums);
                fetch(next + some * column, some * LANES * sizeof(T));  // all of it, little by little
            },
            then, [=](W *sums, Size at, Size few) { finish(sums, first * columns + at, few); });
        project<MOST>(
            some, bias + whole, rest + first * more, more,
            [=](Size column, W *sums) { multiply(whole + column, sums); }, [](W sum) { return sum; },
            [](W *, Size, Size) {});
    }
}

// Pixels (count, depth) and panels (n, depth, LANES).
template <class P, class W, class T, class Then, class Finish>
INLINE void project_pixels(const P *pixels, const P *panels, const W *bias, T *out, W *rest, Size count, Size depth,
                           Size columns, Size more, Then then, Finish finish) {
    const Multiplier<P> multiplier;
    const auto begin = [=](Size first, Size some) {
        const P *here = pixels + first * depth, *next = here + some * depth;
        return [=](Size column, W *sums) {
            multiply_rows(some, here, depth, panels + column * depth, depth, sums);
            if (column < depth) fetch(next + some * column, some * LANES * sizeof(P));
        };
    };
    project_all<AT_A_TIME<P>>(begin, bias, out, rest, count, columns, more, then, finish);
}

#ifdef AMX
constexpr Size PIECES = 3;  // of bfloat16 hold all bits of a float32

// Values (depth) in (PIECES, padded); returns whether one of the last pieces is not zero.
INLINE bool cut(const float32 *__restrict values, Size depth, bfloat16 *__restrict pieces, Size padded) {
    uint32_t last = 0;
    for (Size k = 0; k < depth; k++) {
        const float32 value = values[k];
        store(value, pieces[k]);
        const float32 rest = value - load(pieces[k]);
        store(rest, pieces[padded + k]);
        const float32 end = rest - load(pieces[padded + k]);
        store(end, pieces[2 * padded + k]);
        last |= bits_of(end);
    }
    return last << 1;
}

// Pixels (count, depth) of float32 as exactly as float32 multiplies them: of the products of their pieces with those of the
// panels (n, PIECES, padded, LANES) all that are not less than its rounding, the smallest first (Henry, Tang and Heinecke
// 2019, Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations, arXiv 1904.06376).
// Room for (AT_A_TIME, PIECES, padded) of zeros.
template <class T, class Then, class Finish>
INLINE void project_pieces(const float32 *pixels, const bfloat16 *panels, const float32 *bias, T *out, float32 *rest,
                           Size count, Size depth, Size columns, Size more, Size padded, bfloat16 *room, Then then,
                           Finish finish) {
    const Size stride = PIECES * padded;
    const Multiplier<bfloat16> multiplier;
    const auto begin = [=](Size first, Size some) {
        Size last = 1;  // that is not zero, as the third one is where values are whole numbers up to 65,535
        for (Size i = 0; i < some; i++)
            if (cut(pixels + (first + i) * depth, depth, room + i * stride, padded)) last = 2;
        return [=](Size column, float32 *sums) {
            for (Size order = PIECES - 1; order >= 0; order--)
                for (Size piece = fewer(order, last); piece >= 0; piece--)
                    multiply_rows(some, room + piece * padded, stride,
                                  panels + column * stride + (order - piece) * padded * LANES, padded, sums);
        };
    };
    project_all<AT_A_TIME<bfloat16>>(begin, bias, out, rest, count, columns, more, then, finish);
}
#endif

// Centres in blocks of STEP columns, two rows of which fill the lanes of a panel.
constexpr Size STEP = 8, HEIGHT = LANES / STEP;
constexpr float32 NOWHERE = -1e30f;  // what is added to a product is less where the weight is to be zero

// Blocks `first` to `last` of a row of blocks: pattern (n, m, LANES), of m neighbours of n pairs of rows; votes (rows + w
// - 1, columns, K + 1); out (rows, out_columns, K); room for weights (m, LANES) and votes (K + 1, m). `meet` is told a
// block, the first of a pair of its rows, and how many rows and columns are there; then `multiply_near` adds the products
// of these centres with some neighbours in a row.
template <class T, class W, class Meet, class Multiply>
INLINE void pool(Meet meet, Multiply multiply_near, const W *pattern, const T *votes, Size vote_line, W *out, Size rows,
                 Size columns, Size out_columns, Size classes, Size window, bool sharp, Size first, Size last,
                 W *room) {
    const Size reach = STEP + window - 1, all = (rows + window - 1) * reach, ballot = classes + 1;
    W *weights = room, *ballots = weights + all * LANES;
    for (Size block = first; block < last; block++) {
        const Size left = block * STEP, there = fewer(reach, columns - left), across = fewer(STEP, out_columns - left);
        const Size parts = (there - 1) / AT_A_TIME<T> + 1, part = (there - 1) / parts + 1;
        for (Size y = 0; y < rows + window - 1; y++)
            for (Size x = 0; x < reach; x++)
                for (Size k = 0; k < ballot; k++)
                    ballots[k * all + y * reach + x] = x < there ? load(votes[y * vote_line + (left + x) * ballot + k]) : 0;
        for (Size top = 0; top < rows; top += HEIGHT) {
            const Size high = fewer(HEIGHT, rows - top), near = (high + window - 1) * reach;
            const W *inside = pattern + (top / HEIGHT * all + top * reach) * LANES;
            meet(block, top, high, across);
            std::memset(weights, 0, near * LANES * sizeof(W));
            for (Size y = 0; y < high + window - 1; y++)
                for (Size x = 0; x < there; x += part)
                    multiply_near(block, top, top + y, x, fewer(part, there - x), weights + (y * reach + x) * LANES);
            for (Size i = 0; i < near * LANES; i++)
                weights[i] = !sharp ? weights[i] * inside[i] : inside[i] < NOWHERE ? 0 : exponential(weights[i] + inside[i]);
            W voters[LANES] = {};
            multiply<1>(ballots + classes * all + top * reach, all, sharp ? weights : inside, near, voters);
            for (Size k = 0, some; k < classes; k += some) {
                W sums[MOST_ROWS * LANES] = {};
                some = fewer(MOST_ROWS, classes - k);
                multiply_some<MOST_ROWS>(some, ballots + k * all + top * reach, all, weights, near, sums);
                for (Size i = 0; i < some; i++)
                    for (Size y = 0; y < high; y++)
                        for (Size x = 0; x < across; x++)
                            out[((top + y) * out_columns + left + x) * classes + k + i] =
                                sums[i * LANES + y * STEP + x] / larger(voters[y * STEP + x], W(1e-12));
            }
        }
    }
}

// Of units (rows + w - 1, columns, C), with more room for a panel.
template <class T, class W>
INLINE void pool_units(const T *units, Size line, Size features, const W *pattern, const T *votes, Size vote_line, W *out,
                       Size rows, Size columns, Size out_columns, Size classes, Size window, bool sharp, Size first,
                       Size last, W *room) {
    const T *centre = units + window / 2 * (line + features);
    T *panel = (T *)room;
    auto meet = [=](Size block, Size top, Size high, Size across) {
        const T *centres[LANES];
        for (Size i = 0; i < LANES; i++)
            centres[i] = centre + (top + fewer(i / STEP, high - 1)) * line +
                         (block * STEP + fewer(i % STEP, across - 1)) * features;
        pack(centres, features, panel);
    };
    auto multiply_near = [=](Size block, Size, Size y, Size x, Size some, W *products) {
        const T *near = units + y * line + (block * STEP + x) * features;
        multiply_rows(some, near, features, panel, features, products);
    };
    const Multiplier<T> multiplier;
    pool(meet, multiply_near, pattern, votes, vote_line, out, rows, columns, out_columns, classes, window, sharp, first, last,
         room + features * LANES);
}

// Of given products of m neighbours with `rows` x STEP centres, (m, J, b).
template <class T, class W>
INLINE void pool_products(const T *given, Size blocks, const W *pattern, const T *votes, Size vote_line, W *out, Size rows,
                          Size columns, Size out_columns, Size classes, Size window, bool sharp, Size first, Size last,
                          W *room) {
    auto meet = [](Size, Size, Size, Size) {};
    auto look_up = [=](Size block, Size top, Size y, Size x, Size some, W *products) {
        const Size centres = rows * STEP, there = fewer(LANES, centres - top * STEP), reach = STEP + window - 1;
        for (Size i = 0; i < some; i++) {
            const T *__restrict here = given + ((y * reach + x + i) * blocks + block) * centres + top * STEP;
            for (Size j = 0; j < there; j++) products[i * LANES + j] = load(here[j]);
        }
    };
    pool(meet, look_up, pattern, votes, vote_line, out, rows, columns, out_columns, classes, window, sharp, first, last, room);
}

#define DILATE_BACK(T)                                                                                          \
    EXPORT void dilate_back_##T(const T *values, const T *best, const T *gradients, T *to_values,               \
                                const T *element, T *to_element, Size images, Size rows, Size columns,          \
                                Size features) {                                                                \
        dilate_back(values, best, gradients, to_values, element, to_element, images, rows, columns, features);  \
    }
DILATE_BACK(float64)
DILATE_BACK(float32)

#define GATHER(NAME, S)                                                                                         \
    EXPORT void gather_##NAME(const S *stored, Size band, Size line, Size column, float32 *out, Size rows,      \
                              Size columns, Size bands) {                                                       \
        gather(stored, band, line, column, out, rows, columns, bands);                                          \
    }
GATHER(uint8, uint8_t)
GATHER(uint16, uint16_t)
GATHER(int16, int16_t)
GATHER(float32, float32)

#define POOL_UNITS(T)                                                                                           \
    EXPORT void pool_units_##T(const T *units, Size line, Size features, const Work<T> *pattern, const T *votes, \
                               Size vote_line, Work<T> *out, Size rows, Size columns, Size out_columns,         \
                               Size classes, Size window, Size sharp, Size first, Size last, Work<T> *room) {   \
        pool_units(units, line, features, pattern, votes, vote_line, out, rows, columns, out_columns, classes,  \
                   window, sharp, first, last, room);                                                           \
    }
POOL_UNITS(float64)
POOL_UNITS(float32)
#ifdef __AVX512BF16__
POOL_UNITS(bfloat16)
#endif

#define PROJECT(NAME, P, T, THEN, FINISH)                                                                       \
    EXPORT void project_##NAME##_##P##_##T(const P *pixels, const P *panels, const Work<P> *bias, T *out,       \
                                           Work<P> *rest, Size count, Size depth, Size columns, Size more) {    \
        project_pixels(pixels, panels, bias, out, rest, count, depth, columns, more,                            \
                       [](Work<P> sum) { return THEN; }, [=](Work<P> *sums, Size at, Size few) { FINISH; });    \
    }
#define NOTHING (void)sums, (void)at, (void)few
#define PROJECT_EACH(P, T) PROJECT(plain, P, T, sum, NOTHING) PROJECT(gelu, P, T, gelu_of(sum), NOTHING)
#define SIGMOID 1 / (1 + exponential(-sum))
#define TIMES_PIXELS                                                                                            \
    for (Size c = 0; c < few; c++) sums[c] *= load(pixels[at + c])
#define PROJECT_GATE(P) PROJECT(gate, P, P, SIGMOID, TIMES_PIXELS)
PROJECT_EACH(float64, float64)
PROJECT_EACH(float32, float32)
PROJECT_EACH(float32, bfloat16)
PROJECT_GATE(float64)
PROJECT_GATE(float32)
#ifdef __AVX512BF16__
PROJECT(plain, bfloat16, bfloat16, sum, NOTHING)
PROJECT_GATE(bfloat16)
#endif

#ifdef AMX
#define PROJECT_PIECES(NAME, T, THEN, FINISH)                                                                   \
    EXPORT void project_pieces_##NAME##_##T(const float32 *pixels, const bfloat16 *panels, const float32 *bias, \
                                            T *out, float32 *rest, Size count, Size depth, Size columns,        \
                                            Size more, Size padded, bfloat16 *room) {                           \
        project_pieces(pixels, panels, bias, out, rest, count, depth, columns, more, padded, room,              \
                       [](float32 sum) { return THEN; },                                                        \
                       [=](float32 *sums, Size at, Size few) { FINISH; });                                      \
    }
#define PROJECT_PIECES_EACH(T)                                                                                  \
    PROJECT_PIECES(plain, T, sum, NOTHING) PROJECT_PIECES(gelu, T, gelu_of(sum), NOTHING)
PROJECT_PIECES_EACH(float32)
PROJECT_PIECES_EACH(bfloat16)
PROJECT_PIECES(gate, float32, SIGMOID, TIMES_PIXELS)
#endif

#define CONVOLVE(NAME, T, THEN)                                                                                 \
    EXPORT void convolve_##NAME##_##T(const T *values, Size line, const T *panels, const Work<T> *bias, T *out, \
                                      Size rows, Size columns, Size features, Size filters, Size down,          \
                                      Size across, const T *blank, Work<T> *room) {                             \
        convolve(values, line, panels, bias, out, rows, columns, features, filters, down, across, blank, room,  \
                 [](Work<T> sum) { return THEN; });                                                             \
    }
#define CONVOLVE_EACH(T)                                                                                        \
    EXPORT Size matrices_##T() { return MATRICES<T>; }                                                          \
    CONVOLVE(plain, T, sum) CONVOLVE(gelu, T, gelu_of(sum))
CONVOLVE_EACH(float64)
CONVOLVE_EACH(float32)
#ifdef __AVX512BF16__
CONVOLVE_EACH(bfloat16)
#endif

#define ALL(T)                                                                                                  \
    EXPORT void dilate_##T(const T *values, Size line, const Work<T> *element, T *out, Size out_line,           \
                           Size rows, Size columns, Size features) {                                            \
        dilate(values, line, element, out, out_line, rows, columns, features);                                  \
    }                                                                                                           \
    EXPORT void write_units_##T(const T *values, Size line, T *out, Size rows, Size columns, Size features,     \
                                double size) {                                                                  \
        write_units(values, line, out, rows, columns, features, Work<T>(size));                                 \
    }                                                                                                           \
    EXPORT void pool_products_##T(const T *products, Size blocks, const Work<T> *pattern, const T *votes,       \
                                  Size vote_line, Work<T> *out, Size rows, Size columns, Size out_columns,      \
                                  Size classes, Size window, Size sharp, Size first, Size last,                 \
                                  Work<T> *room) {                                                              \
        pool_products(products, blocks, pattern, votes, vote_line, out, rows, columns, out_columns, classes,    \
                      window, sharp, first, last, room);                                                        \
    }
ALL(float64)
ALL(float32)
ALL(bfloat16)

// Whether the system lets this process, and those that it forks, use the processor's tiles (Linux: arch_prctl(2)).
INLINE bool has_tiles() {
#if defined(__x86_64__) && defined(__linux__)
    const long ask = 0x1023, tiles = 18;  // ARCH_REQ_XCOMP_PERM, XTILEDATA
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    const bool multiply = __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && edx >> 24 & 1 && edx >> 22 & 1;
    return multiply && syscall(SYS_arch_prctl, ask, tiles) == 0;
#else
    return false;
#endif
}

// Which of the libraries of setup.py this processor runs best.
EXPORT int generation() {
#ifdef __x86_64__
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    const bool bfloat16 = __builtin_cpu_supports("avx512bf16");
    return !avx2 ? 0 : !avx512 ? 1 : !bfloat16 ? 2 : !has_tiles() ? 3 : 4;
#else
    return 0;
#endif
}
