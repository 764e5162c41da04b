/* read_file.h: all of a file, whatever its bytes are. */
#ifndef EXAMPLES_READ_FILE_H
#define EXAMPLES_READ_FILE_H

#include <stddef.h>

/* The bytes of a file ("-": stdin), terminated, to be freed. NULL with errno on failure. */
char *read_file(const char *path, size_t *length);

#endif
