/* openSMILE's inverse DFT at another rate (of its component cSpecResample), the same bits in a tenth of the time.
 *
 * The component evaluates the DFT sum at every output sample: out[i] = (x[0] + sum over k of re[k] cos + im[k] sin) /
 * (n/2). openSMILE adds one term after the other, each waiting for the one before, and every instance has tables of its
 * own. Here the terms of one output are added in that very order, in single precision and without fused operations, so
 * that the result is the same to the bit, but many outputs advance side by side, and instances with equal settings
 * share their tables.
 *
 * The three functions stand in for those of the same name in libSMILEapi: that library calls them through its symbol
 * table, and this one is loaded before it (processors/stages/opensmile_engine.py). The work object is opaque to the
 * caller. Built by hatch_build.py where there is a C compiler; without it openSMILE uses its own.
 */

#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__) && defined(__linux__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

typedef float Lanes __attribute__((vector_size(64)));
enum { LANES = 16, BLOCK = 4 * LANES }; /* outputs that advance together: a block, in four registers or sets of them */

typedef struct Work {
    long bins_in;    /* n: points of the transform; the input has n floats: x[0], x[n/2], then re, im of each bin */
    long samples;    /* outputs */
    int anti_alias;  /* leave out what lies above the outputs' Nyquist frequency */
    double divisor;  /* of the angles: 2 pi i k / divisor */
    long terms;      /* of a sum, without x[0]; rows of the table */
    long padded;     /* `samples`, rounded up to blocks: floats of a row */
    float *table;    /* [terms][padded]: what each input is multiplied with */
    long users;      /* instances that share it */
    struct Work *next;
} Work;

static Work *works;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static long last_term(const Work *work) {
    long last = work->bins_in;
    if (work->anti_alias && work->samples < last) last = work->samples;
    return last - (last & 1);
}

static int has_nyquist(const Work *work) { return work->bins_in <= work->samples; }

static Work *make(long bins_in, long samples, int anti_alias, double divisor) {
    Work *work = calloc(1, sizeof *work);
    if (!work) return NULL;
    work->bins_in = bins_in;
    work->samples = samples;
    work->anti_alias = anti_alias;
    work->divisor = divisor;
    long last = last_term(work);
    work->terms = has_nyquist(work) + (last > 2 ? last - 2 : 0);
    work->padded = (samples + BLOCK - 1) / BLOCK * BLOCK;
    size_t floats = (size_t)(work->terms ? work->terms : 1) * (size_t)work->padded;
    if (posix_memalign((void **)&work->table, 64, floats * sizeof(float))) {
        free(work);
        return NULL;
    }
    for (size_t n = 0; n < floats; n++) work->table[n] = 0.0f;
    for (long i = 0; i < samples; i++) {
        float *cell = work->table + i;
        if (has_nyquist(work)) {
            *cell = (float)cos(2.0 * M_PI * (double)(i * (bins_in / 2)) / divisor);
            cell += work->padded;
        }
        for (long k = 2; k < last; k += 2) {
            double sine, cosine;
            sincos(2.0 * M_PI * (double)(k / 2 * i) / divisor, &sine, &cosine);
            cell[0] = (float)cosine;
            cell[work->padded] = (float)sine;
            cell += 2 * work->padded;
        }
    }
    return work;
}

void *smileDsp_initIrdft(long bins_in, long samples, int anti_alias, double divisor) {
    pthread_mutex_lock(&lock);
    Work *work = works;
    while (work && !(work->bins_in == bins_in && work->samples == samples && !work->anti_alias == !anti_alias &&
                     work->divisor == divisor))
        work = work->next;
    if (!work && (work = make(bins_in, samples, anti_alias, divisor))) {
        work->next = works;
        works = work;
    }
    if (work) work->users++;
    pthread_mutex_unlock(&lock);
    return work;
}

/* The table stays when its last user goes: the next segment's engine will want it. */
int smileDsp_freeDftwork(void *opaque) {
    Work *work = opaque;
    pthread_mutex_lock(&lock);
    if (work) work->users--;
    pthread_mutex_unlock(&lock);
    return 0;
}

FOR_EACH_PROCESSOR
void smileDsp_irdft(const float *restrict in, float *restrict out, void *opaque) {
    const Work *work = opaque;
    const float scale = (float)(work->bins_in / 2);
    const int nyquist = has_nyquist(work);
    for (long at = 0; at < work->samples; at += BLOCK) {
        Lanes a = in[0] - (Lanes){}, b = a, c = a, d = a;
        for (long term = 0; term < work->terms; term++) {
            const Lanes *row = (const Lanes *)(work->table + term * work->padded + at);
            const float x = nyquist ? in[1 + term] : in[2 + term];
            a += row[0] * x;
            b += row[1] * x;
            c += row[2] * x;
            d += row[3] * x;
        }
        const Lanes sums[4] = {a / scale, b / scale, c / scale, d / scale};
        long count = work->samples - at < BLOCK ? work->samples - at : BLOCK;
        memcpy(out + at, sums, (size_t)count * sizeof(float));
    }
}
