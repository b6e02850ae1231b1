// What lies between the products of the dense network, each in one pass over memory. `kernels.py` calls these, and
// says what they compute; where they were not compiled, torch does the same in several passes.
//
// Values are stored as T and computed as Work<T>: bfloat16 in float32, so it is rounded once. float64 is there to
// prove that the results are exact.
//
// Shapes: y x x pixels, C features, channels last; sizes and strides are numbers of values. For the pooling: J blocks
// of centres, each with `reach` columns of neighbours, `step` columns from the next one; b centres of a block, m
// neighbours of one; K classes.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#define INLINE static inline __attribute__((always_inline))
#if defined(__x86_64__) && defined(__linux__) && !defined(__clang__)  // Clang 14 exports such functions by other names
// One binary for all processors: the loader takes the version that fits.
#if __GNUC__ >= 12
#define EXPORT extern "C" __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else  // does not know these levels
#define EXPORT extern "C" __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#else
#define EXPORT extern "C"
#endif

typedef int64_t Size;
constexpr Size MOST_CENTRES = 32;
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

template <class W> INLINE W larger(W one, W other) { return one > other ? one : other; }
template <class W> INLINE W smaller(W one, W other) { return one < other ? one : other; }
INLINE Size fewer(Size one, Size other) { return one < other ? one : other; }

INLINE float64 exponential(float64 x) { return std::exp(x); }

// Cephes' expf, to one unit in the last place; beyond +-87 as at +-87.
INLINE float32 exponential(float32 x) {
    x = smaller(larger(x, -87.0f), 87.0f);
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

template <class A, class T>
INLINE void gelu(const A *values, Size line, Size pixel, T *out, Size rows, Size columns, Size features) {
    for (Size y = 0; y < rows; y++)
        for (Size x = 0; x < columns; x++) {
            const A *__restrict from = values + y * line + x * pixel;
            T *__restrict to = out + (y * columns + x) * features;
            for (Size c = 0; c < features; c++) store(gelu_of(Work<T>(load(from[c]))), to[c]);
        }
}

template <class T>
INLINE void gate(const T *__restrict values, const T *__restrict logits, T *__restrict out, Size pixels, Size features) {
    for (Size i = 0; i < pixels; i++, values += features, logits += features, out += features)
        for (Size c = 0; c < features; c++) store(load(values[c]) / (1 + exponential(-load(logits[c]))), out[c]);
}

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

// Into (y, reach, J, C), zero beyond the columns that are there.
template <class T>
INLINE void write_units(const T *values, Size line, T *out, Size rows, Size columns, Size features, Size blocks, Size reach,
                        Size step, Work<T> size) {
    const Size wanted = (blocks - 1) * step + reach;
    for (Size y = 0; y < rows; y++)
        for (Size x = 0; x < wanted; x++) {
            const bool there = x < columns;
            const T *pixel = values + y * line + x * features;
            const Work<T> factor = there ? size / larger(length(pixel, features), Work<T>(1e-12)) : 0;
            for (Size block = fewer(x / step, blocks - 1); block >= 0 && x - block * step < reach; block--) {
                T *__restrict unit = out + ((y * reach + x - block * step) * blocks + block) * features;
                if (there)
                    for (Size c = 0; c < features; c++) store(load(pixel[c]) * factor, unit[c]);
                else
                    std::memset(unit, 0, features * sizeof(T));
            }
        }
}

// Sums of some votes of all neighbours, weighted for each centre: weights (m, b), sums (VOTES, b).
template <Size VOTES, class T>
INLINE void add_up(const Work<T> *weights, const T *votes, Size line, Size ballot, Size rows, Size columns, Size reach,
                   Size centres, Work<T> *sums) {
    Work<T> totals[VOTES][MOST_CENTRES] = {};
    for (Size y = 0; y < rows; y++)
        for (Size x = 0; x < columns; x++) {
            const Work<T> *__restrict weight = weights + (y * reach + x) * centres;
            for (Size k = 0; k < VOTES; k++) {
                const Work<T> vote = load(votes[y * line + x * ballot + k]);
                for (Size b = 0; b < centres; b++) totals[k][b] += vote * weight[b];
            }
        }
    for (Size k = 0; k < VOTES; k++) std::memcpy(sums + k * centres, totals[k], centres * sizeof *sums);
}

// Blocks `first` to `last`: cosines (m, J, b); pattern (m, b); votes (reach_rows, columns, K + 1); out (rows,
// out_columns, K); room for (m + 5, b).
template <class T>
INLINE void pool(const T *cosines, const Work<T> *pattern, const T *votes, Size line, Work<T> *out, Size rows, Size columns,
                 Size out_columns, Size classes, Size first, Size last, Size blocks, Size reach_rows, Size reach, Size step,
                 Size centres, Work<T> *room) {
    const Size neighbours = reach_rows * reach, ballot = classes + 1;
    Work<T> *weights = room, *sums = weights + neighbours * centres, *voters = sums + 4 * centres;
    for (Size block = first; block < last; block++) {
        for (Size m = 0; m < neighbours; m++) {
            const T *__restrict cosine = cosines + (m * blocks + block) * centres;
            const Work<T> *__restrict inside = pattern + m * centres;
            Work<T> *__restrict weight = weights + m * centres;
            for (Size b = 0; b < centres; b++) weight[b] = exponential(load(cosine[b]) + inside[b]);
        }
        const Size left = block * step, there = fewer(reach, columns - left), across = fewer(step, out_columns - left);
        const T *here = votes + left * ballot;
        add_up<1>(weights, here + classes, line, ballot, reach_rows, there, reach, centres, voters);
        for (Size k = 0, some; k < classes; k += some) {
            some = classes - k >= 4 ? 4 : 1;
            if (some == 4)
                add_up<4>(weights, here + k, line, ballot, reach_rows, there, reach, centres, sums);
            else
                add_up<1>(weights, here + k, line, ballot, reach_rows, there, reach, centres, sums);
            for (Size y = 0; y < rows; y++)
                for (Size x = 0; x < across; x++)
                    for (Size i = 0; i < some; i++) {
                        const Size b = y * step + x;
                        out[(y * out_columns + left + x) * classes + k + i] =
                            sums[i * centres + b] / larger(voters[b], Work<T>(1e-12));
                    }
        }
    }
}

#define GELU(A, T)                                                                                              \
    EXPORT void gelu_##A##_##T(const A *values, Size line, Size pixel, T *out, Size rows, Size columns,         \
                               Size features) {                                                                 \
        gelu(values, line, pixel, out, rows, columns, features);                                                \
    }
GELU(float64, float64)
GELU(float32, float32)
GELU(float32, bfloat16)
GELU(bfloat16, bfloat16)

#define DILATE_BACK(T)                                                                                          \
    EXPORT void dilate_back_##T(const T *values, const T *best, const T *gradients, T *to_values,               \
                                const T *element, T *to_element, Size images, Size rows, Size columns,          \
                                Size features) {                                                                \
        dilate_back(values, best, gradients, to_values, element, to_element, images, rows, columns, features);  \
    }
DILATE_BACK(float64)
DILATE_BACK(float32)

#define ALL(T)                                                                                                  \
    EXPORT void gate_##T(const T *values, const T *logits, T *out, Size pixels, Size features) {                \
        gate(values, logits, out, pixels, features);                                                            \
    }                                                                                                           \
    EXPORT void dilate_##T(const T *values, Size line, const Work<T> *element, T *out, Size out_line,           \
                           Size rows, Size columns, Size features) {                                            \
        dilate(values, line, element, out, out_line, rows, columns, features);                                  \
    }                                                                                                           \
    EXPORT void write_units_##T(const T *values, Size line, T *out, Size rows, Size columns, Size features,     \
                                Size blocks, Size reach, Size step, double size) {                              \
        write_units(values, line, out, rows, columns, features, blocks, reach, step, Work<T>(size));            \
    }                                                                                                           \
    EXPORT void pool_##T(const T *cosines, const Work<T> *pattern, const T *votes, Size line, Work<T> *out,     \
                         Size rows, Size columns, Size out_columns, Size classes, Size first, Size last,        \
                         Size blocks, Size reach_rows, Size reach, Size step, Work<T> *room) {                  \
        if (rows == 4 && step == 8) /* with numbers that the compiler knows, sums stay in registers */          \
            pool(cosines, pattern, votes, line, out, 4, columns, out_columns, classes, first, last, blocks,     \
                 reach_rows, reach, 8, 32, room);                                                               \
        else                                                                                                    \
            pool(cosines, pattern, votes, line, out, rows, columns, out_columns, classes, first, last, blocks,  \
                 reach_rows, reach, step, rows * step, room);                                                   \
    }
ALL(float64)
ALL(float32)
ALL(bfloat16)
