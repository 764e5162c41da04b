/* peft.c: ranks and scales of a PEFT adapter. A pattern's key is a regular expression that must match the module's name
 * from its start, or from behind a dot, to its end; the first that does gives the value. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "peft.h"

#include <math.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct pattern {
    pcre2_code *code;
    double value;
} pattern;

typedef struct pattern_list {
    pattern *item;
    size_t count;
} pattern_list;

struct clf_peft {
    double rank, alpha;
    bool root_of_rank; /* use_rslora */
    pattern_list ranks, alphas;
};

enum { MAX_PATTERN = 4096, MATCH_LIMIT = 100000 };

static clf_status compile(pattern *p, const char *key, clf_error *err) {
    char text[MAX_PATTERN];
    const int n = snprintf(text, sizeof text, "(?:.*\\.)?(?:%s)", key);
    CLF_CHECK(err, n > 0 && n < MAX_PATTERN, CLF_BAD_FILE, "pattern: expected at most %d bytes", MAX_PATTERN);
    int code;
    PCRE2_SIZE where;
    p->code = pcre2_compile((PCRE2_SPTR)text, (PCRE2_SIZE)n, PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_UTF, &code,
                            &where, NULL);
    CLF_CHECK(err, p->code, CLF_BAD_FILE, "pattern %.100s: PCRE2 error %d at %zu", key, code, (size_t)where);
    return CLF_OK;
}

static clf_status read_patterns(pattern_list *list, const json_t *root, const char *name, clf_error *err) {
    json_t *object = json_object_get(root, name), *value;
    const char *key;
    if (!object || json_is_null(object)) return CLF_OK;
    CLF_CHECK(err, json_is_object(object), CLF_BAD_FILE, "%s: expected an object", name);
    list->item = calloc(json_object_size(object) + 1, sizeof *list->item);
    CLF_CHECK(err, list->item, CLF_OUT_OF_MEMORY, "out of memory for %s", name);
    json_object_foreach(object, key, value) {
        CLF_CHECK(err, json_is_number(value) && json_number_value(value) > 0, CLF_BAD_FILE,
                  "%s: %.100s: expected a positive number", name, key);
        pattern *p = &list->item[list->count++];
        p->value = json_number_value(value);
        CLF_TRY(compile(p, key, err));
    }
    return CLF_OK;
}

static void free_patterns(pattern_list *list) {
    for (size_t i = 0; i < list->count; i++) pcre2_code_free(list->item[i].code);
    free(list->item);
}

/* Value of the first pattern that matches, `otherwise` if none does. */
static clf_status look_up(const pattern_list *list, const char *module, double otherwise, double *out, clf_error *err) {
    *out = otherwise;
    if (!list->count) return CLF_OK;
    clf_status st = CLF_OK;
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    if (!limits || !match) {
        st = clf_fail(err, CLF_OUT_OF_MEMORY, "out of memory for patterns");
        goto fail;
    }
    pcre2_set_match_limit(limits, MATCH_LIMIT);
    for (size_t i = 0; i < list->count; i++) {
        const int n = pcre2_match(list->item[i].code, (PCRE2_SPTR)module, strlen(module), 0, 0, match, limits);
        if (n >= 0) {
            *out = list->item[i].value;
            break;
        }
        if (n != PCRE2_ERROR_NOMATCH) {
            st = clf_fail(err, CLF_BAD_FILE, "pattern %zu: PCRE2 error %d for %.100s", i, n, module);
            break;
        }
    }
fail:
    pcre2_match_data_free(match);
    pcre2_match_context_free(limits);
    return st;
}

static clf_status check_kind(const json_t *root, clf_error *err) {
    static const char *const flags[] = {"use_dora", "use_qalora", "use_bdlora", "fan_in_fan_out", "lora_bias"};
    const char *type = json_string_value(json_object_get(root, "peft_type"));
    CLF_CHECK(err, type && !strcmp(type, "LORA"), CLF_UNSUPPORTED, "peft_type: expected LORA, got %.40s",
              type ? type : "no string");
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        CLF_CHECK(err, !json_is_true(json_object_get(root, flags[i])), CLF_UNSUPPORTED, "%s: expected false", flags[i]);
    return CLF_OK;
}

static clf_status read_config(clf_peft *p, const json_t *root, clf_error *err) {
    const json_t *r = json_object_get(root, "r"), *alpha = json_object_get(root, "lora_alpha");
    CLF_TRY(check_kind(root, err));
    CLF_CHECK(err, json_is_integer(r) && json_integer_value(r) > 0, CLF_BAD_FILE, "r: expected a positive integer");
    CLF_CHECK(err, json_is_number(alpha), CLF_BAD_FILE, "lora_alpha: expected a number");
    p->rank = json_number_value(r);
    p->alpha = json_number_value(alpha);
    p->root_of_rank = json_is_true(json_object_get(root, "use_rslora"));
    CLF_TRY(read_patterns(&p->ranks, root, "rank_pattern", err));
    return read_patterns(&p->alphas, root, "alpha_pattern", err);
}

clf_status clf_peft_create(clf_peft **out, json_t *root, clf_error *err) {
    *out = calloc(1, sizeof **out);
    CLF_CHECK(err, *out, CLF_OUT_OF_MEMORY, "adapter: out of memory");
    const clf_status st = read_config(*out, root, err);
    if (st == CLF_OK) return st;
    clf_peft_destroy(*out);
    *out = NULL;
    return st;
}

void clf_peft_destroy(clf_peft *p) {
    if (!p) return;
    free_patterns(&p->ranks);
    free_patterns(&p->alphas);
    free(p);
}

clf_status clf_peft_scale(const clf_peft *p, const char *module, int64_t rank, float *scale, clf_error *err) {
    double expected, alpha;
    CLF_TRY(look_up(&p->ranks, module, p->rank, &expected, err));
    CLF_TRY(look_up(&p->alphas, module, p->alpha, &alpha, err));
    CLF_CHECK(err, expected == (double)rank, CLF_BAD_FILE,
              "%s: rank: expected %g as adapter_config.json says, got %lld", module, expected, (long long)rank);
    *scale = (float)(alpha / (p->root_of_rank ? sqrt(expected) : expected));
    return CLF_OK;
}
