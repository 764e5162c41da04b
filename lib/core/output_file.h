/* output_file.h: a file that is whole or not there: written beside its place under another name, synced, then renamed.
 * Whatever stood there before stays until then, also if writing fails or the process dies. */
#ifndef CLF_CORE_OUTPUT_FILE_H
#define CLF_CORE_OUTPUT_FILE_H

#include "status.h"

typedef struct clf_output_file {
    char *path, *temporary; /* NULL: not open */
    int fd;
} clf_output_file;

clf_status clf_output_file_create(clf_output_file *file, const char *path, clf_error *err);
/* Writes anywhere; what is never written reads as zeros. */
clf_status clf_output_file_write(clf_output_file *file, uint64_t offset, const void *data, uint64_t bytes,
                                 clf_error *err);
/* Gives the file its `size`, its place and its name. Closed afterwards, also on failure, when nothing is left behind.
 */
clf_status clf_output_file_finish(clf_output_file *file, uint64_t size, clf_error *err);
/* All of a file at once. */
clf_status clf_output_file_put(const char *path, const void *data, uint64_t bytes, clf_error *err);
/* Makes a name in the folder of `path` outlast a crash, as well as it can: the file is whole without it. */
void clf_sync_folder_of(const char *path);
/* "what path: …" from errno: CLF_NOT_FOUND, CLF_OUT_OF_MEMORY or CLF_IO_ERROR. */
clf_status clf_fail_errno(clf_error *err, const char *what, const char *path, int error);
/* Removes what was written. A zeroed or finished file is accepted. */
void clf_output_file_discard(clf_output_file *file);

#endif
