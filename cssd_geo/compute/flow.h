// The whole network for a panel of a scene, a few rows at a time, so that what one stage writes the next one finds in the
// second cache.
//
// Shapes: X columns of a panel with its halo; B bands, C features, D filters, K classes, w window. Rows and columns of all
// stages are numbered as in the panel. Each stage lags behind the one before it, by what it needs of the rows below.

#pragma once

#include "convolution.h"
#include "pooling.h"
#include "stages.h"

constexpr Size TURN = 2;        // rows that enter at a time
constexpr Size MARGIN = 3;      // rows and columns on each side that a dilation and two convolutions take
constexpr Size BLOCK_ROWS = 8;  // of centres that are pooled together
constexpr Size SOME = 64 / AT_A_TIME<bfloat16> * AT_A_TIME<bfloat16>;  // pixels that go through the first stages together

// A trained network, its weights laid out as in `panels.py`; `flow.py` has the same fields.
struct Network {
    Size bands, features, filters, classes, window, activated, sharp;
    float64 sharpness;
    const void *spectral, *spectral_bias, *teacher, *teacher_bias, *attention, *attention_bias, *element;
    const void *spatial, *spatial_bias, *classifier, *classifier_bias;
};

// Part of a scene with its halo: stored values of a type, whose bands, rows and columns lie so far apart; where it begins in
// the scene; where results go, (rows, columns, K) without the halo.
struct Panel {
    const void *stored;
    Size kind, band, line, column;
    const uint8_t *valid;
    Size valid_line, rows, columns, top, left;
    void *main, *spectral;
};

// Memory, handed out piece by piece; without any it counts what is needed.
class Room {
  public:
    explicit Room(void *start) : next((char *)start), bytes(0) {}
    template <class V> V *take(Size count) {
        const Size some = (count * Size(sizeof(V)) + 63) / 64 * 64 + 64;  // whole lines, and one that may be read beyond
        char *here = next;
        bytes += some;
        if (next) next += some;
        return (V *)here;
    }
    Size taken() const { return bytes; }

  private:
    char *next;
    Size bytes;
};

// The last rows of a stage, in the place of those before them.
template <class V> class Rows {
  public:
    Rows(Room &room, Size count, Size line) : values(room.take<V>(count * line)), count(count), line(line) {}
    V *operator[](Size row) const { return values + row % count * line; }

  private:
    V *values;
    Size count, line;
};

// `run` computes a panel once, in the memory that it is given. A stage keeps the rows that enter in a turn, those around them
// that the next stage needs, and those that wait until it has whole tiles or a block.
template <class T> class Flow {
    using W = Work<T>;

  public:
    Flow(const Network &network, const Panel &panel, void *memory)
        : net(network), panel(panel), out_rows(panel.rows - halo()), out_columns(panel.columns - halo()), room(memory),
          pixels(room.take<W>(SOME * net.bands)), features(room.take<T>(SOME * net.features)),
          opinions(room.take<W>(SOME * net.classes)), band_pieces(room.take<bfloat16>(size_of_pieces(net.bands))),
          feature_pieces(room.take<bfloat16>(size_of_pieces(net.features))),
          blank(room.take<T>(larger(net.features, net.filters))),
          logits(room.take<W>((TURN + 2) * panel.columns * net.classes)),
          convolving(room.take<W>(larger(room_to_convolve<T>(net.features, net.filters),
                                         room_to_convolve<T>(net.filters, net.classes)))),
          pooling(room.take<W>(room_to_pool(BLOCK_ROWS, net.features, net.classes, net.window))),
          pattern(room.take<W>(neighbours_of(net.window) * LANES)), attended(room, TURN + 2, panel.columns * net.features),
          refined(room, TURN + 4, panel.columns * net.features), spatial(room, TURN + 4, panel.columns * net.filters),
          units(room, BLOCK_ROWS + net.window + TURN + 8, panel.columns * net.features),
          votes(room, BLOCK_ROWS + net.window + TURN + 2, panel.columns * (net.classes + 1)) {}

    Size bytes() const { return room.taken(); }

    void run() {
        std::memset(blank, 0, larger(net.features, net.filters) * sizeof(T));
        std::memset(band_pieces, 0, size_of_pieces(net.bands) * sizeof(bfloat16));
        std::memset(feature_pieces, 0, size_of_pieces(net.features) * sizeof(bfloat16));
        draw_pattern(net.window, net.sharp, W(net.sharpness), pattern);
        Size seen = 0, refine_from = 1, filter_from = 2, vote_from = MARGIN, pooled = 0;
        while (seen < panel.rows) {
            const Size stop = fewer(seen + TURN, panel.rows);
            for (; seen < stop; seen++) look(seen);
            for (; refine_from < stop - 1; refine_from++) refine(refine_from);
            filter_from = filter(filter_from, whole_tiles(stop - 2, stop));
            vote_from = vote(vote_from, whole_tiles(filter_from - 1, stop));
            for (Size some; (some = fewer(BLOCK_ROWS, out_rows - pooled)) > 0 &&
                            vote_from >= MARGIN + pooled + some + net.window - 1;
                 pooled += some)
                decide(pooled, some);
        }
    }

  private:
    Size halo() const { return net.window - 1 + 2 * MARGIN; }
    bool valid(Size y, Size x) const { return panel.valid[y * panel.valid_line + x]; }

    // Before which row a convolution has whole tiles, if it has values for rows before `end`; at the end of the panel it does
    // not wait for more.
    Size whole_tiles(Size end, Size stop) const { return stop == panel.rows ? end : end - ((panel.top + end) & 1); }

    // Zero what is not valid of a row from a column on.
    template <class V> void hide(V *values, Size y, Size from, Size columns, Size depth) const {
        for (Size x = 0; x < columns; x++)
            if (!valid(y, from + x)) std::memset(values + x * depth, 0, depth * sizeof(V));
    }

    // Do something with what becomes of features.
    template <class Do> void with_activation(Do what) const {
        if (net.activated)
            what([](W sum) { return gelu_of(sum); });
        else
            what(nothing_more);
    }

    // All that is done with spectra, some pixels of a row at a time.
    void look(Size y) {
        for (Size left = 0; left < panel.columns; left += SOME) {
            const Size count = fewer(SOME, panel.columns - left);
            gather_some(panel.stored, panel.kind, y * panel.line + left * panel.column, panel.band, panel.column, pixels,
                        count, net.bands);
            map_bands(y, left, count);
            keep_opinions(y, left, count);
            keep_units(y, left, count);
            attend(y, left, count);
        }
    }

    // Bands to features, and to the spectral head's opinion.
    void map_bands(Size y, Size left, Size count) {
        const W *bands = pixels;
        with_activation([&](auto then) {
            product(bands, net.spectral, (const W *)net.spectral_bias, features, opinions, count, net.bands, net.features,
                    net.teacher ? 0 : net.classes, band_pieces, then, untouched);
        });
        hide(features, y, left, count, net.features);
        if (net.teacher)
            product((const T *)features, net.teacher, (const W *)net.teacher_bias, opinions, opinions, count, net.features,
                    net.classes, 0, feature_pieces, nothing_more, untouched);
    }

    // The spectral head's opinion of pixels from column `left`, of which those of the halo are nobody's.
    void keep_opinions(Size y, Size left, Size count) const {
        const Size before = MARGIN + net.window / 2, row = y - before;
        if (row < 0 || row >= out_rows) return;
        const Size from = larger(left, before), to = fewer(left + count, before + out_columns);
        if (from < to)
            std::memcpy((W *)panel.spectral + (row * out_columns + from - before) * net.classes,
                        opinions + (from - left) * net.classes, (to - from) * net.classes * sizeof(W));
    }

    void keep_units(Size y, Size left, Size count) const {
        const Size from = larger(left, MARGIN), to = fewer(left + count, panel.columns - MARGIN);
        if (from < to && y >= MARGIN && y < panel.rows - MARGIN)
            write_units(features + (from - left) * net.features, units[y] + from * net.features, to - from, net.features,
                        W(net.sharp ? std::sqrt(net.sharpness) : 1));
    }

    // Features times the gate that they open.
    void attend(Size y, Size left, Size count) {
        const T *values = features;
        product(values, net.attention, (const W *)net.attention_bias, attended[y] + left * net.features, opinions, count,
                net.features, net.features, 0, feature_pieces, [](W sum) { return 1 / (1 + exponential(-sum)); },
                [=](W *sums, Size at, Size few) {
                    for (Size c = 0; c < few; c++) sums[c] *= load(values[at + c]);
                });
    }

    // The largest of what is around, weighted.
    void refine(Size y) {
        dilate(attended[y - 1], attended[y], attended[y + 1], (const W *)net.element, refined[y] + net.features,
               panel.columns - 2, net.features);
        hide(refined[y] + net.features, y, 1, panel.columns - 2, net.features);
    }

    // The spatial features of rows from `first` to `end`; returns where it got.
    Size filter(Size first, Size end) {
        if (first >= end) return first;
        const auto rows = [&](Size i) -> const T * { return refined[first - 1 + i] + net.features; };
        const auto out = [&](Size i) -> T * { return spatial[first + i] + 2 * net.filters; };
        with_activation([&](auto then) {
            convolve(rows, (const T *)net.spatial, (const W *)net.spatial_bias, out, end - first, panel.columns - 4,
                     net.features, net.filters, (panel.top + first) & 1, panel.left & 1, (const T *)blank, convolving, then);
        });
        for (Size y = first; y < end; y++) hide(spatial[y] + 2 * net.filters, y, 2, panel.columns - 4, net.filters);
        return end;
    }

    // Their votes, (K + 1, columns) a row: logits and a last 1, all 0 where not valid; returns where it got.
    Size vote(Size first, Size end) {
        if (first >= end) return first;
        const Size columns = panel.columns - 2 * MARGIN;
        const auto rows = [&](Size i) -> const T * { return spatial[first - 1 + i] + 2 * net.filters; };
        const auto out = [&](Size i) -> W * { return logits + i * columns * net.classes; };
        convolve(rows, (const T *)net.classifier, (const W *)net.classifier_bias, out, end - first, columns, net.filters,
                 net.classes, (panel.top + first) & 1, (panel.left + MARGIN) & 1, (const T *)blank, convolving,
                 nothing_more);
        for (Size y = first; y < end; y++)
            for (Size x = 0; x < columns; x++) {
                const bool counts = valid(y, MARGIN + x);
                const W *mine = out(y - first) + x * net.classes;
                for (Size k = 0; k < net.classes; k++) votes[y][k * columns + x] = counts ? mine[k] : 0;
                votes[y][net.classes * columns + x] = counts;
            }
        return end;
    }

    // The main head's opinion, of so many rows from `first` of the results.
    void decide(Size first, Size count) {
        const auto near = [&](Size y) -> const T * { return units[MARGIN + first + y] + MARGIN * net.features; };
        const auto ballots = [&](Size y) -> const W * { return votes[MARGIN + first + y]; };
        pool<T>(near, ballots, (const W *)pattern, (W *)panel.main + first * out_columns * net.classes, count, out_columns,
                net.features, net.classes, net.window, net.sharp, pooling);
    }

    const Network net;
    const Panel panel;
    const Size out_rows, out_columns;
    Room room;
    W *const pixels;
    T *const features;
    W *const opinions;
    bfloat16 *const band_pieces, *const feature_pieces;
    T *const blank;
    W *const logits, *const convolving, *const pooling, *const pattern;
    const Rows<T> attended, refined, spatial, units;
    const Rows<W> votes;
};
