/* tokenizer_case.h: what the tests of tokenizers share: ways to open one that must open, and a text as ids. */
#ifndef CLF_TESTS_TOKENIZER_CASE_H
#define CLF_TESTS_TOKENIZER_CASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../lib/model/tokenizer.h"
#include "../lib/model/tokenizer_json.h"

static inline clf_tokenizer *open_tokenizer(const char *path) {
    char message[256] = "";
    clf_tokenizer *t;
    if (clf_tokenizer_create(&t, &(clf_tokenizer_args){.path = path, .error = message, .error_size = sizeof message}))
        fail_msg("%s: %s", path, message);
    return t;
}

/* Of a tokenizer.json. */
static inline clf_tokenizer *json_open(const char *json) {
    clf_error err = {0};
    clf_tokenizer *t;
    clf_status st = clf_tokenizer_from_json(&t, json, strlen(json), &err);
    if (st == CLF_OK) st = clf_tokenizer_finish(t, &err);
    if (st != CLF_OK) fail_msg("%s", err.message);
    return t;
}

static inline size_t encode(const clf_tokenizer *t, const char *text, size_t length, int flags, int32_t *ids,
                            size_t capacity) {
    size_t n;
    assert_int_equal(clf_tokenize(t, text, length, flags, ids, capacity, &n), CLF_OK);
    return n;
}

#endif
