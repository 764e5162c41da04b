/* output_folder.h: a folder of files that is whole or not there: written beside its place under another name, then
 * renamed. An older one in its place is exchanged for it, if it holds no files but such as are written here. */
#ifndef CLF_CORE_OUTPUT_FOLDER_H
#define CLF_CORE_OUTPUT_FOLDER_H

#include "status.h"

typedef struct clf_output_folder {
    char *path, *temporary;   /* files are written in `temporary`; NULL: not open */
    const char *const *names; /* of all files that may be there, NULL at the end */
} clf_output_folder;

/* `names` must outlive the folder. CLF_INVALID_ARGUMENT if `path` is no folder, or holds anything else. */
clf_status clf_output_folder_create(clf_output_folder *folder, const char *path, const char *const *names,
                                    clf_error *err);
/* Gives it its place. Closed afterwards, also on failure, when nothing is left behind. */
clf_status clf_output_folder_finish(clf_output_folder *folder, clf_error *err);
/* Removes what was written. A zeroed or finished folder is accepted. */
void clf_output_folder_discard(clf_output_folder *folder);

#endif
