/* log.c: lines for the context's log callback. */
#include "context.h"

#include <stdarg.h>
#include <stdio.h>

void clf_log(clf_context *ctx, clf_log_level level, const char *format, ...) {
    if (!ctx->log || level > ctx->log_level) return;
    char line[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    ctx->log(ctx->log_user, level, line);
}
