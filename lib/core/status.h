/* status.h: how errors travel. A function that can fail returns a clf_status and writes the message into a clf_error
 * that its caller owns (a context's, or one on the stack); the first message wins until clf_error_clear(). */
#ifndef CLF_CORE_STATUS_H
#define CLF_CORE_STATUS_H

#include <clformer/base.h>

typedef struct clf_error {
    clf_status status;
    char message[512];
} clf_error;

/* Formats the message and returns `status`. `err` may be NULL: the message is dropped. */
__attribute__((format(printf, 3, 4))) clf_status clf_fail(clf_error *err, clf_status status, const char *format, ...);

#ifdef __clang_analyzer__ /* which then knows that it returns `status` */
#define clf_fail(err, status, ...) ((void)clf_fail(err, status, __VA_ARGS__), (status))
#endif

/* Puts "prefix: " before the message of a failure on its way up; returns err->status. `err` is not NULL. */
__attribute__((format(printf, 2, 3))) clf_status clf_fail_in(clf_error *err, const char *format, ...);

static inline void clf_error_clear(clf_error *err) {
    err->status = CLF_OK;
    err->message[0] = 0;
}

/* Returns the failure of `expr`, if it fails. */
#define CLF_TRY(expr)                                                                                                  \
    do {                                                                                                               \
        const clf_status clf_try_status_ = (expr);                                                                     \
        if (clf_try_status_ != CLF_OK) return clf_try_status_;                                                         \
    } while (0)

/* Fails with `status` and the message unless `cond` holds. */
#define CLF_CHECK(err, cond, status, ...)                                                                              \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            clf_fail(err, status, __VA_ARGS__);                                                                        \
            return status; /* not clf_fail()'s result: analysers then know that this is no CLF_OK */                   \
        }                                                                                                              \
    } while (0)

/* As CLF_TRY, for functions with one way out: st = …; goto fail. */
#define CLF_TRY_GOTO(st, expr)                                                                                         \
    do {                                                                                                               \
        if (((st) = (expr)) != CLF_OK) goto fail;                                                                      \
    } while (0)

#endif
