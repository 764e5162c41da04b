/* session.h: the state behind a clf_session: a cache, a decoder, and the logits after the last token. */
#ifndef CLF_MODEL_SESSION_H
#define CLF_MODEL_SESSION_H

#include "decoder.h"

struct clf_session {
    clf_model *model;
    clf_session_args args; /* defaults filled in */
    clf_kv_cache cache;
    clf_decoder decoder;
    float *logits;   /* [vocab] after the last token */
    bool has_logits; /* the last eval asked for them */
    int32_t last_id; /* the last token, where has_logits */
};

/* Begins a session call: as clf_model_enter(), for a session that may be NULL. */
clf_status clf_session_enter(const clf_session *session);
/* Appends n ≤ args.chunk tokens, for which there is room; the last `want` of them wait in the decoder for
 * clf_decoder_logits(). Arguments are not checked. */
clf_status clf_session_append(clf_session *session, const int32_t *ids, int64_t n, int64_t want);

#endif
