/* source.h: the bytes of one file, or of memory, as one range of addresses. A mapped file and memory are there at once;
 * of a file that is read, only what clf_source_need() asked for is, at the address where a mapping would have it, so
 * that a parser is written once and a file of a terabyte with a small header costs its header. */
#ifndef CLF_MODEL_SOURCE_H
#define CLF_MODEL_SOURCE_H

#include "../core/status.h"

typedef struct clf_source {
    const uint8_t *data; /* [size] */
    uint64_t size;
    uint64_t prefix; /* of a file that is read: so many bytes from the start are there */
    uint64_t mapped; /* bytes to unmap; 0: the caller's memory */
    bool reading;    /* fd is open: what isn't there yet can be read from it */
    int fd;
    uint64_t device, inode; /* of the file; 0: the caller's memory */
} clf_source;

/* Opens a regular file: FIFOs, devices and folders are refused without waiting. `map`: with mmap; false: for reading.
 */
clf_status clf_source_open(clf_source *s, const char *path, bool map, clf_error *err);
/* The caller's memory, which must outlive the source. */
clf_status clf_source_wrap(clf_source *s, const void *data, uint64_t size, clf_error *err);
/* Makes [begin, end) readable; CLF_BAD_FILE if the file ends before, CLF_IO_ERROR if reading fails,
 * CLF_OUT_OF_MEMORY if the machine cannot hold it. */
clf_status clf_source_need(clf_source *s, uint64_t begin, uint64_t end, clf_error *err);
/* What of a mapped file isn't in the page cache yet comes there in large pages, if the system can: faster to stream,
 * but each place that is touched counts 2 MB as resident. */
void clf_source_ask_large(const clf_source *s);
/* Lets go of the memory under the whole pages of a range of a mapped file; they are read again if they are touched. */
void clf_source_forget(const void *data, uint64_t bytes);
/* Whether the file at `path` is the one that is open, perhaps by another name. */
bool clf_source_is_at(const clf_source *s, const char *path);
/* Nothing more will be needed: closes the file descriptor. */
void clf_source_seal(clf_source *s);
/* A zeroed source is accepted. */
void clf_source_close(clf_source *s);

#endif
