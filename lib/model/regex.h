/* regex.h: the patterns of tokenizers, by PCRE2 (UTF, Unicode properties, JIT). Patterns are written for Oniguruma or
 * std::regex; clf_regex_create() rewrites what PCRE2 understands differently and refuses what it can't say. */
#ifndef CLF_MODEL_REGEX_H
#define CLF_MODEL_REGEX_H

#include "../core/status.h"

typedef struct clf_regex clf_regex;     /* compiled; immutable, shared by threads */
typedef struct clf_matcher clf_matcher; /* what one thread needs to match */

/* `pattern` is UTF-8. CLF_BAD_FILE if it is no pattern, CLF_UNSUPPORTED for a construct that PCRE2 doesn't have. */
clf_status clf_regex_create(clf_regex **out, const char *pattern, size_t length, clf_error *err);
void clf_regex_destroy(clf_regex *regex);

clf_matcher *clf_matcher_create(void); /* NULL: out of memory */
void clf_matcher_destroy(clf_matcher *matcher);

/* The first match in `text` (UTF-8) at or after `from`: 1 and its bounds, 0 if there is none, -1 if the search was
 * given up (too many steps, or no memory). */
int clf_regex_find(const clf_regex *regex, clf_matcher *matcher, const char *text, size_t length, size_t from,
                   size_t *begin, size_t *end);

#endif
