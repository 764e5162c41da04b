/* status.c: status strings and error messages. */
#include "status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <clformer/version.h>

const char *clf_status_string(clf_status status) {
    switch (status) {
#define STATUS_CASE(name, value, text)                                                                                 \
    case name: return text;
        CLF_STATUSES(STATUS_CASE)
    }
    return "unknown status";
}

const char *clf_version(void) {
    return CLF_VERSION_STRING;
}

clf_status(clf_fail)(clf_error *err, clf_status status, const char *format, ...) {
    if (!err) return status;
    va_list list;
    va_start(list, format);
    err->status = status;
    vsnprintf(err->message, sizeof err->message, format, list);
    va_end(list);
    return status;
}

clf_status clf_fail_in(clf_error *err, const char *format, ...) {
    char rest[sizeof err->message], prefix[256];
    va_list list;
    va_start(list, format);
    vsnprintf(prefix, sizeof prefix, format, list);
    va_end(list);
    memcpy(rest, err->message, sizeof rest);
    const size_t n = (size_t)snprintf(err->message, sizeof err->message, "%s: ", prefix);
    memcpy(err->message + n, rest, sizeof rest - n);
    err->message[sizeof rest - 1] = 0;
    return err->status;
}
