/* tokenizer_json.h: reading tokenizer.json, in two files: the steps, and everything else. Messages name the JSON path.
 */
#ifndef CLF_MODEL_TOKENIZER_JSON_H
#define CLF_MODEL_TOKENIZER_JSON_H

#include <jansson.h>

#include "tokenizer_data.h"

/* Each takes an object with "type" (a sequence nests) or null. */
clf_status clf_json_normalizer(clf_tokenizer *t, const json_t *json, clf_error *err);
clf_status clf_json_pre_tokenizer(clf_tokenizer *t, const json_t *json, clf_error *err);
clf_status clf_json_decoder(clf_tokenizer *t, const json_t *json, clf_error *err);

/* A text in JSON as a tokenizer, not finished yet. */
clf_status clf_tokenizer_from_json(clf_tokenizer **out, const char *text, size_t length, clf_error *err);

/* Members that may be absent or null: `*out` then stays. CLF_BAD_FILE if they are of another type. */
clf_status clf_json_get_bool(const json_t *object, const char *key, bool *out, clf_error *err);
clf_status clf_json_get_string(const json_t *object, const char *key, const json_t **out, clf_error *err);
/* "type" of an object, or NULL with a message. */
const char *clf_json_type(const json_t *object, const char *what, clf_error *err);

#endif
