/* quantize_importance.c: clf_quantize() with an importance matrix, in either format: it weighs, and a wrong one is
 * refused. */
#define _GNU_SOURCE
#include "quantize_case.h"

#include "../lib/model/importance_file.h"

/* An importance matrix in either format: for each matrix of a layer, column k weighs (k + 1) · scale. */
static void write_importance(const char *path, bool gguf, const quantize_model *m, const char *extra, float bad) {
    static const char *const stems[] = {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"};
    clf_error err = {0};
    clf_gguf_writer *w = NULL;
    FILE *f = gguf ? NULL : fopen(path, "wb");
    const int n = 7 * m->layers + (extra != NULL);
    if (gguf) {
        assert_int_equal(clf_gguf_writer_create(&w, path, &err), CLF_OK);
        clf_gguf_write_string(w, "general.type", CLF_IMPORTANCE_TYPE, &err);
        clf_gguf_write_u32(w, CLF_IMPORTANCE_CHUNKS, 3, &err);
    } else {
        fwrite(&n, 4, 1, f);
    }
    for (int pass = 0; pass < (gguf ? 2 : 1); pass++)
        for (int i = 0; i < n; i++) {
            char name[64], part[128];
            snprintf(name, sizeof name, "blk.%d.%s.weight", i / 7, stems[i % 7]);
            if (i == 7 * m->layers) snprintf(name, sizeof name, "%s", extra);
            const int columns = i % 7 == 6 && i < 7 * m->layers ? m->ffn : m->hidden, calls = 2;
            const float count = 2;
            float sums[512];
            for (int k = 0; k < columns; k++) sums[k] = 2 * (float)(k + 1);
            if (i == 0 && bad != 0) sums[5] = bad;
            for (int part_of = 0; gguf && part_of < 2; part_of++) {
                snprintf(part, sizeof part, "%s%s", name, part_of ? CLF_IMPORTANCE_COUNTS : CLF_IMPORTANCE_SUMS);
                const clf_file_tensor t = {
                    .name = part, .dtype = CLF_F32, .ndim = 2, .shape = {1, part_of ? 1 : columns}};
                if (pass)
                    clf_gguf_write_data(w, 2 * i + part_of, part_of ? &count : sums,
                                        part_of ? 4 : 4 * (uint64_t)columns, &err);
                else
                    clf_gguf_write_tensor(w, &t, &err);
            }
            if (gguf) continue;
            const int length = (int)strlen(name);
            fwrite(&length, 4, 1, f);
            fwrite(name, 1, (size_t)length, f);
            fwrite(&calls, 4, 1, f);
            fwrite(&columns, 4, 1, f);
            fwrite(sums, 4, (size_t)columns, f);
        }
    if (gguf && clf_gguf_writer_finish(w, &err) != CLF_OK) fail_msg("%s", err.message);
    clf_gguf_writer_destroy(w);
    if (f) fclose(f);
}

static void test_importance(void **state) {
    (void)state;
    clf_context *ctx = open_context("cpu", 0);
    const char *from = in_folder("source.gguf"), *to = in_folder("weighed.gguf"), *importance = in_folder("importance");
    report r = {0}, plain = {0};
    quantize_make(from, &wide);
    clf_quantize_args args = {.input = from, .output = to, .type = "q4_0"};
    assert_ok(ctx, quantize(ctx, args, &plain, NULL));
    args.importance = importance;
    for (int gguf = 0; gguf < 2; gguf++) {
        write_importance(importance, gguf, &wide, NULL, 0);
        clf_error err = {0};
        clf_importance_file *file;
        assert_int_equal(clf_importance_file_open(&file, importance, &err), CLF_OK);
        const clf_importance_entry *e = clf_importance_file_find(file, "blk.1.ffn_down.weight");
        assert_true(e && e->columns == 512 && e->mean[0] == 1 && e->mean[511] == 512);
        assert_null(clf_importance_file_find(file, "output.weight"));
        clf_importance_file_close(file);
        assert_ok(ctx, quantize(ctx, args, &r, NULL));
        check_file(ctx, from, to, &r, "importance");
        const char *weighed = "blk.1.ffn_up.weight";
        assert_true(reported(&r, weighed)->relative_error != reported(&plain, weighed)->relative_error);
        assert_true(reported(&r, "output.weight")->relative_error == reported(&plain, "output.weight")->relative_error);

        quantize_model other = wide;
        other.layers = 3;
        write_importance(importance, gguf, &other, NULL, 0);
        refused(ctx, args, CLF_INVALID_ARGUMENT, "blk.2.attn_q.weight: the model has no such matrix");
        other = wide;
        other.ffn = 256;
        write_importance(importance, gguf, &other, NULL, 0);
        refused(ctx, args, CLF_INVALID_ARGUMENT, "blk.0.ffn_down.weight: expected 512 columns, got 256");
        write_importance(importance, gguf, &wide, "blk.0.attn_norm.weight", 0);
        refused(ctx, args, CLF_INVALID_ARGUMENT, "blk.0.attn_norm.weight");
        write_importance(importance, gguf, &wide, NULL, -1);
        refused(ctx, args, CLF_BAD_FILE, "column 5");
        write_importance(importance, gguf, &wide, NULL, NAN);
        refused(ctx, args, CLF_BAD_FILE, "column 5");
        write_importance(importance, gguf, &wide, NULL, 0);
        assert_int_equal(truncate(importance, 9000), 0);
        refused(ctx, args, CLF_BAD_FILE, "importance");
        assert_int_equal(truncate(importance, 3), 0);
        refused(ctx, args, CLF_BAD_FILE, "importance");
    }
    refused(ctx, (clf_quantize_args){.input = from, .output = to, .type = "q4_0", .importance = from}, CLF_BAD_FILE,
            "general.type");
    clf_context_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_importance)};
    return cmocka_run_group_tests_name("quantize_importance", tests, make_folder, remove_folder);
}
