/* model_file.c: good files give the configuration and tensors that they hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "../lib/model/model_file.h"

static void test_folders(void **state) {
    (void)state;
    static const char *const names[] = {"llama", "llama3", "mistral", "qwen2", "qwen3", "gemma2", "phi3"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (int map = 0; map < 2; map++) {
            clf_model_file *f;
            clf_error err = {0};
            char path[128];
            snprintf(path, sizeof path, "golden/models/%s", names[i]);
            const clf_status st = clf_model_file_open(&f, &(clf_model_file_args){.path = path, .mmap = map}, &err);
            assert_string_equal(err.message, "");
            assert_int_equal(st, CLF_OK);
            const clf_config *c = clf_model_file_config(f);
            assert_string_equal(c->name, names[i]);
            assert_int_equal(c->vocab_size, 96);
            assert_int_equal(c->n_layers, 2);
            const clf_file_tensor *q = clf_model_file_find(f, "blk.1.attn_q.weight");
            assert_non_null(q);
            assert_int_equal(q->shape[0], c->n_heads * c->head_dim);
            assert_int_equal(q->shape[1], 48);
            assert_non_null(clf_model_file_find(f, "blk.1.ffn_gate.weight"));
            clf_model_file_close(f);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_folders)};
    return cmocka_run_group_tests_name("model_file", tests, NULL, NULL);
}
