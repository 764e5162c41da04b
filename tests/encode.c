/* encode.c: clf_convert() into every block dtype, on every CPU table: the same bytes everywhere; gguf-py's bytes
 * (golden/blocks.safetensors, by make_blocks.py); errors of each block and on Gaussian weights, by the tests' own
 * decoder; what a format holds comes back as it was; what it can't hold is refused by its place. */
#include "model_case.h"

#include "../lib/model/model_file.h"
#include "golden.h"
#include "op_case.h"

enum { MAX_TABLES = 8, MAX_BYTES = 1 << 20 };

/* The formats: the largest error of an element as a share of its block's largest magnitude (searches clip); the largest
 * rms-relative error on N(0, 1), and that weighted by an importance that is given (ggml's quantisers with the same: of
 * Q4_0 0.0752, Q2_K 0.216, Q4_K 0.0618, IQ4_XS 0.0687). */
static const struct format {
    clf_dtype dtype;
    double element, gaussian, weighted;
} formats[] = {
    {CLF_Q8_0, 0.0045, 0.0055, 0.0055}, {CLF_Q4_0, 0.126, 0.0865, 0.0745},  {CLF_Q4_1, 0.068, 0.0787, 0.061},
    {CLF_Q5_0, 0.063, 0.0431, 0.0374},  {CLF_Q5_1, 0.034, 0.0381, 0.0295},  {CLF_TQ1_0, 0.501, 0.82, 0.82},
    {CLF_TQ2_0, 0.501, 0.82, 0.82},     {CLF_Q2_0, 0.501, 0.73, 0.73},      {CLF_MXFP4, 0.251, 0.114, 0.114},
    {CLF_NF4, 0.153, 0.093, 0.093},     {CLF_Q2_K, 0.45, 0.267, 0.214},     {CLF_Q3_K, 0.26, 0.145, 0.125},
    {CLF_Q4_K, 0.105, 0.0712, 0.0618},  {CLF_Q5_K, 0.066, 0.0352, 0.0313},  {CLF_Q6_K, 0.04, 0.0175, 0.0156},
    {CLF_IQ4_NL, 0.14, 0.0748, 0.067},  {CLF_IQ4_XS, 0.14, 0.0755, 0.0675},
};
enum { FORMATS = sizeof formats / sizeof *formats };

static clf_context *tables[MAX_TABLES];
static int n_tables;

static int open_tables(void **state) {
    (void)state;
    clf_device_info infos[16];
    int n = 0;
    clf_devices(infos, 16, &n);
    for (int i = 0; i < n && i < 16 && n_tables < MAX_TABLES; i++)
        if (infos[i].usable && !strncmp(infos[i].name, "cpu-", 4)) tables[n_tables++] = open_context(infos[i].name, 0);
    return n_tables ? 0 : -1;
}
static int close_tables(void **state) {
    (void)state;
    for (int i = 0; i < n_tables; i++) clf_context_destroy(tables[i]);
    return 0;
}

/* splitmix64, uniform in [0, 1); the sum of two logarithms' root is normal (Box, Muller) */
static double uniform(void) {
    static uint64_t state = 7;
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}
static double normal(void) {
    return sqrt(-2 * log(1 - uniform())) * cos(6.283185307179586 * uniform());
}

static clf_tensor *tensor_of(clf_context *ctx, clf_dtype dtype, int64_t rows, int64_t columns, const void *data) {
    clf_tensor *t;
    const clf_tensor_args args = {.dtype = dtype, .ndim = 2, .shape = {rows, columns}};
    assert_ok(ctx, clf_tensor_create(&t, ctx, &args));
    if (data) assert_ok(ctx, clf_tensor_write(t, data, clf_tensor_bytes(t)));
    return t;
}

/* clf_convert() of `from` into `blocks`; importance may be NULL. */
static void encode(clf_context *ctx, clf_dtype from, const void *x, int64_t rows, int64_t columns,
                   const float *importance, clf_dtype dtype, void *blocks) {
    clf_tensor *in = tensor_of(ctx, from, rows, columns, x), *out = tensor_of(ctx, dtype, rows, columns, NULL),
               *weights = NULL;
    const clf_tensor_args args = {.ndim = 1, .shape = {columns}};
    if (importance) {
        assert_ok(ctx, clf_tensor_create(&weights, ctx, &args));
        assert_ok(ctx, clf_tensor_write(weights, importance, clf_tensor_bytes(weights)));
    }
    assert_ok(ctx, clf_convert(ctx, &(clf_convert_args){.x = in, .importance = weights, .out = out}));
    assert_ok(ctx, clf_tensor_read(out, blocks, clf_tensor_bytes(out)));
    clf_tensor_destroy(weights);
    clf_tensor_destroy(in);
    clf_tensor_destroy(out);
}

static size_t bytes_of(clf_dtype dtype, int64_t n) {
    return (size_t)(n / clf_dtype_block_values(dtype)) * clf_dtype_block_bytes(dtype);
}

/* On all tables; they agree. */
static void encode_all(clf_dtype from, const void *x, int64_t rows, int64_t columns, const float *importance,
                       clf_dtype dtype, void *blocks) {
    static uint8_t other[MAX_BYTES];
    const size_t bytes = bytes_of(dtype, rows * columns);
    assert_true(bytes <= sizeof other);
    for (int i = 0; i < n_tables; i++) {
        encode(tables[i], from, x, rows, columns, importance, dtype, i ? other : blocks);
        if (i && memcmp(other, blocks, bytes))
            fail_msg("%s: %s differs from %s", clf_dtype_name(dtype), clf_context_backend(tables[i]),
                     clf_context_backend(tables[0]));
    }
}

/* The largest error of an element as a share of the largest magnitude in its block, those below what is left of a scale
 * that is a half's least apart. */
static double worst_element(clf_dtype dtype, const float *x, int64_t n, const uint8_t *blocks) {
    const int values = clf_dtype_block_values(dtype);
    double y[256], worst = 0;
    for (int64_t b = 0; b < n / values; b++) {
        double most = 0;
        for (int j = 0; j < values; j++) most = fmax(most, fabs((double)x[b * values + j]));
        op_decode(dtype, blocks + bytes_of(dtype, b * values), values, y);
        for (int j = 0; j < values; j++) {
            const double error = fabs(y[j] - (double)x[b * values + j]);
            if (!(error <= 256 * 0x1p-24)) worst = fmax(worst, most > 0 ? error / most : INFINITY);
        }
    }
    return worst;
}

/* Rows of many kinds: normal at several scales, whole numbers, few values, denormal, nothing. */
static void fill(float *x, int64_t n) {
    for (int64_t b = 0; b < n / 256; b++)
        for (int j = 0; j < 256; j++) {
            float *v = &x[256 * b + j];
            switch (b % 10) {
            case 0: *v = (float)normal(); break;
            case 1: *v = (float)(1e-3 * normal()); break;
            case 2: *v = (float)floor(33 * uniform() - 16); break;
            case 3: *v = uniform() < 0.5 ? -0.25f : 0.25f; break;
            case 4: *v = (float)(1e-39 * normal()); break;
            case 5: *v = j % 64 == 3 ? -3e4f : (float)normal(); break;
            case 6: *v = (float)(uniform() - 7); break;
            case 8: *v = (float)(j / 32 % 3 - 1) * 0.7f; break;
            case 7: *v = j % 2 ? 0.f : -0.f; break;
            default: *v = (float)(exp(20 * uniform() - 15) * (uniform() < 0.5 ? -1 : 1)); break;
            }
        }
}

static void golden_bytes(void **state) {
    (void)state;
    golden_file *file = golden_open("golden/blocks.safetensors");
    assert_non_null(file);
    const golden_tensor *x = golden_find(file, "x");
    assert_non_null(x);
    float *values = golden_floats(x);
    static uint8_t blocks[MAX_BYTES];
    int found = 0;
    for (int f = 0; f < FORMATS; f++) {
        const golden_tensor *want = golden_find(file, clf_dtype_name(formats[f].dtype));
        if (!want) continue;
        encode_all(CLF_F32, values, x->shape[0], x->shape[1], NULL, formats[f].dtype, blocks);
        assert_int_equal(want->bytes, bytes_of(formats[f].dtype, x->elements));
        for (size_t i = 0; i < want->bytes; i++)
            if (blocks[i] != ((const uint8_t *)want->data)[i])
                fail_msg("%s: byte %zu of row %zu is %d, expected %d", want->name,
                         i % (want->bytes / (size_t)x->shape[0]), i / (want->bytes / (size_t)x->shape[0]), blocks[i],
                         ((const uint8_t *)want->data)[i]);
        found++;
    }
    assert_int_equal(found, 7);
    free(values);
    golden_close(file);
}

static void blocks_are_near(void **state) {
    (void)state;
    enum { ROWS = 45, COLUMNS = 1280 };
    static float x[ROWS * COLUMNS];
    static uint8_t blocks[MAX_BYTES];
    int failures = 0;
    fill(x, ROWS * COLUMNS);
    for (int f = 0; f < FORMATS; f++) {
        encode_all(CLF_F32, x, ROWS, COLUMNS, NULL, formats[f].dtype, blocks);
        const double worst = worst_element(formats[f].dtype, x, ROWS * COLUMNS, blocks);
        print_message("%-6s %.4f\n", clf_dtype_name(formats[f].dtype), worst);
        failures += !(worst <= formats[f].element);
    }
    assert_int_equal(failures, 0);
}

/* √(Σw(y − x)² / Σwx²), w being `importance` of the column */
static double relative_error(clf_dtype dtype, const float *x, int64_t rows, int64_t columns, const float *importance,
                             const uint8_t *blocks) {
    double *y = malloc((size_t)(rows * columns) * sizeof *y), above = 0, below = 0;
    assert_non_null(y);
    op_decode(dtype, blocks, rows * columns, y);
    for (int64_t i = 0; i < rows * columns; i++) {
        const double w = importance ? (double)importance[i % columns] : 1;
        above += w * (y[i] - (double)x[i]) * (y[i] - (double)x[i]);
        below += w * (double)x[i] * (double)x[i];
    }
    free(y);
    return sqrt(above / below);
}

/* Also when the columns' importance differs, or hides all but a few of them; none at all counts as even. */
static void gaussian_error(void **state) {
    (void)state;
    enum { ROWS = 56, COLUMNS = 4352 };
    static float x[ROWS * COLUMNS], skewed[COLUMNS], rare[COLUMNS], none[COLUMNS];
    static uint8_t blocks[MAX_BYTES];
    for (int i = 0; i < ROWS * COLUMNS; i++) x[i] = (float)(0.02 * normal());
    for (int i = 0; i < COLUMNS; i++) {
        skewed[i] = (float)(1e20 * pow(uniform(), 4));
        rare[i] = i % 512 == 100 ? 1e-20f : 0;
    }
    for (int f = 0; f < FORMATS; f++) {
        const clf_dtype d = formats[f].dtype;
        encode(tables[0], CLF_F32, x, ROWS, COLUMNS, NULL, d, blocks);
        const double even = relative_error(d, x, ROWS, COLUMNS, NULL, blocks);
        encode_all(CLF_F32, x, ROWS, COLUMNS, skewed, d, blocks);
        const double weighted = relative_error(d, x, ROWS, COLUMNS, skewed, blocks);
        encode_all(CLF_F32, x, ROWS, COLUMNS, rare, d, blocks);
        const double few = relative_error(d, x, ROWS, COLUMNS, NULL, blocks);
        encode_all(CLF_F32, x, ROWS, COLUMNS, none, d, blocks);
        const double zero = relative_error(d, x, ROWS, COLUMNS, NULL, blocks);
        print_message("%-6s %.4f, weighted %.4f, few columns %.4f, none %.4f\n", clf_dtype_name(d), even, weighted, few,
                      zero);
        assert_true(even <= formats[f].gaussian && weighted <= formats[f].weighted);
        assert_true(few <= 2 * formats[f].gaussian && zero <= 1.01 * formats[f].gaussian);
    }
}

/* The table of docs/quantisation.md: relative errors of the default model's matrices. Trained weights differ from
 * normal ones by little: outliers are few. */
static void default_model_error(void **state) {
    (void)state;
    clf_model_file *file;
    clf_error err = {0};
    const clf_model_file_args args = {.path = "../examples/default_model/default.gguf"};
    if (clf_model_file_open(&file, &args, &err) != CLF_OK) fail_msg("%s", err.message);
    static uint8_t blocks[MAX_BYTES];
    print_message("%-6s %8s %8s\n", "", "bits", "error");
    for (int f = 0; f < FORMATS; f++) {
        const clf_dtype d = formats[f].dtype;
        double above = 0, below = 0;
        for (int64_t i = 0; i < clf_model_file_count(file); i++) {
            const clf_file_tensor *t = clf_model_file_at(file, i);
            if (t->ndim != 2) continue;
            const int64_t n = clf_file_elements(t);
            float *x = malloc((size_t)n * sizeof *x);
            double *y = malloc((size_t)n * sizeof *y);
            assert_true(x && y);
            op_decode(t->dtype, t->data, n, y);
            for (int64_t k = 0; k < n; k++) x[k] = (float)y[k];
            encode(tables[n_tables - 1], t->dtype, t->data, t->shape[0], t->shape[1], NULL, d, blocks);
            op_decode(d, blocks, n, y);
            for (int64_t k = 0; k < n; k++) {
                above += (y[k] - (double)x[k]) * (y[k] - (double)x[k]);
                below += (double)x[k] * (double)x[k];
            }
            free(x);
            free(y);
        }
        const double error = sqrt(above / below);
        print_message("%-6s %8.4f %8.4f\n", clf_dtype_name(d),
                      8 * (double)clf_dtype_block_bytes(d) / clf_dtype_block_values(d), error);
        assert_true(error > 0 && error <= 1.35 * formats[f].gaussian);
    }
    clf_model_file_close(file);
}

/* Encoded again, what was encoded once loses little more. */
static void again_loses_little(void **state) {
    (void)state;
    enum { ROWS = 16, COLUMNS = 4096 };
    static float x[ROWS * COLUMNS];
    static double y[ROWS * COLUMNS];
    static uint8_t blocks[MAX_BYTES];
    for (int f = 0; f < FORMATS; f++) {
        const clf_dtype d = formats[f].dtype;
        for (int i = 0; i < ROWS * COLUMNS; i++) x[i] = (float)normal();
        encode(tables[0], CLF_F32, x, ROWS, COLUMNS, NULL, d, blocks);
        op_decode(d, blocks, ROWS * COLUMNS, y);
        for (int i = 0; i < ROWS * COLUMNS; i++) x[i] = (float)y[i];
        encode(tables[0], CLF_F32, x, ROWS, COLUMNS, NULL, d, blocks);
        const double error = relative_error(d, x, ROWS, COLUMNS, NULL, blocks);
        print_message("%-6s %.5f\n", clf_dtype_name(d), error);
        assert_true(error <= 0.5 * formats[f].gaussian);
    }
}

/* Whatever a block's quants are, if its extremes are among them, encoding what it holds loses nothing. */
static void what_it_holds_comes_back(void **state) {
    (void)state;
    static const struct extremes {
        clf_dtype dtype;
        int scale, minimum, quants; /* where they begin; −1: none */
        int least, most;            /* quants' bytes that hold the extremes */
    } list[] = {
        {CLF_Q8_0, 0, -1, 2, 0x81, 0x7f}, {CLF_Q4_0, 0, -1, 2, 0, 0},         {CLF_Q4_1, 0, 2, 4, 0, 0xff},
        {CLF_Q5_0, 0, -1, 6, 0, 0},       {CLF_Q5_1, 0, 2, 8, 0, 0xff},       {CLF_TQ2_0, 64, -1, 0, 0, 0xaa},
        {CLF_Q2_0, 0, -1, 2, 0, 0xaa},    {CLF_MXFP4, -1, -1, 1, 0x66, 0x77}, {CLF_NF4, -1, -1, 4, 0, 0xff},
        {CLF_IQ4_NL, 0, -1, 2, 0, 0},
    };
    for (size_t f = 0; f < sizeof list / sizeof *list; f++)
        for (int pattern = 0; pattern < 256; pattern++) {
            const struct extremes *e = &list[f];
            const int values = clf_dtype_block_values(e->dtype);
            uint8_t block[256], again[256];
            double y[256], z[256];
            float x[256];
            if ((e->dtype == CLF_TQ2_0 || e->dtype == CLF_Q2_0) && (pattern & pattern >> 1 & 0x55))
                continue;                                          /* 3: 2d */
            if (e->dtype == CLF_Q8_0 && pattern == 0x80) continue; /* −128 is never written */
            memset(block, pattern, sizeof block);
            if (e->scale >= 0) memcpy(block + e->scale, &(uint16_t){0x2c00 + 256}, 2);
            if (e->minimum >= 0) memcpy(block + e->minimum, &(uint16_t){0xb400}, 2);
            if (e->dtype == CLF_MXFP4) block[0] = (uint8_t)(pattern < 253 ? pattern : 252);
            if (e->dtype == CLF_NF4) memcpy(block, &(float){0.01f * (float)(pattern + 1)}, 4);
            block[e->quants + pattern % 3] = (uint8_t)e->least;
            block[e->quants + 5 + pattern % 5] = (uint8_t)e->most;
            if (e->dtype == CLF_Q5_0) memset(block + 2, 0, 2); /* the fifth bits of the extreme */
            if (e->dtype == CLF_Q5_1) memcpy(block + 4, (uint8_t[]){0xf8, 0xff, 0, 0xff}, 4);
            op_decode(e->dtype, block, values, y);
            for (int j = 0; j < values; j++) x[j] = (float)y[j];
            encode_all(CLF_F32, x, 1, values, NULL, e->dtype, again);
            op_decode(e->dtype, again, values, z);
            for (int j = 0; j < values; j++)
                if (fabs(z[j] - y[j]) > 1e-7 * fabs(y[j]))
                    fail_msg("%s, bytes %d: element %d was %.9g and became %.9g", clf_dtype_name(e->dtype), pattern, j,
                             y[j], z[j]);
        }
}

/* From any dtype, through any strides, the bytes are those of the same floats laid out plainly. */
static void any_source(void **state) {
    (void)state;
    enum { ROWS = 6, COLUMNS = 1536, N = ROWS * COLUMNS };
    static const clf_dtype sources[] = {CLF_F16, CLF_BF16, CLF_F64, CLF_I8, CLF_Q8_0, CLF_Q6_K, CLF_NVFP4};
    static float x[N], turned[N];
    static double y[N];
    static uint8_t from[8 * N], want[MAX_BYTES], got[MAX_BYTES];
    for (int f = 0; f < FORMATS; f++) {
        const clf_dtype dtype = formats[f].dtype;
        for (size_t s = 0; s < sizeof sources / sizeof *sources; s++) {
            if (sources[s] == dtype) continue;
            op_run run = {.random = s};
            for (int i = 0; i < N; i++) y[i] = op_round(3 * normal(), sources[s]);
            if (clf_dtype_block_values(sources[s]) > 1)
                op_random_blocks(&run, sources[s], N, 1, from);
            else
                op_encode(sources[s], y, N, from);
            op_decode(sources[s], from, N, y);
            for (int i = 0; i < N; i++) x[i] = (float)y[i];
            encode_all(CLF_F32, x, ROWS, COLUMNS, NULL, dtype, want);
            encode_all(sources[s], from, ROWS, COLUMNS, NULL, dtype, got);
            assert_memory_equal(got, want, bytes_of(dtype, N));
        }
        for (int i = 0; i < N; i++) turned[i % COLUMNS * ROWS + i / COLUMNS] = x[i];
        clf_context *ctx = tables[0];
        clf_tensor *t = tensor_of(ctx, CLF_F32, COLUMNS, ROWS, turned), *view,
                   *wide = tensor_of(ctx, dtype, ROWS, 2 * COLUMNS, NULL), *out;
        assert_ok(ctx, clf_tensor_view(&view, t, 2, (int64_t[]){ROWS, COLUMNS}, (int64_t[]){1, ROWS}, 0));
        assert_ok(ctx, clf_tensor_view(&out, wide, 2, (int64_t[]){ROWS, COLUMNS}, (int64_t[]){2 * COLUMNS, 1}, 256));
        assert_ok(ctx, clf_convert(ctx, &(clf_convert_args){.x = view, .out = out}));
        assert_ok(ctx, clf_tensor_read(out, got, clf_tensor_bytes(out)));
        assert_memory_equal(got, want, bytes_of(dtype, N));
        clf_tensor_destroy(out);
        clf_tensor_destroy(wide);
        clf_tensor_destroy(view);
        clf_tensor_destroy(t);
    }
}

/* The message of a refused call names the place. */
static void refused(clf_context *ctx, const float *x, int64_t rows, int64_t columns, clf_dtype dtype,
                    const char *part) {
    clf_tensor *in = tensor_of(ctx, CLF_F32, rows, columns, x), *out = tensor_of(ctx, dtype, rows, columns, NULL);
    const clf_status st = clf_convert(ctx, &(clf_convert_args){.x = in, .out = out});
    if (st != CLF_NOT_FINITE || !strstr(clf_error_message(ctx), part))
        fail_msg("%s: expected \"%s\", got %s: \"%s\"", clf_dtype_name(dtype), part, clf_status_string(st),
                 clf_error_message(ctx));
    clf_tensor_destroy(in);
    clf_tensor_destroy(out);
}

static void refuses_what_no_block_holds(void **state) {
    (void)state;
    enum { ROWS = 40, COLUMNS = 5120 };
    static float x[ROWS * COLUMNS];
    char message[512] = "";
    clf_context *two;
    const clf_context_args args = {.device = "cpu", .threads = 2, .error = message, .error_size = sizeof message};
    if (clf_context_create(&two, &args) != CLF_OK) fail_msg("%s", message);
    for (int f = 0; f < FORMATS; f++) {
        const clf_dtype dtype = formats[f].dtype;
        for (int k = 0; k < n_tables + 1; k++) {
            clf_context *ctx = k < n_tables ? tables[k] : two;
            for (int i = 0; i < ROWS * COLUMNS; i++) x[i] = (float)(i % 17) - 8;
            x[39 * COLUMNS + 5000] = INFINITY;
            refused(ctx, x, ROWS, COLUMNS, dtype, "got inf in row 39, column 5000");
            x[39 * COLUMNS + 4999] = -INFINITY;
            refused(ctx, x, ROWS, COLUMNS, dtype, "got -inf in row 39, column 4999");
            x[7 * COLUMNS + 1] = NAN;
            refused(ctx, x, ROWS, COLUMNS, dtype, "nan in row 7, column 1");
            if (dtype == CLF_MXFP4 || dtype == CLF_NF4) continue; /* scales that hold any float */
            x[7 * COLUMNS] = -3e38f;                              /* in the same block: the NaN hides it */
            refused(ctx, x, ROWS, COLUMNS, dtype, "nan in row 7, column 1");
            x[5 * COLUMNS + 4099] = 3e38f;
            refused(ctx, x, ROWS, COLUMNS, dtype, "in row 5, columns 4096 to ");
        }
    }
    clf_context_destroy(two);
}

/* 65519 is the largest magnitude that rounds to a half. */
static void largest_scale(void **state) {
    (void)state;
    static const struct {
        clf_dtype dtype;
        float divisor;
    } list[] = {{CLF_Q8_0, 127}, {CLF_Q4_0, 8}, {CLF_Q5_0, 16}, {CLF_TQ1_0, 1}, {CLF_TQ2_0, 1}, {CLF_Q2_0, 1}};
    uint8_t blocks[512];
    float x[256] = {0};
    double y[256];
    for (size_t f = 0; f < sizeof list / sizeof *list; f++)
        for (int k = 0; k < n_tables; k++) {
            x[3] = -65519 * list[f].divisor;
            encode(tables[k], CLF_F32, x, 1, 256, NULL, list[f].dtype, blocks);
            op_decode(list[f].dtype, blocks, 256, y);
            assert_true(fabs(y[3] / (double)x[3] - 1) < 1e-3);
            x[3] = -65521 * list[f].divisor;
            refused(tables[k], x, 1, 256, list[f].dtype, "values too large for the half scale of");
        }
}

static void refuses_wrong_importance(void **state) {
    (void)state;
    static const float x[512];
    for (int k = 0; k < n_tables; k++) {
        clf_context *ctx = tables[k];
        clf_tensor *in = tensor_of(ctx, CLF_F32, 2, 256, x), *out = tensor_of(ctx, CLF_Q4_K, 2, 256, NULL),
                   *plain = tensor_of(ctx, CLF_F16, 2, 256, NULL), *rows = tensor_of(ctx, CLF_F32, 1, 256, x), *w, *y;
        const clf_tensor_args args = {.ndim = 1, .shape = {256}}, longer = {.ndim = 1, .shape = {512}};
        assert_ok(ctx, clf_tensor_create(&w, ctx, &args));
        assert_ok(ctx, clf_tensor_create(&y, ctx, &longer));
        clf_convert_args a = {.x = in, .importance = w, .out = out};
        static const struct {
            float value;
            const char *part;
        } bad[] = {{-1, "got -1 in column 77"}, {INFINITY, "got inf in column 77"}, {NAN, "nan in column 77"}};
        for (int b = 0; b < 3; b++) {
            float values[256] = {0};
            values[77] = bad[b].value;
            assert_ok(ctx, clf_tensor_write(w, values, sizeof values));
            assert_int_equal(op_rejected(ctx, clf_convert(ctx, &a), CLF_INVALID_ARGUMENT, bad[b].part), 0);
        }
        a.importance = y;
        assert_int_equal(op_rejected(ctx, clf_convert(ctx, &a), CLF_INVALID_ARGUMENT, "importance: expected shape"), 0);
        a.importance = rows;
        assert_int_equal(op_rejected(ctx, clf_convert(ctx, &a), CLF_INVALID_ARGUMENT, "importance: expected 1 to 1"),
                         0);
        a.importance = w, a.out = plain;
        assert_int_equal(op_rejected(ctx, clf_convert(ctx, &a), CLF_INVALID_ARGUMENT, "a block dtype, got f16"), 0);
        clf_tensor *const all[] = {in, out, plain, rows, w, y};
        for (int i = 0; i < 6; i++) clf_tensor_destroy(all[i]);
        for (int d = 0; d < 2; d++) { /* read, not written */
            clf_tensor *from = tensor_of(ctx, CLF_F32, 1, 128, x),
                       *to = tensor_of(ctx, d ? CLF_NVFP4 : CLF_Q1_0, 1, 128, NULL);
            a = (clf_convert_args){.x = from, .out = to};
            assert_int_equal(op_rejected(ctx, clf_convert(ctx, &a), CLF_INVALID_ARGUMENT, d ? "got nvfp4" : "got q1_0"),
                             0);
            clf_tensor_destroy(from);
            clf_tensor_destroy(to);
        }
        clf_tensor *t;
        const clf_tensor_args ragged = {.dtype = CLF_Q4_K, .ndim = 2, .shape = {2, 300}};
        assert_int_equal(clf_tensor_create(&t, ctx, &ragged), CLF_INVALID_ARGUMENT); /* rows are whole blocks */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_bytes),       cmocka_unit_test(blocks_are_near),
        cmocka_unit_test(gaussian_error),     cmocka_unit_test(default_model_error),
        cmocka_unit_test(again_loses_little), cmocka_unit_test(what_it_holds_comes_back),
        cmocka_unit_test(any_source),         cmocka_unit_test(refuses_what_no_block_holds),
        cmocka_unit_test(largest_scale),      cmocka_unit_test(refuses_wrong_importance)};
    return cmocka_run_group_tests(tests, open_tables, close_tables);
}
