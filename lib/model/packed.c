/* packed.c: the parts of packed matrices found and checked, and a folder's tensors with each matrix as one. */
#include "packed_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "../core/tensor.h"

enum { NAME = 256 };

static const char state_suffix[] = ".quant_state.bitsandbytes__nf4";

static bool ends_with(const char *name, const char *end) {
    const size_t n = strlen(name), m = strlen(end);
    return n >= m && !strcmp(name + n - m, end);
}

const clf_file_tensor *clf_packed_part(const clf_safetensors *s, const char *stem, size_t length, const char *suffix) {
    char name[NAME];
    const size_t end = strlen(suffix) + 1;
    if (length + end > sizeof name) return NULL;
    memcpy(name, stem, length);
    memcpy(name + length, suffix, end);
    return clf_safetensors_find(s, name);
}

clf_status clf_packed_need(const clf_file_tensor **out, const clf_safetensors *s, const char *stem, size_t length,
                           const char *suffix, clf_error *err) {
    *out = clf_packed_part(s, stem, length, suffix);
    CLF_CHECK(err, *out, CLF_BAD_FILE, "tensor %.*s%s: missing", (int)length, stem, suffix);
    return CLF_OK;
}

clf_status clf_packed_check(const clf_file_tensor *t, clf_dtype dtype, int ndim, int64_t rows, int64_t columns,
                            clf_error *err) {
    CLF_CHECK(err, t->dtype == dtype, CLF_UNSUPPORTED, "tensor %s: dtype: expected %s, got %s", t->name,
              clf_dtype_name(dtype), clf_dtype_name(t->dtype));
    const bool fits = t->ndim == ndim && t->shape[0] == rows && (ndim < 2 || t->shape[1] == columns);
    if (ndim < 2)
        CLF_CHECK(err, fits, CLF_BAD_FILE,
                  "tensor %s: shape: expected [%" PRId64 "], got %" PRIu64 " bytes in %d dimensions", t->name, rows,
                  t->nbytes, t->ndim);
    CLF_CHECK(err, fits, CLF_BAD_FILE,
              "tensor %s: shape: expected [%" PRId64 ", %" PRId64 "], got %" PRIu64 " bytes in %d dimensions", t->name,
              rows, columns, t->nbytes, t->ndim);
    return CLF_OK;
}

clf_status clf_packed_not_finite(const clf_file_tensor *t, int64_t row, int64_t column, clf_error *err) {
    return clf_fail(err, CLF_NOT_FINITE, "tensor %s: [%" PRId64 ", %" PRId64 "]: expected a finite number as %s",
                    t->name, row, column, clf_dtype_name(t->dtype));
}

/* Whether a tensor is a part of a packed matrix other than its codes. */
static bool is_part(const clf_packing_config *config, const char *name) {
    static const char *const of_groups[] = {".qzeros", ".scales", ".g_idx"}, *const of_nf4[] = {
                                                                                 ".weight.absmax", ".weight.quant_map",
                                                                                 ".weight.nested_absmax",
                                                                                 ".weight.nested_quant_map"};
    for (int i = 0; config->method == CLF_PACKING_NF4 && i < 4; i++)
        if (ends_with(name, of_nf4[i])) return true;
    for (int i = 0; config->method != CLF_PACKING_NF4 && i < 3; i++)
        if (ends_with(name, of_groups[i])) return true;
    return config->method == CLF_PACKING_NF4 && strstr(name, ".weight.quant_state.");
}

/* A part without its codes would be passed over. */
static clf_status check_owner(const clf_safetensors *s, const clf_packing_config *config, const char *name,
                              clf_error *err) {
    const bool nf4 = config->method == CLF_PACKING_NF4;
    const char *end = nf4 ? strstr(name, ".weight.") + strlen(".weight") : strrchr(name, '.');
    CLF_CHECK(err, clf_packed_part(s, name, (size_t)(end - name), nf4 ? "" : ".qweight"), CLF_BAD_FILE,
              "tensor %.100s: %.*s%s is missing", name, (int)(end - name), name, nf4 ? "" : ".qweight");
    return CLF_OK;
}

static clf_status add(clf_packed_list *list, const clf_safetensors *s, const clf_packing_config *config,
                      const clf_file_tensor *t, clf_error *err) {
    clf_file_tensor *to = &list->tensor[list->count];
    clf_packed *p = &list->packed[list->n_packed];
    *to = *t;
    if (is_part(config, t->name)) return check_owner(s, config, t->name, err);
    const clf_file_tensor *state =
        config->method == CLF_PACKING_NF4 ? clf_packed_part(s, t->name, strlen(t->name), state_suffix) : NULL;
    const bool groups = config->method != CLF_PACKING_NF4 && ends_with(t->name, ".qweight");
    list->count++;
    if (!state && !groups) return CLF_OK;
    if (state)
        CLF_TRY(clf_packed_take_nf4(to, p, s, t, state, err));
    else
        CLF_TRY(clf_packed_take_groups(to, p, s, config, t, err));
    const size_t length = strlen(t->name) - (groups ? strlen(".qweight") : strlen(".weight"));
    char *name = malloc(length + sizeof ".weight");
    CLF_CHECK(err, name, CLF_OUT_OF_MEMORY, "out of memory for a tensor's name");
    snprintf(name, length + sizeof ".weight", "%.*s.weight", (int)length, t->name);
    to->name = name;
    to->packed = p;
    to->ndim = 2;
    to->shape[0] = p->rows;
    to->shape[1] = p->columns;
    list->n_packed++;
    return CLF_OK;
}

clf_status clf_packed_list_make(clf_packed_list *out, const clf_safetensors *s, const clf_packing_config *config,
                                clf_error *err) {
    const int64_t n = clf_safetensors_count(s);
    *out = (clf_packed_list){.tensor = calloc((size_t)n + 1, sizeof *out->tensor),
                             .packed = calloc((size_t)n + 1, sizeof *out->packed)};
    if (!out->tensor || !out->packed) {
        clf_packed_list_free(out);
        return clf_fail(err, CLF_OUT_OF_MEMORY, "out of memory for %" PRId64 " tensors", n);
    }
    clf_status st = CLF_OK;
    for (int64_t i = 0; i < n && st == CLF_OK; i++) {
        const clf_file_tensor *t = clf_safetensors_at(s, i);
        if (config->method == CLF_PACKING_NONE)
            out->tensor[out->count++] = *t;
        else
            st = add(out, s, config, t, err);
    }
    if (st != CLF_OK) clf_packed_list_free(out);
    return st;
}

void clf_packed_list_free(clf_packed_list *list) {
    for (int64_t i = 0; list->tensor && i < list->count; i++)
        if (list->tensor[i].packed) free((void *)(uintptr_t)list->tensor[i].name);
    free(list->tensor);
    free(list->packed);
    *list = (clf_packed_list){0};
}

clf_status clf_packed_rows(void *out, const clf_file_tensor *t, int64_t first, int64_t n, clf_error *err) {
    const int64_t row = t->first_row + first;
    return t->packed->method == CLF_PACKING_NF4 ? clf_packed_nf4_rows(out, t, row, n, err)
                                                : clf_packed_group_rows(out, t, row, n, err);
}
