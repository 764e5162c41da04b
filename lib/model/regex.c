/* regex.c: PCRE2 behind regex.h. What differs from Oniguruma (Ruby syntax, as the tokenizers library uses it):
 *
 *     \s \S   Unicode's White_Space; PCRE2 adds U+180E            written out as a list
 *     \w \W   letters, marks, decimal digits, letter numbers and connectors; PCRE2 10.42 leaves marks out   written out
 *     \h \H   hexadecimal digits, PCRE2: horizontal space         written out
 *     [:punct:] [:alpha:]   with symbols; with letter numbers              written out
 *     ^ $     at every line                                       PCRE2_MULTILINE
 *     [a[b]] [a&&b]   sets within sets                            refused
 */
#include "regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

enum { MATCH_LIMIT = 10000000, JIT_STACK_MAX = 8 << 20 };

struct clf_regex {
    pcre2_code *code;
};

struct clf_matcher {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

#define SPACES                                                                                                         \
    "\\x{09}-\\x{0D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
#define NO_SPACES                                                                                                      \
    "\\x{0}-\\x{8}\\x{E}-\\x{1F}\\x{21}-\\x{84}\\x{86}-\\x{9F}\\x{A1}-\\x{167F}\\x{1681}-\\x{1FFF}\\x{200B}-\\x{2027}" \
    "\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}\\x{3001}-\\x{10FFFF}"
#define LETTERS "\\p{L}\\p{Nl}\\x{24B6}-\\x{24E9}"
#define WORDS   LETTERS "\\p{M}\\p{Nd}\\p{Pc}"
#define HEXES   "0-9A-Fa-f"

/* What stands for \c, outside a set and inside one; NULL: \c itself. */
static const char *class_of(char c, bool inside) {
    switch (c) {
    case 's': return inside ? SPACES : "[" SPACES "]";
    case 'S': return inside ? NO_SPACES : "[^" SPACES "]";
    case 'w': return inside ? WORDS : "[" WORDS "]";
    case 'W': return inside ? NULL : "[^" WORDS "]";
    case 'h': return inside ? HEXES : "[" HEXES "]";
    case 'H': return inside ? NULL : "[^" HEXES "]";
    default: return NULL;
    }
}

static clf_status translate(clf_text *out, const char *pattern, size_t length, clf_error *err) {
    bool inside = false, ok = true;
    for (size_t i = 0; i < length && ok; i++) {
        const char c = pattern[i];
        if (c == '\\' && i + 1 < length) {
            const char *class = class_of(pattern[i + 1], inside);
            ok = class ? clf_text_append(out, class, strlen(class)) : clf_text_append(out, pattern + i, 2);
            i++;
            continue;
        }
        ok = clf_text_append(out, &c, 1);
        if (!inside && c == '[') {
            inside = true;
            /* a ] that comes first is itself */
            size_t first = i + 1;
            if (first < length && pattern[first] == '^') first++;
            if (first < length && pattern[first] == ']') first++;
            ok = ok && clf_text_append(out, pattern + i + 1, first - i - 1);
            i = first - 1;
        } else if (inside && c == ']') {
            inside = false;
        } else if (inside && i + 1 < length &&
                   ((c == '[' && pattern[i + 1] != ':') || (c == '&' && pattern[i + 1] == '&'))) {
            return clf_fail(err, CLF_UNSUPPORTED, "pattern: sets within sets at offset %zu of \"%.*s\"", i,
                            (int)(length < 200 ? length : 200), pattern);
        } else if (inside && c == '[') { /* [:name:] */
            const char *end = i + 2 < length ? memchr(pattern + i + 2, ']', length - i - 2) : NULL;
            const size_t n = end ? (size_t)(end - pattern) + 1 - i : 1;
            const char *class = n == 9 && memcmp(pattern + i, "[:punct:]", 9) == 0   ? "\\p{P}\\p{S}"
                                : n == 9 && memcmp(pattern + i, "[:alpha:]", 9) == 0 ? LETTERS
                                                                                     : NULL;
            out->length--;
            ok = ok && (class ? clf_text_append(out, class, strlen(class)) : clf_text_append(out, pattern + i, n));
            i += n - 1;
        }
    }
    return ok ? CLF_OK : clf_fail(err, CLF_OUT_OF_MEMORY, "pattern: out of memory");
}

clf_status clf_regex_create(clf_regex **out, const char *pattern, size_t length, clf_error *err) {
    *out = NULL;
    clf_text text = {0};
    clf_regex *regex = NULL;
    clf_status st = translate(&text, pattern, length, err);
    if (st != CLF_OK) goto done;
    st = CLF_OUT_OF_MEMORY;
    if (!(regex = calloc(1, sizeof *regex)) || !clf_text_terminate(&text)) {
        clf_fail(err, st, "pattern: out of memory");
        goto done;
    }
    int code;
    PCRE2_SIZE at;
    regex->code =
        pcre2_compile((PCRE2_SPTR)text.data, text.length, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &code, &at, NULL);
    if (!regex->code) {
        PCRE2_UCHAR why[128];
        pcre2_get_error_message(code, why, sizeof why);
        st = clf_fail(err, CLF_BAD_FILE, "pattern: %s at offset %zu of \"%.200s\"", (const char *)why, at, text.data);
        goto done;
    }
    pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE); /* without it matching is slower, no more */
    st = CLF_OK;
    *out = regex;
    regex = NULL;
done:
    clf_regex_destroy(regex);
    free(text.data);
    return st;
}

void clf_regex_destroy(clf_regex *regex) {
    if (!regex) return;
    pcre2_code_free(regex->code);
    free(regex);
}

clf_matcher *clf_matcher_create(void) {
    clf_matcher *matcher = calloc(1, sizeof *matcher);
    if (!matcher) return NULL;
    matcher->data = pcre2_match_data_create(1, NULL);
    matcher->context = pcre2_match_context_create(NULL);
    matcher->stack = pcre2_jit_stack_create(32 << 10, JIT_STACK_MAX, NULL);
    if (!matcher->data || !matcher->context) {
        clf_matcher_destroy(matcher);
        return NULL;
    }
    pcre2_set_match_limit(matcher->context, MATCH_LIMIT);
    if (matcher->stack) pcre2_jit_stack_assign(matcher->context, NULL, matcher->stack);
    return matcher;
}

void clf_matcher_destroy(clf_matcher *matcher) {
    if (!matcher) return;
    pcre2_match_data_free(matcher->data);
    pcre2_match_context_free(matcher->context);
    pcre2_jit_stack_free(matcher->stack);
    free(matcher);
}

int clf_regex_find(const clf_regex *regex, clf_matcher *matcher, const char *text, size_t length, size_t from,
                   size_t *begin, size_t *end) {
    const int rc =
        pcre2_match(regex->code, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK, matcher->data, matcher->context);
    if (rc == PCRE2_ERROR_NOMATCH) return 0;
    if (rc < 0) return -1;
    const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(matcher->data);
    *begin = bounds[0];
    *end = bounds[1];
    return *end >= *begin ? 1 : -1; /* \K in a lookaround can put the end first */
}
