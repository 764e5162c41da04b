/* json.h: reading JSON files with jansson: duplicate names, NULs and bad UTF-8 refused, messages with file and place.
 */
#ifndef CLF_MODEL_JSON_H
#define CLF_MODEL_JSON_H

#include <jansson.h>

#include "../core/status.h"

/* Parses `size` bytes, an object; the caller decrefs *out. `name` is for messages. */
clf_status clf_json_parse(json_t **out, const void *data, uint64_t size, const char *name, clf_error *err);
/* Reads a file of at most `max` bytes. */
clf_status clf_json_read(json_t **out, const char *path, uint64_t max, clf_error *err);
/* The text of a value, to be freed; NULL: out of memory. (json_dumps() may then leave out names.) */
char *clf_json_text(const json_t *value, size_t flags);
/* folder + "/" + name, to be freed; NULL: out of memory. */
char *clf_path_join(const char *folder, const char *name);

#endif
