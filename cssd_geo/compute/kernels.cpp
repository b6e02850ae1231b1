// What lies between the large products of the dense network, each in one pass over memory, and those products that are
// faster together with what follows. `kernels.py` calls these, and says what they compute; where they were not
// compiled, torch does the same in several passes. setup.py compiles them once for each generation of processors.
//
// Shapes: y x x pixels, C features, channels last; sizes and strides are numbers of values. For the pooling: w window,
// K classes; blocks of centres, STEP columns each, share their `reach` columns of neighbours.

#include "convolution.h"
#ifdef __x86_64__
#include <cpuid.h>
#endif

#define EXPORT extern "C"

// The nine neighbours are spelled out, so that a compiler sees one loop over the features.
template <class T>
INLINE void dilate(const T *values, Size line, const Work<T> *element, T *out, Size out_line, Size rows, Size columns,
                   Size features) {
    for (Size y = 0; y < rows; y++)
        for (Size x = 0; x < columns; x++) {
            const T *__restrict top = values + y * line + x * features, *middle = top + line, *bottom = middle + line;
            T *__restrict best = out + y * out_line + x * features;
            const Size right = features, far_right = 2 * features;
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
            const Work<T> factor = size / larger(length(pixel, features), Work<T>(1e-12));
            for (Size c = 0; c < features; c++) store(load(pixel[c]) * factor, unit[c]);
        }
}

// Pixels (count, depth) times panels (n, depth, LANES), plus bias (n, LANES); `use` takes up to LANES sums of a pixel,
// and where in (count, columns) they lie.
template <class P, class W, class Use>
INLINE void project(const P *pixels, Size count, Size depth, const P *panels, const W *bias, Size columns, Use use) {
    W sums[MOST_ROWS * LANES];
    for (Size column = 0; column < columns; column += LANES) {
        for (Size i = 0; i < count; i++) std::memcpy(sums + i * LANES, bias + column, LANES * sizeof(W));
        multiply_some<MOST_ROWS>(count, pixels, depth, panels + column * depth, depth, sums);
        for (Size i = 0; i < count; i++)
            if (columns - column >= LANES)  // a number that the compiler knows
                use(sums + i * LANES, i * columns + column, LANES);
            else
                use(sums + i * LANES, i * columns + column, columns - column);
    }
}

// To `out` (count, columns) goes what `then` makes of a sum, and where it lies; `more` columns go to `rest` as they are.
template <class P, class W, class T, class Then>
INLINE void project_all(const P *pixels, const P *panels, const W *bias, T *out, W *rest, Size count, Size depth,
                        Size columns, Size more, Then then) {
    const Size whole = (columns + LANES - 1) / LANES * LANES;
    for (Size first = 0; first < count; first += MOST_ROWS) {
        const Size some = fewer(MOST_ROWS, count - first);
        const P *here = pixels + first * depth;
        T *to = out + first * columns;
        W *beside = rest + first * more;
        project(here, some, depth, panels, bias, columns, [=](const W *sums, Size at, Size few) {
            for (Size c = 0; c < few; c++) store(then(sums[c], first * columns + at + c), to[at + c]);
        });
        project(here, some, depth, panels + whole * depth, bias + whole, more, [=](const W *sums, Size at, Size few) {
            for (Size c = 0; c < few; c++) beside[at + c] = sums[c];
        });
    }
}

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
        const Size parts = (there - 1) / MOST_ROWS + 1, part = (there - 1) / parts + 1;
        for (Size y = 0; y < rows + window - 1; y++)
            for (Size x = 0; x < reach; x++)
                for (Size k = 0; k < ballot; k++)
                    ballots[k * all + y * reach + x] = x < there ? load(votes[y * vote_line + (left + x) * ballot + k]) : 0;
        for (Size top = 0; top < rows; top += HEIGHT) {
            const Size high = fewer(HEIGHT, rows - top), near = (high + window - 1) * reach;
            const W *inside = pattern + (top / HEIGHT * all + top * reach) * LANES;
            meet(block, top, high, across);
            for (Size y = 0; y < high + window - 1; y++) {
                for (Size x = 0, some; x < there; x += some) {
                    W products[MOST_ROWS * LANES] = {};
                    some = fewer(part, there - x);
                    multiply_near(block, top, top + y, x, some, products);
                    const W *__restrict to_add = inside + (y * reach + x) * LANES;
                    W *__restrict weight = weights + (y * reach + x) * LANES;
                    for (Size i = 0; i < some * LANES; i++)
                        weight[i] = !sharp ? products[i] * to_add[i]
                                    : to_add[i] < NOWHERE ? 0 : exponential(products[i] + to_add[i]);
                }
                std::memset(weights + (y * reach + there) * LANES, 0, (reach - there) * LANES * sizeof(W));
            }
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
        multiply_some<MOST_ROWS>(some, near, features, panel, features, products);
    };
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

#define PROJECT(NAME, P, T, THEN)                                                                               \
    EXPORT void project_##NAME##_##P##_##T(const P *pixels, const P *panels, const Work<P> *bias, T *out,       \
                                           Work<P> *rest, Size count, Size depth, Size columns, Size more) {    \
        project_all(pixels, panels, bias, out, rest, count, depth, columns, more,                               \
                    [=](Work<P> sum, Size at) { return (void)at, THEN; });                                      \
    }
#define PROJECT_EACH(P, T) PROJECT(plain, P, T, sum) PROJECT(gelu, P, T, gelu_of(sum))
#define PROJECT_GATE(P) PROJECT(gate, P, P, load(pixels[at]) / (1 + exponential(-sum)))
PROJECT_EACH(float64, float64)
PROJECT_EACH(float32, float32)
PROJECT_EACH(float32, bfloat16)
PROJECT_GATE(float64)
PROJECT_GATE(float32)
#ifdef __AVX512BF16__
PROJECT(plain, bfloat16, bfloat16, sum)
PROJECT_GATE(bfloat16)
#endif

#define CONVOLVE(NAME, T, THEN)                                                                                 \
    EXPORT void convolve_##NAME##_##T(const T *values, Size line, const T *panels, const Work<T> *bias, T *out, \
                                      Size rows, Size columns, Size features, Size filters, Size down,          \
                                      Size across, const T *blank, Work<T> *room) {                             \
        convolve(values, line, panels, bias, out, rows, columns, features, filters, down, across, blank, room,  \
                 [](Work<T> sum) { return THEN; });                                                             \
    }
#define CONVOLVE_EACH(T) CONVOLVE(plain, T, sum) CONVOLVE(gelu, T, gelu_of(sum))
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

// Which of the libraries of setup.py this processor runs best. The last one multiplies bfloat16, but AMX does so faster:
// there it is torch that multiplies them.
EXPORT int generation() {
#ifdef __x86_64__
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    const bool amx = __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && edx >> 22 & 1;
    return !avx2 ? 0 : !avx512 ? 1 : amx || !__builtin_cpu_supports("avx512bf16") ? 2 : 3;
#else
    return 0;
#endif
}
