/* tokenizer_gguf.c: the keys tokenizer.ggml.* of a GGUF: SentencePiece BPE ("llama"), byte-level BPE ("gpt2"), unigram
 * ("t5"). */
#include "tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "pretokenizers.h"
#include "tokenizer_data.h"

#define KEY(name) "tokenizer.ggml." name

static bool is(clf_string s, const char *text) {
    return s.length == strlen(text) && memcmp(s.data, text, s.length) == 0;
}

/* An array that must have `count` elements, if it is there: `*there`. */
static clf_status parallel(const clf_gguf *gguf, const char *key, uint64_t count, bool floats, bool *there,
                           clf_error *err) {
    clf_gguf_type type;
    uint64_t n;
    *there = clf_gguf_has(gguf, key);
    if (!*there) return CLF_OK;
    CLF_CHECK(err, clf_gguf_get_array(gguf, key, &type, &n), CLF_BAD_FILE, "%s: expected an array", key);
    CLF_CHECK(err,
              type == CLF_GGUF_I32 || (floats ? type == CLF_GGUF_F32 || type == CLF_GGUF_F64 : type == CLF_GGUF_U32),
              CLF_BAD_FILE, "%s: expected elements of type %s, got type %d", key, floats ? "f32" : "i32", (int)type);
    CLF_CHECK(err, n == count, CLF_BAD_FILE, "%s: expected %llu elements as tokens, got %llu", key,
              (unsigned long long)count, (unsigned long long)n);
    return CLF_OK;
}

static clf_status read_vocab(clf_tokenizer *t, const clf_gguf *gguf, clf_error *err) {
    clf_gguf_type type;
    uint64_t count;
    CLF_CHECK(err, clf_gguf_get_array(gguf, KEY("tokens"), &type, &count) && type == CLF_GGUF_STRING, CLF_BAD_FILE,
              KEY("tokens") ": expected an array of strings");
    CLF_CHECK(err, count > 0 && count < CLF_MAX_PIECES, CLF_BAD_FILE,
              KEY("tokens") ": expected 1 to %d tokens, got %llu", CLF_MAX_PIECES, (unsigned long long)count);
    bool scores, kinds;
    CLF_TRY(parallel(gguf, KEY("scores"), count, true, &scores, err));
    CLF_TRY(parallel(gguf, KEY("token_type"), count, false, &kinds, err));
    CLF_CHECK(err, scores || t->kind == CLF_TOKENIZER_MERGES, CLF_BAD_FILE, KEY("scores") ": expected an array");
    for (uint64_t i = 0; i < count; i++) {
        clf_string text;
        double score = 0;
        int64_t kind = CLF_PIECE_NORMAL;
        CLF_CHECK(err, clf_gguf_array_string(gguf, KEY("tokens"), i, &text), CLF_BAD_FILE, KEY("tokens") ": malformed");
        if (scores) clf_gguf_array_f64(gguf, KEY("scores"), i, &score);
        if (kinds) clf_gguf_array_i64(gguf, KEY("token_type"), i, &kind);
        if (kind == 0 || !text.length) kind = CLF_PIECE_UNUSED;
        CLF_CHECK(err, kind >= CLF_PIECE_NORMAL && kind <= CLF_PIECE_BYTE, CLF_BAD_FILE,
                  KEY("token_type") "[%llu]: expected 0 to 6, got %lld", (unsigned long long)i, (long long)kind);
        CLF_TRY(clf_vocab_put(&t->vocab, (int64_t)i, text.data, (size_t)text.length, score, (clf_piece_kind)kind, err));
    }
    return clf_vocab_index(&t->vocab, err);
}

/* The token that `key` names; `otherwise` where it is absent or -1. */
static clf_status read_id(const clf_tokenizer *t, const clf_gguf *gguf, const char *key, int32_t otherwise,
                          int32_t *out, clf_error *err) {
    int64_t id = otherwise < t->vocab.count ? otherwise : -1;
    CLF_CHECK(err, !clf_gguf_has(gguf, key) || clf_gguf_get_i64(gguf, key, &id), CLF_BAD_FILE,
              "%s: expected an integer", key);
    if (id == UINT32_MAX) id = -1;
    CLF_CHECK(err, id >= -1 && id < t->vocab.count, CLF_BAD_FILE, "%s: expected a token below %d, got %lld", key,
              t->vocab.count, (long long)id);
    *out = (int32_t)id;
    return CLF_OK;
}

/* "a b"; the first part may itself be a space. */
static clf_status read_merges(clf_tokenizer *t, const clf_gguf *gguf, clf_error *err) {
    clf_gguf_type type;
    uint64_t count;
    CLF_CHECK(err, clf_gguf_get_array(gguf, KEY("merges"), &type, &count) && type == CLF_GGUF_STRING, CLF_BAD_FILE,
              KEY("merges") ": expected an array of strings");
    clf_text joined = {0};
    clf_status st = CLF_OK;
    for (uint64_t i = 0; i < count && st == CLF_OK; i++) {
        clf_string pair = {0};
        clf_gguf_array_string(gguf, KEY("merges"), i, &pair);
        const char *space = pair.length > 2 ? memchr(pair.data + 1, ' ', (size_t)pair.length - 1) : NULL;
        const size_t n = space ? (size_t)(space - pair.data) : 0, m = space ? (size_t)pair.length - n - 1 : 0;
        joined.length = 0;
        if (!clf_text_append(&joined, pair.data, n) || !clf_text_append(&joined, space ? space + 1 : "", m)) {
            st = clf_fail(err, CLF_OUT_OF_MEMORY, KEY("merges") ": out of memory");
            break;
        }
        const int32_t left = clf_vocab_find(&t->vocab, joined.data, n);
        const int32_t right = clf_vocab_find(&t->vocab, joined.data + n, m);
        const int32_t both = clf_vocab_find(&t->vocab, joined.data, n + m);
        st = left >= 0 && right >= 0 && both >= 0
                 ? clf_tokenizer_add_merge(t, left, right, both, err)
                 : clf_fail(err, CLF_BAD_FILE,
                            KEY("merges") "[%llu]: expected two tokens that make a third, got \"%.*s\"",
                            (unsigned long long)i, (int)(pair.length < 80 ? pair.length : 80), pair.data);
    }
    free(joined.data);
    return st;
}

static clf_status read_bpe(clf_tokenizer *t, const clf_gguf *gguf, bool *add_bos, clf_error *err) {
    clf_string name = {"default", 7};
    clf_gguf_get_string(gguf, KEY("pre"), &name);
    const clf_pretokenizer *pre = clf_pretokenizer_find(name.data, (size_t)name.length);
    CLF_CHECK(err, pre, CLF_UNSUPPORTED, KEY("pre") ": \"%.*s\" isn't known",
              (int)(name.length < 80 ? name.length : 80), name.data);
    for (int i = 0; i < CLF_MAX_PATTERNS && pre->patterns[i]; i++) {
        clf_step step = {.kind = CLF_STEP_SPLIT};
        CLF_TRY(clf_step_set_pattern(&step, pre->patterns[i], strlen(pre->patterns[i]), true, err));
        CLF_TRY(clf_steps_add(&t->split, step, err));
    }
    CLF_TRY(clf_steps_add(&t->split, (clf_step){.kind = CLF_STEP_BYTE_LEVEL}, err));
    CLF_TRY(clf_steps_add(&t->decode, (clf_step){.kind = CLF_STEP_BYTE_LEVEL}, err));
    t->byte_level = true;
    t->ignore_merges = pre->ignore_merges;
    *add_bos = pre->add_bos;
    return read_merges(t, gguf, err);
}

static clf_status read_spaces(clf_tokenizer *t, const clf_gguf *gguf, clf_error *err) {
    bool prefix = true, squeeze = t->kind == CLF_TOKENIZER_UNIGRAM;
    clf_gguf_get_bool(gguf, KEY("add_space_prefix"), &prefix);
    clf_gguf_get_bool(gguf, KEY("remove_extra_whitespaces"), &squeeze);
    return clf_tokenizer_set_spaces(t, prefix, false, squeeze, true, err);
}

static clf_status read_charsmap(clf_tokenizer *t, const clf_gguf *gguf, clf_error *err) {
    clf_gguf_type type;
    uint64_t size;
    if (!clf_gguf_has(gguf, KEY("precompiled_charsmap"))) return CLF_OK;
    CLF_CHECK(err,
              clf_gguf_get_array(gguf, KEY("precompiled_charsmap"), &type, &size) &&
                  (type == CLF_GGUF_U8 || type == CLF_GGUF_I8) && size < 1 << 28,
              CLF_BAD_FILE, KEY("precompiled_charsmap") ": expected an array of bytes");
    if (!size) return CLF_OK;
    unsigned char *bytes = malloc((size_t)size);
    CLF_CHECK(err, bytes, CLF_OUT_OF_MEMORY, KEY("precompiled_charsmap") ": out of memory");
    for (uint64_t i = 0; i < size; i++) {
        int64_t byte = 0;
        clf_gguf_array_i64(gguf, KEY("precompiled_charsmap"), i, &byte);
        bytes[i] = (unsigned char)byte;
    }
    clf_step step = {.kind = CLF_STEP_CHARSMAP};
    const clf_status st = clf_charsmap_create(&step.charsmap, bytes, (size_t)size, CLF_CHARSMAP_LONGEST, err);
    free(bytes);
    return st == CLF_OK ? clf_steps_add(&t->normalize, step, err) : st;
}

/* Phi-3's special tokens, but for three, take white space after them along; GGUF only shows it by the model's name. */
static bool is_phi3(const clf_gguf *gguf) {
    clf_string name;
    if (!clf_gguf_get_string(gguf, "general.name", &name)) return false;
    for (uint64_t i = 0; i + 4 <= name.length; i++) {
        const char *s = name.data + i;
        const bool dash = s[3] == '-' && i + 5 <= name.length;
        if ((s[0] | 32) == 'p' && (s[1] | 32) == 'h' && (s[2] | 32) == 'i' && s[dash ? 4 : 3] == '3') return true;
    }
    return false;
}

static clf_status read_added(clf_tokenizer *t, const clf_gguf *gguf, clf_error *err) {
    static const char *const kept[] = {"<unk>", "<s>", "<|endoftext|>"};
    const bool phi3 = is_phi3(gguf);
    for (int32_t id = 0; id < t->vocab.count; id++) {
        const clf_piece *piece = &t->vocab.pieces[id];
        const bool special = clf_piece_is_special(piece);
        if ((!special && piece->kind != CLF_PIECE_USER) || !piece->length) continue;
        bool right = phi3;
        for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
            if (strcmp(clf_vocab_text(&t->vocab, id), kept[i]) == 0) right = false;
        CLF_TRY(clf_tokenizer_add_added(t, (clf_added){.id = id, .special = special, .right = right}, err));
    }
    return CLF_OK;
}

static clf_status fill(clf_tokenizer *t, const clf_gguf *gguf, clf_string model, clf_error *err) {
    bool add_bos = false, add_eos = false;
    const bool spm = is(model, "llama"), bpe = is(model, "gpt2");
    CLF_CHECK(err, spm || bpe || is(model, "t5"), CLF_UNSUPPORTED,
              KEY("model") ": \"%.*s\" is not supported, only llama, gpt2 and t5",
              (int)(model.length < 80 ? model.length : 80), model.data);
    t->kind = spm ? CLF_TOKENIZER_SCORES : bpe ? CLF_TOKENIZER_MERGES : CLF_TOKENIZER_UNIGRAM;
    CLF_TRY(read_vocab(t, gguf, err));
    CLF_TRY(read_id(t, gguf, KEY("bos_token_id"), spm ? 1 : -1, &t->bos, err));
    CLF_TRY(read_id(t, gguf, KEY("eos_token_id"), spm ? 2 : -1, &t->eos, err));
    if (bpe) {
        CLF_TRY(read_bpe(t, gguf, &add_bos, err));
    } else {
        CLF_TRY(read_id(t, gguf, KEY("unknown_token_id"), spm ? 0 : 2, &t->unknown, err));
        CLF_TRY(read_charsmap(t, gguf, err));
        CLF_TRY(read_spaces(t, gguf, err));
        t->byte_fallback = t->fuse_unknown = true;
        add_bos = spm;
        add_eos = !spm;
    }
    CLF_TRY(read_added(t, gguf, err));
    clf_gguf_get_bool(gguf, KEY("add_bos_token"), &add_bos);
    clf_gguf_get_bool(gguf, KEY("add_eos_token"), &add_eos);
    if ((add_bos && t->bos >= 0 && !clf_ids_append(&t->before, t->bos)) ||
        (add_eos && t->eos >= 0 && !clf_ids_append(&t->after, t->eos)))
        return clf_fail(err, CLF_OUT_OF_MEMORY, "tokenizer: out of memory");
    int64_t end;
    if (clf_gguf_get_i64(gguf, KEY("eot_token_id"), &end)) clf_tokenizer_mark_end(t, end);
    if (clf_gguf_get_i64(gguf, KEY("eom_token_id"), &end)) clf_tokenizer_mark_end(t, end);
    clf_string template;
    if (clf_gguf_get_string(gguf, "tokenizer.chat_template", &template)) {
        t->chat_template = clf_copy(template.data, (size_t) template.length);
        CLF_CHECK(err, t->chat_template, CLF_OUT_OF_MEMORY, "tokenizer.chat_template: out of memory");
    }
    return clf_tokenizer_finish(t, err);
}

clf_status clf_tokenizer_from_gguf(clf_tokenizer **out, const clf_gguf *gguf, clf_error *err) {
    *out = NULL;
    clf_string model;
    CLF_CHECK(err, clf_gguf_get_string(gguf, KEY("model"), &model) && !is(model, "none") && !is(model, "no_vocab"),
              CLF_NOT_FOUND, "the file has no tokenizer");
    clf_tokenizer *t = NULL;
    clf_status st = clf_tokenizer_new(&t, err);
    if (st == CLF_OK) st = fill(t, gguf, model, err);
    if (st == CLF_OK) return *out = t, CLF_OK;
    clf_tokenizer_destroy(t);
    return st;
}
