/* vocab.c: test-vocab PATH...: tokenizers against expected ids, through the public API. A PATH is
 *
 *     X.gguf    with X.gguf.inp (texts between lines "__ggml_vocab_test__") and X.gguf.out (line n: ids of text n,
 * without begin-of-sequence, special tokens in the text not parsed) a folder  with tokenizer.json and expect.json
 * ([{"text", "ids", "decoded"}], special tokens parsed) a folder  of such files and folders
 *
 * Ids must be equal, decoded texts too; streaming must give the same text. Exit status 1: failures, 77: nothing to do.
 */
#include <clformer/model.h>

#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct counts {
    int passed, failed, skipped;
} counts;

static char *path_of(const char *folder, const char *name) {
    const size_t n = strlen(folder) + strlen(name) + 1;
    char *path = malloc(n);
    if (!path) abort();
    snprintf(path, n, "%s%s", folder, name);
    return path;
}

static char *read_text(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    char *text = NULL;
    *length = 0;
    for (size_t room = 0, n = 1; n; *length += n) {
        if (*length + 65537 > room) text = realloc(text, room = 2 * room + 131072);
        if (!text) abort();
        n = fread(text + *length, 1, 65536, file);
    }
    text[*length] = 0;
    fclose(file);
    return text;
}

static void print_ids(const char *name, const int32_t *ids, size_t n) {
    printf("    %s:", name);
    for (size_t i = 0; i < n; i++) printf(" %d", ids[i]);
    printf("\n");
}

/* The text of a stream of ids, to be freed. */
static char *stream(const clf_tokenizer *tokenizer, const int32_t *ids, size_t n, size_t *length) {
    clf_detokenizer *d;
    char *all = NULL;
    *length = 0;
    if (clf_detokenizer_create(&d, tokenizer, true) != CLF_OK) return NULL;
    for (size_t i = 0; i <= n; i++) {
        const char *part;
        size_t m;
        const clf_status st = i < n ? clf_detokenizer_push(d, ids[i], &part, &m) : clf_detokenizer_finish(d, &part, &m);
        char *more = st == CLF_OK ? realloc(all, *length + m + 1) : NULL;
        if (!more) break;
        all = more;
        memcpy(all + *length, part, m);
        *length += m;
    }
    clf_detokenizer_destroy(d);
    return all;
}

/* One text; `decoded` may be NULL. */
static bool check(const clf_tokenizer *tokenizer, const char *text, size_t length, int flags, const int32_t *expected,
                  size_t n_expected, const char *decoded, size_t decoded_length) {
    size_t count = 0, full = 0, streamed_length = 0;
    clf_status st = clf_tokenize(tokenizer, text, length, flags, NULL, 0, &count);
    int32_t *ids = calloc(count + 1, sizeof *ids);
    char *back = NULL, *streamed = NULL;
    if (!ids) abort();
    st = clf_tokenize(tokenizer, text, length, flags, ids, count, &full);
    bool ok = st == CLF_OK && full == count && count == n_expected &&
              (!count || memcmp(ids, expected, count * sizeof *ids) == 0);
    if (!ok) {
        printf("  FAIL %.*s\n", (int)(length < 200 ? length : 200), text);
        if (st != CLF_OK) printf("    %s\n", clf_status_string(st));
        print_ids("expected", expected, n_expected);
        print_ids("got     ", ids, count);
    }
    if (ok && decoded) {
        size_t size = 0, again = 0;
        clf_detokenize(tokenizer, ids, count, true, NULL, 0, &size);
        back = malloc(size + 1);
        if (!back) abort();
        st = clf_detokenize(tokenizer, ids, count, true, back, size + 1, &again);
        streamed = stream(tokenizer, ids, count, &streamed_length);
        ok = st == CLF_OK && again == size && size == decoded_length && memcmp(back, decoded, size) == 0 && streamed &&
             streamed_length == size && memcmp(streamed, back, size) == 0;
        if (!ok) printf("  FAIL decoded: expected \"%s\", got \"%s\", streamed \"%s\"\n", decoded, back, streamed);
    }
    free(ids);
    free(back);
    free(streamed);
    return ok;
}

static clf_tokenizer *open_tokenizer(const char *path, counts *c) {
    char message[512] = "";
    clf_tokenizer *tokenizer;
    const clf_status st = clf_tokenizer_create(
        &tokenizer, &(clf_tokenizer_args){.path = path, .error = message, .error_size = sizeof message});
    if (st == CLF_OK) return tokenizer;
    printf("%s: FAIL %s: %s\n", path, clf_status_string(st), message);
    c->failed++;
    return NULL;
}

static void test_gguf(const char *path, counts *all) {
    counts c = {0};
    size_t length, out_length;
    char *input_path = path_of(path, ".inp"), *output_path = path_of(path, ".out");
    char *texts = read_text(input_path, &length), *lines = read_text(output_path, &out_length);
    clf_tokenizer *tokenizer = NULL;
    if (!texts || !lines) {
        printf("%s: SKIP without %s\n", path, texts ? output_path : input_path);
        all->skipped++;
    } else {
        tokenizer = open_tokenizer(path, all);
    }
    static const char separator[] = "\n__ggml_vocab_test__\n";
    char *text = texts, *line = lines;
    while (tokenizer && line < lines + out_length) {
        char *end = strstr(text, separator), *line_end = strchr(line, '\n');
        if (!end) end = texts + length;
        if (line_end) *line_end = 0;
        int32_t *expected = calloc(strlen(line) + 1, sizeof *expected);
        size_t n = 0;
        if (!expected) abort();
        for (char *at = line, *next;; at = next) {
            const long id = strtol(at, &next, 10);
            if (next == at) break;
            expected[n++] = (int32_t)id;
        }
        if (check(tokenizer, text, (size_t)(end - text), CLF_TOKENIZE_PLAIN, expected, n, NULL, 0))
            c.passed++;
        else
            c.failed++;
        free(expected);
        line = line_end ? line_end + 1 : lines + out_length;
        if (end == texts + length) break;
        text = end + strlen(separator);
    }
    if (tokenizer && line < lines + out_length) {
        printf("  FAIL more lines of ids than texts\n");
        c.failed++;
    }
    if (tokenizer) printf("%s: %d passed, %d failed\n", path, c.passed, c.failed);
    all->passed += c.passed;
    all->failed += c.failed;
    clf_tokenizer_destroy(tokenizer);
    free(texts);
    free(lines);
    free(input_path);
    free(output_path);
}

static void test_folder(const char *path, const char *expect_path, counts *all) {
    counts c = {0};
    clf_tokenizer *tokenizer = open_tokenizer(path, all);
    if (!tokenizer) return;
    json_error_t why;
    json_t *expect = json_load_file(expect_path, JSON_ALLOW_NUL, &why), *row;
    size_t i;
    if (!expect) {
        printf("%s: %s\n", expect_path, why.text);
        c.failed++;
    }
    json_array_foreach(expect, i, row) {
        const json_t *text = json_object_get(row, "text"), *decoded = json_object_get(row, "decoded");
        const json_t *ids = json_object_get(row, "ids");
        const size_t n = json_array_size(ids);
        int32_t *expected = calloc(n + 1, sizeof *expected);
        if (!expected) abort();
        for (size_t k = 0; k < n; k++) expected[k] = (int32_t)json_integer_value(json_array_get(ids, k));
        if (check(tokenizer, json_string_value(text), json_string_length(text), CLF_TOKENIZE_PARSE_SPECIAL, expected, n,
                  json_string_value(decoded), json_string_length(decoded)))
            c.passed++;
        else
            c.failed++;
        free(expected);
    }
    printf("%s: %d passed, %d failed\n", path, c.passed, c.failed);
    all->passed += c.passed;
    all->failed += c.failed;
    json_decref(expect);
    clf_tokenizer_destroy(tokenizer);
}

static void test(const char *path, bool top, counts *all) {
    struct stat info;
    const size_t n = strlen(path);
    if (stat(path, &info) != 0) {
        printf("%s: SKIP not there\n", path);
        all->skipped++;
    } else if (!S_ISDIR(info.st_mode)) {
        if (n > 5 && strcmp(path + n - 5, ".gguf") == 0)
            test_gguf(path, all);
        else if (top) {
            printf("%s: SKIP neither a GGUF nor a folder\n", path);
            all->skipped++;
        }
    } else {
        char *expect = path_of(path, "/expect.json");
        struct dirent **names = NULL;
        if (stat(expect, &info) == 0) {
            test_folder(path, expect, all);
        } else {
            const int count = scandir(path, &names, NULL, alphasort);
            for (int i = 0; i < count; i++) {
                char *folder = path_of(path, "/"), *inner = path_of(folder, names[i]->d_name);
                if (names[i]->d_name[0] != '.') test(inner, false, all);
                free(folder);
                free(inner);
                free(names[i]);
            }
            free(names);
        }
        free(expect);
    }
}

int main(int argc, char **argv) {
    counts c = {0};
    for (int i = 1; i < argc; i++) test(argv[i], true, &c);
    printf("%d passed, %d failed, %d skipped\n", c.passed, c.failed, c.skipped);
    return c.failed ? 1 : c.passed ? 0 : 77;
}
