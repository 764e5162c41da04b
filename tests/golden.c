/* golden.c: a safetensors file is a 64-bit length, a JSON header of that length, and the tensors' bytes; the header
 * maps names to dtype, shape and data_offsets [begin, end). */
#include "golden.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct golden_file {
    char *bytes;
    json_t *header;
    golden_tensor *tensors;
    int count;
};

static size_t dtype_bytes(const char *dtype) {
    if (!strcmp(dtype, "F64") || !strcmp(dtype, "I64") || !strcmp(dtype, "U64")) return 8;
    if (!strcmp(dtype, "F32") || !strcmp(dtype, "I32") || !strcmp(dtype, "U32")) return 4;
    if (!strcmp(dtype, "F16") || !strcmp(dtype, "BF16") || !strcmp(dtype, "I16") || !strcmp(dtype, "U16")) return 2;
    return 1;
}

/* Reads all of `path`: the header at *bytes + 8, the data at *bytes + *data_at. Returns the file's length, or 0. */
static size_t read_file(const char *path, char **bytes, uint64_t *header_length, size_t *data_at) {
    size_t size = 0, got = 0;
    FILE *f = fopen(path, "rb");
    *bytes = NULL;
    if (f && !fseek(f, 0, SEEK_END)) size = (size_t)ftell(f);
    if (size >= 8) {
        rewind(f);
        got = fread(header_length, 1, 8, f);
        const uint64_t n = *header_length;
        if (got == 8 && n <= size - 8) {
            const size_t data = (8 + (size_t)n + 7) / 8 * 8;
            *data_at = data;
            *bytes = malloc(data + size);
            if (*bytes) {
                got += fread(*bytes + 8, 1, (size_t)n, f);
                got += fread(*bytes + data, 1, size - 8 - (size_t)n, f);
            }
        }
    }
    if (f) fclose(f);
    return size && got == size ? size : 0;
}

static bool read_tensor(golden_tensor *t, const char *name, json_t *entry, const char *data, size_t data_size) {
    const json_t *shape = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    const json_int_t begin = json_integer_value(json_array_get(offsets, 0));
    const json_int_t end = json_integer_value(json_array_get(offsets, 1));
    if (!dtype || json_array_size(shape) > GOLDEN_MAX_DIMS || begin < 0 || end < begin || (size_t)end > data_size)
        return false;
    *t = (golden_tensor){.name = name, .dtype = dtype, .ndim = (int)json_array_size(shape), .elements = 1};
    for (int i = 0; i < t->ndim; i++) {
        t->shape[i] = json_integer_value(json_array_get(shape, (size_t)i));
        t->elements *= t->shape[i];
    }
    t->data = data + begin;
    t->bytes = (size_t)(end - begin);
    return t->elements >= 0 && t->bytes == (size_t)t->elements * dtype_bytes(dtype);
}

golden_file *golden_open(const char *path) {
    golden_file *file = calloc(1, sizeof *file);
    if (!file) return NULL;
    uint64_t length = 0;
    size_t data_at = 0;
    const size_t size = read_file(path, &file->bytes, &length, &data_at);
    if (!size) {
        fprintf(stderr, "%s: cannot be read as safetensors\n", path);
        return golden_close(file), NULL;
    }
    file->header = json_loadb(file->bytes + 8, (size_t)length, 0, NULL);
    file->tensors = calloc(json_object_size(file->header) + 1, sizeof *file->tensors);
    if (!json_is_object(file->header) || !file->tensors) {
        fprintf(stderr, "%s: the header is not a JSON object\n", path);
        return golden_close(file), NULL;
    }
    const char *name;
    json_t *entry;
    json_object_foreach(file->header, name, entry) {
        if (!strcmp(name, "__metadata__")) continue;
        const size_t data_size = size - 8 - (size_t)length;
        if (!read_tensor(&file->tensors[file->count++], name, entry, file->bytes + data_at, data_size)) {
            fprintf(stderr, "%s: tensor %s: bad description\n", path, name);
            return golden_close(file), NULL;
        }
    }
    return file;
}

void golden_close(golden_file *file) {
    if (!file) return;
    json_decref(file->header);
    free(file->tensors);
    free(file->bytes);
    free(file);
}

int golden_count(const golden_file *file) {
    return file->count;
}

const golden_tensor *golden_at(const golden_file *file, int index) {
    return &file->tensors[index];
}

const golden_tensor *golden_find(const golden_file *file, const char *name) {
    for (int i = 0; i < file->count; i++)
        if (!strcmp(file->tensors[i].name, name)) return &file->tensors[i];
    return NULL;
}

double golden_value(const golden_tensor *t, int64_t i) {
    const char *p = (const char *)t->data + (size_t)i * dtype_bytes(t->dtype);
    if (!strcmp(t->dtype, "F64")) {
        double v;
        memcpy(&v, p, sizeof v);
        return v;
    }
    if (!strcmp(t->dtype, "F32")) {
        float v;
        memcpy(&v, p, sizeof v);
        return (double)v;
    }
    if (!strcmp(t->dtype, "I32")) {
        int32_t v;
        memcpy(&v, p, sizeof v);
        return v;
    }
    if (!strcmp(t->dtype, "I64")) {
        int64_t v;
        memcpy(&v, p, sizeof v);
        return (double)v;
    }
    return !strcmp(t->dtype, "BOOL") ? *p != 0 : NAN;
}

static void *convert(const golden_tensor *t, size_t element, void (*put)(void *out, int64_t i, double value)) {
    static const char *const known[] = {"F64", "F32", "I32", "I64", "BOOL"};
    bool readable = false;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) readable |= !strcmp(t->dtype, known[i]);
    void *out = readable ? malloc((size_t)t->elements * element + 1) : NULL;
    if (!out) {
        fprintf(stderr, "%s: %s\n", t->name, readable ? "out of memory" : "a dtype that tests don't read");
        return NULL;
    }
    for (int64_t i = 0; i < t->elements; i++) put(out, i, golden_value(t, i));
    return out;
}

static void put_double(void *out, int64_t i, double value) {
    ((double *)out)[i] = value;
}
static void put_float(void *out, int64_t i, double value) {
    ((float *)out)[i] = (float)value;
}
static void put_int(void *out, int64_t i, double value) {
    ((int32_t *)out)[i] = (int32_t)value;
}

double *golden_doubles(const golden_tensor *t) {
    return convert(t, sizeof(double), put_double);
}

float *golden_floats(const golden_tensor *t) {
    return convert(t, sizeof(float), put_float);
}

int32_t *golden_ints(const golden_tensor *t) {
    return convert(t, sizeof(int32_t), put_int);
}

double golden_error(const float *got, const double *want, int64_t n) {
    double error = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        const double g = (double)got[i], w = want[i];
        if (isinf(w) && g == w) continue;
        if (!isfinite(g) || !isfinite(w)) return INFINITY;
        error += (g - w) * (g - w);
        norm += w * w;
    }
    return error == 0 ? 0 : norm == 0 ? INFINITY : sqrt(error / norm);
}
