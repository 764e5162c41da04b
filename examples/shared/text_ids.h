/* text_ids.h: a text file as a model's tokens. */
#ifndef EXAMPLES_TEXT_IDS_H
#define EXAMPLES_TEXT_IDS_H

#include <clformer/model.h>

/* The ids of a file ("-": stdin), special ones added as the model wants them; to be freed. NULL on failure: *why says
 * it. */
int32_t *text_ids(const clf_tokenizer *tokenizer, const char *path, size_t *count, const char **why);

#endif
