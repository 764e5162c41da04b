/* tokenize.c: text to the tokens of a model, and back. Shows the tokenizer part of the API: open one alone, ask for the
 * number of ids, fetch them, spell them. One line a token, or as the options say; errors go to stderr and make the exit
 * status 1. */
#define _GNU_SOURCE
#include <argp.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <clformer/clformer.h>

#include "shared/read_file.h"

typedef enum output { OUTPUT_LINES, OUTPUT_IDS, OUTPUT_COUNT, OUTPUT_JSON } output;

typedef struct options {
    const char *model, *file;
    char **words; /* [n_words] */
    int n_words;
    output output;
    bool decode, special;
} options;

typedef struct buffer {
    char *data; /* terminated */
    size_t length;
} buffer;

static int fail(const char *what, const char *why) {
    fprintf(stderr, "clformer-tokenize: %s: %s\n", what, why);
    return EXIT_FAILURE;
}

static int append(buffer *b, const char *bytes, size_t length) {
    char *data = realloc(b->data, b->length + length + 1);
    if (!data) return fail("text", "out of memory");
    if (length) memcpy(data + b->length, bytes, length);
    b->data = data;
    b->data[b->length += length] = 0;
    return EXIT_SUCCESS;
}

/* The arguments, or else all of the file or of stdin. */
static int read_input(buffer *b, const options *o) {
    int rc = append(b, "", 0);
    for (int i = 0; i < o->n_words && !rc; i++) {
        if (i) rc = append(b, " ", 1);
        if (!rc) rc = append(b, o->words[i], strlen(o->words[i]));
    }
    if (rc || (o->n_words && !o->file)) return rc;
    const char *path = o->file ? o->file : "-";
    size_t n;
    char *text = read_file(path, &n);
    if (!text) return fail(path, strerror(errno));
    rc = append(b, text, n);
    free(text);
    return rc;
}

/* Numbers, separated by white space or commas. */
static int parse_ids(const char *text, int32_t **ids, size_t *count) {
    *count = 0;
    *ids = malloc((strlen(text) / 2 + 1) * sizeof **ids);
    if (!*ids) return fail("ids", "out of memory");
    for (const char *at = text + strspn(text, " \t\r\n,"); *at; at += strspn(at, " \t\r\n,")) {
        char *end;
        errno = 0;
        const long id = strtol(at, &end, 10);
        if (end == at || errno || id < 0 || id > INT32_MAX || (*end && !strchr(" \t\r\n,", *end)))
            return fail("ids", "expected numbers");
        (*ids)[(*count)++] = (int32_t)id;
        at = end;
    }
    return EXIT_SUCCESS;
}

static int decode(const clf_tokenizer *t, const options *o, const char *input) {
    int32_t *ids;
    size_t n, length;
    int rc = parse_ids(input, &ids, &n);
    clf_status st = rc ? CLF_OK : clf_detokenize(t, ids, n, o->special, NULL, 0, &length);
    if (!rc && st == CLF_FULL) {
        char *text = malloc(length + 1);
        st = text ? clf_detokenize(t, ids, n, o->special, text, length + 1, &length) : CLF_OUT_OF_MEMORY;
        if (st == CLF_OK) fwrite(text, 1, length, stdout);
        free(text);
    }
    if (!rc && st != CLF_OK) rc = fail("ids", clf_status_string(st));
    free(ids);
    return rc;
}

/* A piece on one line. */
static void print_piece(const char *piece) {
    for (; *piece; piece++) {
        if (*piece == '\n')
            fputs("\\n", stdout);
        else if (*piece == '\r')
            fputs("\\r", stdout);
        else
            putchar(*piece);
    }
}

static int print_json(const clf_tokenizer *t, const int32_t *ids, size_t n) {
    json_t *root = json_object(), *numbers = json_array(), *pieces = json_array();
    bool ok = root && numbers && pieces;
    for (size_t i = 0; ids && i < n && ok; i++) {
        const char *piece = clf_tokenizer_piece(t, ids[i]);
        json_t *text = json_string(piece); /* NULL if it isn't UTF-8 */
        ok = json_array_append_new(numbers, json_integer(ids[i])) == 0 &&
             json_array_append_new(pieces, text ? text : json_null()) == 0;
    }
    ok = ok && json_object_set_new(root, "count", json_integer((json_int_t)n)) == 0 &&
         json_object_set(root, "ids", numbers) == 0 && json_object_set(root, "pieces", pieces) == 0 &&
         json_dumpf(root, stdout, JSON_COMPACT) == 0;
    putchar('\n');
    json_decref(root);
    json_decref(numbers);
    json_decref(pieces);
    return ok ? EXIT_SUCCESS : fail("JSON", "can't be written");
}

static int encode(const clf_tokenizer *t, const options *o, const buffer *text) {
    const int flags = o->special ? CLF_TOKENIZE_ADD_SPECIAL | CLF_TOKENIZE_PARSE_SPECIAL : CLF_TOKENIZE_PLAIN;
    size_t n;
    int32_t *ids = NULL;
    clf_status st = clf_tokenize(t, text->data, text->length, flags, NULL, 0, &n);
    if (st == CLF_FULL) {
        ids = malloc(n * sizeof *ids);
        st = ids ? clf_tokenize(t, text->data, text->length, flags, ids, n, &n) : CLF_OUT_OF_MEMORY;
    }
    int rc = EXIT_SUCCESS;
    if (st != CLF_OK)
        rc = fail("text", clf_status_string(st));
    else if (o->output == OUTPUT_COUNT)
        printf("%zu\n", n);
    else if (o->output == OUTPUT_JSON)
        rc = print_json(t, ids, n);
    else
        for (size_t i = 0; ids && i < n; i++) {
            if (o->output == OUTPUT_IDS) {
                printf(i + 1 < n ? "%d " : "%d\n", ids[i]);
                continue;
            }
            printf("%d\t", ids[i]);
            print_piece(clf_tokenizer_piece(t, ids[i]));
            putchar('\n');
        }
    free(ids);
    return rc;
}

static error_t parse_option(int key, char *value, struct argp_state *state) {
    options *o = state->input;
    switch (key) {
    case 'm': o->model = value; break;
    case 'f': o->file = value; break;
    case 'i': o->output = OUTPUT_IDS; break;
    case 'c': o->output = OUTPUT_COUNT; break;
    case 'j': o->output = OUTPUT_JSON; break;
    case 'd': o->decode = true; break;
    case 's': o->special = true; break;
    case ARGP_KEY_ARGS:
        o->words = state->argv + state->next;
        o->n_words = state->argc - state->next;
        break;
    case ARGP_KEY_END:
        if (!o->model) argp_error(state, "--model is needed");
        if (o->file && o->n_words) argp_error(state, "either --file or text, not both");
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int main(int argc, char **argv) {
    static const struct argp_option list[] = {
        {"model", 'm', "PATH", 0, "GGUF file, tokenizer.json, tokenizer.model, or a folder with one of these", 0},
        {"file", 'f', "FILE", 0, "read from FILE; - is stdin", 0},
        {"ids", 'i', NULL, 0, "print ids only, on one line", 0},
        {"count", 'c', NULL, 0, "print the number of tokens", 0},
        {"json", 'j', NULL, 0, "print count, ids and pieces as JSON", 0},
        {"decode", 'd', NULL, 0, "the input is ids; print their text", 0},
        {"special", 's', NULL, 0,
         "add begin-of-sequence and the like, and parse special tokens in the text; with --decode spell them out", 0},
        {0}};
    static const struct argp argp = {
        .options = list,
        .parser = parse_option,
        .args_doc = "[TEXT...]",
        .doc = "Shows the tokens of a text: of the arguments, or else of stdin.\vExamples:\n"
               "  clformer-tokenize -m model.gguf Hello world\n"
               "  clformer-tokenize -m model.gguf --count -f book.txt\n"
               "  clformer-tokenize -m model.gguf --ids <book.txt | clformer-tokenize -m model.gguf --decode"};
    argp_program_version = "clformer-tokenize " CLF_VERSION_STRING;
    options o = {0};
    argp_parse(&argp, argc, argv, 0, NULL, &o);

    char message[512] = "";
    clf_tokenizer *t = NULL;
    const clf_status st = clf_tokenizer_create(
        &t, &(clf_tokenizer_args){.path = o.model, .error = message, .error_size = sizeof message});
    if (st != CLF_OK) return fail(o.model, *message ? message : clf_status_string(st));
    buffer input = {0};
    int rc = read_input(&input, &o);
    if (!rc) rc = o.decode ? decode(t, &o, input.data) : encode(t, &o, &input);
    free(input.data);
    clf_tokenizer_destroy(t);
    if (!rc && (fflush(stdout) || ferror(stdout))) rc = fail("stdout", strerror(errno));
    return rc;
}
