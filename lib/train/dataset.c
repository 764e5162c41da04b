/* dataset.c: the order of samples, and batches of them.
 *
 * A view has the samples first … first + count − 1 of an order of the source's samples that split_seed gives (the
 * files' own while nothing was split off); epoch e takes them in an order that (seed, e) gives. Neither order is stored
 * (permutation.h), so a position is a few numbers: the first sample of the epoch not all used, how many of its
 * sequences are, and a bit for each of the WINDOW samples from it on.
 *
 * Packing goes through the window in order and takes what fits: the first sample always does, so none waits for long.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "dataset.h"
#include "permutation.h"

enum { WINDOW = 64 /* bits of a position */ };

/* A sample that was read: number `sample` of epoch `epoch`. */
typedef struct slot {
    bool full;
    uint64_t epoch, sample;
    clf_sample data;
} slot;

struct clf_dataset {
    clf_data_source *source;
    clf_dataset_args args;
    clf_error err;
    bool split, begun;
    uint64_t first, count;
    clf_permutation split_order, order; /* `order`: of epoch order_epoch */
    uint64_t order_epoch;
    clf_dataset_position position;
    slot slots[WINDOW];
    clf_text text;
    clf_scratch scratch;
    int64_t longest;                            /* tokens of a sample, since clf_dataset_scan() began */
    int32_t *ids, *labels, *positions, *starts; /* [capacity], starts [capacity + 1] */
    size_t capacity;
};

static uint64_t fingerprint(const clf_dataset *d) {
    const uint64_t parts[] = {
        clf_data_source_hash(d->source),
        (uint64_t)d->args.context,
        (uint64_t)(d->args.pack | d->args.split << 1 | d->args.preference << 2 | d->args.ordered << 3 | d->split << 4),
        d->args.seed,
        d->split ? d->args.split_seed : 0,
        d->first,
        d->count};
    return XXH3_64bits(parts, sizeof parts);
}

static void set_order(clf_dataset *d, uint64_t epoch) {
    d->order = clf_permutation_of(d->args.seed, epoch, d->count);
    d->order_epoch = epoch;
}

/* To the beginning of a view whose first and count are set. */
static void begin(clf_dataset *d) {
    set_order(d, 0);
    for (int i = 0; i < WINDOW; i++) d->slots[i].full = false;
    d->position = (clf_dataset_position){.fingerprint = fingerprint(d)};
}

static clf_status check_args(const clf_dataset_args *a, clf_error *err) {
    CLF_CHECK(err, a->path || (a->paths && a->n_paths), CLF_INVALID_ARGUMENT,
              "dataset: path: expected a file, got none");
    CLF_CHECK(err, a->path || a->n_paths < 1 << 20, CLF_INVALID_ARGUMENT, "dataset: n_paths: expected fewer, got %zu",
              a->n_paths);
    CLF_CHECK(err, a->context >= 2 && a->context <= 1 << 24, CLF_INVALID_ARGUMENT,
              "dataset: context: expected 2 to %d tokens, got %lld", 1 << 24, (long long)a->context);
    CLF_CHECK(err, a->format >= CLF_DATASET_AUTO && a->format <= CLF_DATASET_TOKENS, CLF_INVALID_ARGUMENT,
              "dataset: format: expected a format, got %d", (int)a->format);
    CLF_CHECK(err, !a->preference || !a->split, CLF_INVALID_ARGUMENT, "dataset: split: a pair can't be split");
    CLF_CHECK(err, a->max_line <= 1 << 28, CLF_INVALID_ARGUMENT, "dataset: max_line: expected at most %d, got %llu",
              1 << 28, (unsigned long long)a->max_line);
    return CLF_OK;
}

static clf_status create(clf_dataset **out, const clf_dataset_args *args, clf_error *err) {
    CLF_CHECK(err, args, CLF_INVALID_ARGUMENT, "dataset: expected arguments, got NULL");
    CLF_TRY(check_args(args, err));
    clf_dataset *d = *out = calloc(1, sizeof *d);
    CLF_CHECK(err, d, CLF_OUT_OF_MEMORY, "dataset: out of memory");
    d->args = *args;
    if (!d->args.max_line) d->args.max_line = 1 << 24;
    CLF_TRY(clf_data_source_create(&d->source, &d->args, err));
    d->args.path = NULL; /* the caller's */
    d->args.paths = NULL;
    d->args.error = NULL;
    d->count = clf_data_source_count(d->source);
    begin(d);
    return CLF_OK;
}

clf_status clf_dataset_create(clf_dataset **out, const clf_dataset_args *args) {
    clf_error err = {0};
    if (out) *out = NULL;
    const clf_status st = out ? create(out, args, &err)
                              : clf_fail(&err, CLF_INVALID_ARGUMENT, "dataset: out: expected a pointer, got NULL");
    if (st != CLF_OK && out) {
        clf_dataset_destroy(*out);
        *out = NULL;
    }
    if (args && args->error && args->error_size) snprintf(args->error, args->error_size, "%s", err.message);
    return st;
}

void clf_dataset_destroy(clf_dataset *d) {
    if (!d) return;
    clf_data_source_release(d->source);
    for (int i = 0; i < WINDOW; i++) clf_sample_clear(&d->slots[i].data);
    clf_scratch_clear(&d->scratch);
    free(d->text.data);
    free(d->ids);
    free(d->labels);
    free(d->positions);
    free(d->starts);
    free(d);
}

const char *clf_dataset_error(const clf_dataset *d) {
    return d ? d->err.message : "";
}

clf_status clf_dataset_split(clf_dataset *d, double share, clf_dataset **out) {
    if (out) *out = NULL;
    if (!d || !out) return CLF_INVALID_ARGUMENT;
    clf_error_clear(&d->err);
    CLF_CHECK(&d->err, share > 0 && share < 1, CLF_INVALID_ARGUMENT,
              "dataset split: share: expected between 0 and 1, got %g", share);
    CLF_CHECK(&d->err, d->count >= 2, CLF_INVALID_ARGUMENT, "dataset split: expected two samples at least, got %llu",
              (unsigned long long)d->count);
    CLF_CHECK(&d->err, !d->begun, CLF_INVALID_ARGUMENT, "dataset split: batches were taken already");
    uint64_t taken = (uint64_t)(share * (double)d->count + 0.5);
    taken = taken < 1 ? 1 : taken >= d->count ? d->count - 1 : taken;
    clf_dataset *other = calloc(1, sizeof *other);
    CLF_CHECK(&d->err, other, CLF_OUT_OF_MEMORY, "dataset split: out of memory");
    other->source = clf_data_source_retain(d->source);
    other->args = d->args;
    other->first = d->first;
    other->count = taken;
    d->first += taken;
    d->count -= taken;
    d->split_order = other->split_order =
        clf_permutation_of(d->args.split_seed, UINT64_MAX, clf_data_source_count(d->source));
    d->split = other->split = true;
    begin(d);
    begin(other);
    *out = other;
    return CLF_OK;
}

/* Reads number `i` of the view's samples into `sample`. */
static clf_status read_sample(clf_dataset *d, uint64_t i, clf_sample *sample) {
    const uint64_t number = d->split ? clf_permute(&d->split_order, d->first + i) : i;
    return clf_data_source_read(d->source, &d->args, number, &d->text, &d->scratch, sample, &d->err);
}

/* Number `i` of the epoch's samples, read and cut. */
static clf_status load(clf_dataset *d, uint64_t epoch, uint64_t i, const clf_sample **out) {
    slot *s = &d->slots[i % WINDOW];
    if (!s->full || s->epoch != epoch || s->sample != i) {
        if (d->order_epoch != epoch) set_order(d, epoch);
        s->full = false;
        CLF_TRY(read_sample(d, d->args.ordered ? i : clf_permute(&d->order, i), &s->data));
        CLF_TRY(clf_sample_cut(&s->data, (size_t)d->args.context, d->args.split || s->data.running, &d->err));
        s->full = true;
        s->epoch = epoch;
        s->sample = i;
    }
    for (size_t k = 0; k < s->data.documents.count; k++) {
        const clf_span document = s->data.documents.data[k];
        const int64_t n = (int64_t)(document.end - document.begin);
        if (n > d->longest) d->longest = n;
    }
    *out = &s->data;
    return CLF_OK;
}

/* Sample i is used: the position goes on to the first that isn't. */
static void use(clf_dataset_position *p, uint64_t i) {
    p->used |= (uint64_t)1 << (i - p->sample);
    for (; p->used & 1; p->used >>= 1) {
        p->sample++;
        p->sequence = 0;
    }
}

static bool is_used(const clf_dataset_position *p, uint64_t i) {
    return p->used >> (i - p->sample) & 1;
}

static void put_sequence(clf_dataset *d, clf_batch *b, const clf_sample *sample, clf_span span) {
    const size_t n = span.end - span.begin, at = (size_t)b->tokens;
    const size_t room = d->args.pack ? n : (size_t)d->args.context;
    memcpy(d->ids + at, sample->ids.data + span.begin, n * sizeof *d->ids);
    memcpy(d->labels + at, sample->labels.data + span.begin, n * sizeof *d->labels);
    for (size_t k = 0; k < room; k++) d->positions[at + k] = (int32_t)k;
    for (size_t k = n; k < room; k++) {
        d->ids[at + k] = 0;
        d->labels[at + k] = CLF_LABEL_NONE;
    }
    for (size_t k = 0; k < n; k++) b->targets += d->labels[at + k] != CLF_LABEL_NONE;
    d->starts[b->sequences++] = (int32_t)at;
    b->tokens += (int64_t)room;
    b->padding += (int64_t)(room - n);
    d->starts[b->sequences] = (int32_t)b->tokens;
}

/* Takes what fits of sample i, from its sequence `first` on. @return how many sequences of it are used then */
static size_t take(clf_dataset *d, clf_batch *b, int64_t capacity, const clf_sample *sample, size_t first) {
    const clf_span *s = sample->sequences.data;
    const size_t count = sample->sequences.count, unit = d->args.preference ? 2 : 1;
    size_t next = first;
    for (; next < count; next += unit) {
        int64_t need = 0;
        for (size_t k = next; k < next + unit; k++)
            need += d->args.pack ? (int64_t)(s[k].end - s[k].begin) : d->args.context;
        if (need > capacity - b->tokens) break;
        for (size_t k = next; k < next + unit; k++) put_sequence(d, b, sample, s[k]);
    }
    if (next > first && next >= count) {
        b->truncated += sample->truncated;
        b->lost += sample->lost;
    }
    return next;
}

/* Fills the batch and moves `p` behind it. */
static clf_status fill(clf_dataset *d, clf_batch *b, int64_t capacity, clf_dataset_position *p) {
    const uint64_t window = d->args.pack ? WINDOW : 1;
    const clf_sample *sample;
    for (uint64_t i = p->sample;
         i < d->count && i - p->sample < window && b->tokens<capacity; i = i + 1> p->sample ? i + 1 : p->sample) {
        if (is_used(p, i)) continue;
        CLF_TRY(load(d, p->epoch, i, &sample));
        const size_t count = sample->sequences.count, first = i == p->sample ? (size_t)p->sequence : 0;
        if (count == 0) {
            b->dropped++;
            use(p, i);
        } else if (i == p->sample || count <= (d->args.preference ? 2 : 1)) {
            const size_t next = take(d, b, capacity, sample, first);
            if (next >= count)
                use(p, i);
            else if (i == p->sample)
                p->sequence = next;
        }
    }
    /* whether anything is left, so that the epoch's last batch is known as such */
    while (p->sample < d->count) {
        CLF_TRY(load(d, p->epoch, p->sample, &sample));
        if (sample->sequences.count) return CLF_OK;
        b->dropped++;
        use(p, p->sample);
    }
    b->last = true;
    *p = (clf_dataset_position){.fingerprint = p->fingerprint, .epoch = p->epoch + 1};
    return CLF_OK;
}

static clf_status grow(int32_t **array, size_t n) {
    int32_t *grown = realloc(*array, n * sizeof *grown);
    if (!grown) return CLF_OUT_OF_MEMORY;
    *array = grown;
    return CLF_OK;
}

static clf_status reserve(clf_dataset *d, int64_t rows, clf_error *err) {
    const int64_t unit = d->args.preference ? 2 : 1;
    CLF_CHECK(err, rows >= unit && rows % unit == 0 && rows <= INT32_MAX / d->args.context, CLF_INVALID_ARGUMENT,
              "dataset: rows: expected %s, at most %lld, got %lld", unit == 2 ? "an even number" : "at least 1",
              (long long)(INT32_MAX / d->args.context), (long long)rows);
    const size_t n = (size_t)(rows * d->args.context);
    if (n <= d->capacity) return CLF_OK;
    if (grow(&d->ids, n) || grow(&d->labels, n) || grow(&d->positions, n) || grow(&d->starts, n + 1))
        return clf_fail(err, CLF_OUT_OF_MEMORY, "dataset: out of memory for %zu tokens", n);
    d->capacity = n;
    return CLF_OK;
}

static clf_status next_at(clf_dataset *d, int64_t rows, clf_dataset_position *p, clf_batch *b) {
    *b = (clf_batch){.ids = d->ids,
                     .labels = d->labels,
                     .positions = d->positions,
                     .starts = d->starts,
                     .epoch = (int64_t)p->epoch,
                     .pairs = d->args.preference};
    d->starts[0] = 0;
    CLF_TRY(fill(d, b, rows * d->args.context, p));
    CLF_CHECK(&d->err, b->sequences, CLF_BAD_FILE, "dataset: no sample has a target within %lld tokens",
              (long long)d->args.context);
    return CLF_OK;
}

clf_status clf_dataset_next(clf_dataset *d, int64_t rows, clf_batch *batch) {
    if (!d || !batch) return CLF_INVALID_ARGUMENT;
    clf_error_clear(&d->err);
    CLF_TRY(reserve(d, rows, &d->err));
    clf_dataset_position p = d->position;
    clf_batch b;
    CLF_TRY(next_at(d, rows, &p, &b));
    d->position = p;
    d->begun = true;
    *batch = b;
    return CLF_OK;
}

clf_dataset_position clf_dataset_tell(const clf_dataset *d) {
    return d ? d->position : (clf_dataset_position){0};
}

clf_status clf_dataset_seek(clf_dataset *d, const clf_dataset_position *p) {
    if (!d) return CLF_INVALID_ARGUMENT;
    clf_error_clear(&d->err);
    if (!p) {
        d->position = (clf_dataset_position){.fingerprint = d->position.fingerprint};
        return CLF_OK;
    }
    CLF_CHECK(&d->err, p->fingerprint == d->position.fingerprint, CLF_INVALID_ARGUMENT,
              "dataset seek: the position is of other data, another tokenizer, or other arguments");
    CLF_CHECK(&d->err, p->sample < d->count && !(p->used & 1) && !(d->args.preference && p->sequence),
              CLF_INVALID_ARGUMENT, "dataset seek: expected a position that clf_dataset_tell() gave");
    d->position = *p;
    return CLF_OK;
}

static clf_status scan(clf_dataset *d, int64_t rows, clf_dataset_stats *stats) {
    clf_dataset_position p = {.fingerprint = d->position.fingerprint, .epoch = d->position.epoch};
    clf_batch b;
    d->longest = 0;
    do {
        CLF_TRY(next_at(d, rows, &p, &b));
        stats->sequences += b.sequences;
        stats->tokens += b.tokens - b.padding;
        stats->targets += b.targets;
        stats->truncated += b.truncated;
        stats->lost += b.lost;
        stats->dropped += b.dropped;
        stats->batches++;
    } while (!b.last);
    stats->longest = d->longest;
    return CLF_OK;
}

clf_status clf_dataset_scan(clf_dataset *d, int64_t rows, clf_dataset_stats *stats) {
    if (!d || !stats) return CLF_INVALID_ARGUMENT;
    clf_error_clear(&d->err);
    CLF_TRY(reserve(d, rows, &d->err));
    clf_dataset_stats s = {.samples = (int64_t)d->count, .skipped = clf_data_source_skipped(d->source)};
    CLF_TRY(scan(d, rows, &s));
    *stats = s;
    return CLF_OK;
}

/* The view's samples, one by one. */
typedef struct all_samples {
    clf_dataset *d;
    uint64_t next;
    clf_sample sample;
} all_samples;

static clf_status next_sample(void *user, const clf_sample **sample, clf_error *err) {
    all_samples *all = user;
    (void)err; /* the dataset's */
    *sample = NULL;
    if (all->next == all->d->count) return CLF_OK;
    CLF_TRY(read_sample(all->d, all->next++, &all->sample));
    *sample = &all->sample;
    return CLF_OK;
}

clf_status clf_dataset_save_tokens(clf_dataset *d, const char *path) {
    if (!d) return CLF_INVALID_ARGUMENT;
    clf_error_clear(&d->err);
    CLF_CHECK(&d->err, clf_data_source_running(d->source) >= 0, CLF_UNSUPPORTED,
              "save tokens: running text and other samples can't be in one file");
    all_samples all = {.d = d};
    const clf_status st = clf_tokens_write(path, d->source, d->args.preference, next_sample, &all, &d->err);
    clf_sample_clear(&all.sample);
    return st;
}
