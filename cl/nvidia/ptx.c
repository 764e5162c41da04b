/* ptx.c: NVIDIA's OpenCL makes PTX, which is text, for sm_90 of a device that can do sm_90a, and takes PTX as a binary.
 * A program for sm_90a is so come by in two steps: the driver compiles the source with the instructions of sm_90a as
 * comments, and what it made is edited and loaded. */
#include "nvidia.h"

#include <stdlib.h>
#include <string.h>

static const char mark[] = "//@", target[] = ".target sm_90";

char *clf_nvidia_ptx_90a(const char *ptx) {
    const char *at = strstr(ptx, target);
    if (!at || !strstr(ptx, mark)) return NULL;
    char *edited = malloc(strlen(ptx) + 2), *to = edited;
    if (!edited) return NULL;
    at += sizeof target - 1;
    const char *rest = *at == 'a' ? at + 1 : at; /* the driver may have chosen sm_90a itself */
    memcpy(to, ptx, (size_t)(at - ptx));
    to += at - ptx;
    *to++ = 'a';
    for (const char *next; (next = strstr(rest, mark)); rest = next + sizeof mark - 1) {
        memcpy(to, rest, (size_t)(next - rest));
        to += next - rest;
    }
    strcpy(to, rest);
    return edited;
}
