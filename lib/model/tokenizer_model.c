/* tokenizer_model.c: the few fields of SentencePiece's ModelProto that matter, from protobuf's wire format:
 *
 *     1 pieces        { 1 piece, 2 score (float), 3 type }
 *     2 trainer_spec  { 3 model_type, 24 treat_whitespace_as_suffix, 35 byte_fallback, 40 unk, 41 bos, 42 eos }
 *     3 normalizer_spec { 2 precompiled_charsmap, 3 add_dummy_prefix, 4 remove_extra_whitespaces, 5 escape_whitespaces
 * }
 */
#include "tokenizer_model.h"

#include <string.h>

/* A message, or what is left of it. */
typedef struct wire {
    const unsigned char *at, *end;
} wire;

typedef struct field {
    uint64_t number;
    int type;       /* 0 varint, 1 and 5 fixed, 2 bytes */
    uint64_t value; /* of types 0, 1, 5 */
    wire bytes;     /* of type 2 */
} field;

static bool read_varint(wire *w, uint64_t *out) {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (w->at == w->end) return false;
        const unsigned char byte = *w->at++;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) return *out = value, true;
    }
    return false;
}

static bool read_field(wire *w, field *f) {
    uint64_t key, length;
    *f = (field){0};
    if (!read_varint(w, &key)) return false;
    f->number = key >> 3;
    f->type = (int)(key & 7);
    switch (f->type) {
    case 0: return read_varint(w, &f->value);
    case 1: length = 8; break;
    case 5: length = 4; break;
    case 2:
        if (!read_varint(w, &length)) return false;
        break;
    default: return false;
    }
    if (length > (uint64_t)(w->end - w->at)) return false;
    f->bytes = (wire){w->at, w->at + length};
    w->at += length;
    for (uint64_t i = 0; f->type != 2 && i < length; i++) f->value |= (uint64_t)f->bytes.at[i] << 8 * i;
    return true;
}

#define EACH_FIELD(f, message, what)                                                                                   \
    for (field f; (message).at < (message).end;)                                                                       \
        if (!read_field(&(message), &f))                                                                               \
            return clf_fail(err, CLF_BAD_FILE, what ": malformed or truncated");                                       \
        else

typedef struct description {
    uint64_t kind;
    int64_t unknown, bos, eos;
    bool byte_fallback, suffix, prefix, squeeze, escape;
    wire charsmap;
} description;

static clf_status read_piece(clf_tokenizer *t, wire message, clf_error *err) {
    wire text = {0};
    float score = 0;
    uint64_t kind = CLF_PIECE_NORMAL;
    EACH_FIELD(f, message, "pieces") {
        if (f.number == 1 && f.type == 2) text = f.bytes;
        if (f.number == 3 && f.type == 0) kind = f.value;
        if (f.number == 2 && f.type == 5) {
            const uint32_t bits = (uint32_t)f.value;
            memcpy(&score, &bits, sizeof score);
        }
    }
    return clf_vocab_put(&t->vocab, t->vocab.count, (const char *)text.at, (size_t)(text.end - text.at), score,
                         kind <= CLF_PIECE_BYTE ? (clf_piece_kind)kind : (clf_piece_kind)0, err);
}

static clf_status read_trainer(description *d, wire message, clf_error *err) {
    EACH_FIELD(f, message, "trainer_spec") {
        if (f.type != 0) continue;
        if (f.number == 3) d->kind = f.value;
        if (f.number == 24) d->suffix = f.value;
        if (f.number == 35) d->byte_fallback = f.value;
        if (f.number == 40) d->unknown = (int64_t)f.value;
        if (f.number == 41) d->bos = (int64_t)f.value;
        if (f.number == 42) d->eos = (int64_t)f.value;
    }
    return CLF_OK;
}

static clf_status read_normalizer(description *d, wire message, clf_error *err) {
    EACH_FIELD(f, message, "normalizer_spec") {
        if (f.number == 2 && f.type == 2) d->charsmap = f.bytes;
        if (f.number == 3 && f.type == 0) d->prefix = f.value;
        if (f.number == 4 && f.type == 0) d->squeeze = f.value;
        if (f.number == 5 && f.type == 0) d->escape = f.value;
    }
    return CLF_OK;
}

static clf_status fill(clf_tokenizer *t, wire message, clf_error *err) {
    description d = {.kind = 1, .bos = 1, .eos = 2, .prefix = true, .squeeze = true, .escape = true};
    EACH_FIELD(f, message, "model") {
        if (f.type != 2) continue;
        if (f.number == 1) CLF_TRY(read_piece(t, f.bytes, err));
        if (f.number == 2) CLF_TRY(read_trainer(&d, f.bytes, err));
        if (f.number == 3) CLF_TRY(read_normalizer(&d, f.bytes, err));
    }
    CLF_CHECK(err, d.kind == 1 || d.kind == 2, CLF_UNSUPPORTED, "model_type: expected unigram (1) or BPE (2), got %llu",
              (unsigned long long)d.kind);
    CLF_CHECK(err, !d.suffix, CLF_UNSUPPORTED, "treat_whitespace_as_suffix: not supported");
    const int64_t count = t->vocab.count;
    t->kind = d.kind == 1 ? CLF_TOKENIZER_UNIGRAM : CLF_TOKENIZER_SCORES;
    t->unknown = d.unknown >= 0 && d.unknown < count ? (int32_t)d.unknown : -1;
    t->bos = d.bos >= 0 && d.bos < count ? (int32_t)d.bos : -1;
    t->eos = d.eos >= 0 && d.eos < count ? (int32_t)d.eos : -1;
    t->byte_fallback = d.byte_fallback;
    t->fuse_unknown = t->float_scores = true;
    if (d.charsmap.at < d.charsmap.end) {
        clf_step step = {.kind = CLF_STEP_CHARSMAP};
        CLF_TRY(clf_charsmap_create(&step.charsmap, d.charsmap.at, (size_t)(d.charsmap.end - d.charsmap.at),
                                    CLF_CHARSMAP_LONGEST, err));
        CLF_TRY(clf_steps_add(&t->normalize, step, err));
    }
    return clf_tokenizer_set_spaces(t, d.prefix, true, d.squeeze, d.escape, err);
}

/* Control tokens and user-defined ones are found in text before the model sees it. */
static clf_status add_added(clf_tokenizer *t, clf_error *err) {
    for (int32_t id = 0; id < t->vocab.count; id++) {
        const clf_piece *piece = &t->vocab.pieces[id];
        const bool special = clf_piece_is_special(piece);
        if ((special || piece->kind == CLF_PIECE_USER) && piece->length)
            CLF_TRY(clf_tokenizer_add_added(t, (clf_added){.id = id, .special = special, .normalized = !special}, err));
    }
    return CLF_OK;
}

clf_status clf_tokenizer_from_model(clf_tokenizer **out, const char *data, size_t size, clf_error *err) {
    clf_status st = clf_tokenizer_new(out, err);
    if (st != CLF_OK) return st;
    clf_tokenizer *t = *out;
    const unsigned char *bytes = (const unsigned char *)data;
    CLF_TRY_GOTO(st, fill(t, (wire){bytes, bytes + size}, err));
    CLF_TRY_GOTO(st, add_added(t, err));
    const int32_t id = t->kind == CLF_TOKENIZER_SCORES ? t->bos : t->eos;
    if (id >= 0 && !clf_ids_append(t->kind == CLF_TOKENIZER_SCORES ? &t->before : &t->after, id))
        CLF_TRY_GOTO(st, clf_fail(err, CLF_OUT_OF_MEMORY, "tokenizer: out of memory"));
    return CLF_OK;
fail:
    clf_tokenizer_destroy(t);
    *out = NULL;
    return st;
}
