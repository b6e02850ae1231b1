// What the package computes on a CPU itself. `kernels.py` calls these; where they were not compiled, torch does the same in
// several passes. setup.py compiles them once for each generation of processors.

#include "flow.h"
#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define EXPORT extern "C"

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

#define DILATE(T)                                                                                               \
    EXPORT void dilate_##T(const T *values, Size line, const Work<T> *element, T *out, Size out_line, Size rows, \
                           Size columns, Size features) {                                                       \
        for (Size y = 0; y < rows; y++, values += line, out += out_line)                                        \
            dilate(values, values + line, values + 2 * line, element, out, columns, features);                  \
    }
DILATE(float64)
DILATE(float32)
DILATE(bfloat16)

#define DILATE_BACK(T)                                                                                          \
    EXPORT void dilate_back_##T(const T *values, const T *best, const T *gradients, T *to_values,               \
                                const T *element, T *to_element, Size images, Size rows, Size columns,          \
                                Size features) {                                                                \
        dilate_back(values, best, gradients, to_values, element, to_element, images, rows, columns, features);  \
    }
DILATE_BACK(float64)
DILATE_BACK(float32)

#define CLASSIFY(T)                                                                                             \
    EXPORT Size matrices_##T() { return MATRICES<T>; }                                                          \
    EXPORT Size pieces_##T() { return PIECES_OF<T>; }                                                           \
    EXPORT Size room_##T(const Network *network, const Panel *panel) {                                          \
        return Flow<T>(*network, *panel, nullptr).bytes();                                                      \
    }                                                                                                           \
    EXPORT void classify_##T(const Network *network, const Panel *panel, void *room) {                          \
        Flow<T>(*network, *panel, room).run();                                                                  \
    }
CLASSIFY(float64)
CLASSIFY(float32)
CLASSIFY(bfloat16)

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
