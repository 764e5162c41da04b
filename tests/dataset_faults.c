/* dataset_faults.c: every allocation and every file call of opening, splitting, reading, scanning and saving training
 * data made to fail in turn, once alone and once with all that follow. Each time: an error with a message, the place
 * as it was, nothing kept, and the same call works again. jansson's own allocations are left alone: version 2.14 writes
 * beyond its buffer when one fails within a string. */
#define _GNU_SOURCE
#include "dataset_case.h"

#include "fault_layer.h"

typedef struct run {
    const char *paths[2], *saved;
    char message[512];
    clf_dataset *d, *part, *tokens;
    clf_dataset_stats stats;
    uint64_t hash;
    int taken;
} run;

static clf_status create(run *r) {
    r->message[0] = 0;
    return clf_dataset_create(&r->d, &(clf_dataset_args){.paths = r->paths,
                                                         .n_paths = 2,
                                                         .tokenizer = chatml,
                                                         .context = 24,
                                                         .pack = true,
                                                         .error = r->message,
                                                         .error_size = sizeof r->message});
}
static clf_status keep_message(run *r, const clf_dataset *d, clf_status st) {
    snprintf(r->message, sizeof r->message, "%s", clf_dataset_error(d));
    return st;
}
static clf_status split(run *r) {
    return keep_message(r, r->d, clf_dataset_split(r->d, 0.25, &r->part));
}
static clf_status take_from(run *r, clf_dataset *d) {
    const clf_dataset_position before = clf_dataset_tell(d);
    clf_batch b;
    const clf_status st = clf_dataset_next(d, 2, &b);
    const clf_dataset_position after = clf_dataset_tell(d);
    if (st == CLF_OK)
        r->hash = r->hash * 31 + hash_batch(&b);
    else
        assert_memory_equal(&before, &after, sizeof after);
    return keep_message(r, d, st);
}
static clf_status take(run *r) {
    return take_from(r, r->d);
}
static clf_status take_part(run *r) {
    return take_from(r, r->part);
}
static clf_status scan(run *r) {
    return keep_message(r, r->d, clf_dataset_scan(r->d, 2, &r->stats));
}
static clf_status save(run *r) {
    return keep_message(r, r->d, clf_dataset_save_tokens(r->d, r->saved));
}
static clf_status open_saved(run *r) {
    r->message[0] = 0;
    return clf_dataset_create(&r->tokens, &(clf_dataset_args){.path = r->saved,
                                                              .tokenizer = chatml,
                                                              .context = 24,
                                                              .error = r->message,
                                                              .error_size = sizeof r->message});
}
static clf_status take_saved(run *r) {
    return take_from(r, r->tokens);
}

/* Returns whether anything failed. */
static bool all_steps(run *r, int after) {
    static clf_status (*const steps[])(run *) = {create, split, take,       take_part, scan,
                                                 take,   save,  open_saved, take_saved};
    inject(after);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        const clf_status st = steps[i](r);
        const bool hit = atomic_load(&hits) > 0;
        if (st == CLF_OK) continue;
        inject_nothing();
        if (!hit) fail_msg("step %zu, nothing failing: %d %s", i, st, r->message);
        if (!r->message[0]) fail_msg("step %zu, failing call %d: no message", i, after);
        const clf_status again = steps[i](r);
        if (again != CLF_OK) fail_msg("step %zu, after failing call %d: %d %s", i, after, again, r->message);
        atomic_store(&hits, 1);
    }
    const bool hit = atomic_load(&hits) > 0;
    inject_nothing();
    return hit;
}

static void finish(run *r) {
    clf_dataset_destroy(r->d);
    clf_dataset_destroy(r->part);
    clf_dataset_destroy(r->tokens);
}

static void every_failure_is_an_error(void **state) {
    (void)state;
    const char *samples = put_samples("samples.jsonl", 12, 20), *saved = in_folder("saved.tokens"),
               *chat = put("chat.jsonl",
                           "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", "
                           "\"content\": \"One.\"}]}\n{\"prompt\": [{\"role\": \"user\", \"content\": \"1\"}], "
                           "\"completion\": [{\"role\": \"assistant\", \"content\": \"2\"}]}\n");
    run want = {.paths = {samples, chat}, .saved = saved};
    assert_false(all_steps(&want, 1 << 30));
    finish(&want);
    int runs = 0;
    for (int mode = 0; mode < 2; mode++) {
        lasting = mode;
        for (int after = 0;; after++, runs++) {
            run r = {.paths = {samples, chat}, .saved = saved};
            const int before = atomic_load(&outstanding);
            const bool failed = all_steps(&r, after);
            assert_true(r.hash == want.hash);
            assert_memory_equal(&r.stats, &want.stats, sizeof r.stats);
            finish(&r);
            if (atomic_load(&outstanding) != before)
                fail_msg("failing call %d: %d blocks kept", after, atomic_load(&outstanding) - before);
            if (!failed) break;
        }
    }
    print_message("%d failures injected\n", runs);
    assert_true(runs > 400);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_failure_is_an_error)};
    inject_nothing();
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
