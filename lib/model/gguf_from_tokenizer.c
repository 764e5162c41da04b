/* gguf_from_tokenizer.c: a folder's tokenizer as GGUF keys. Byte-level BPE is "gpt2", its way of splitting a name of
 * pretokenizers.c; SentencePiece's BPE, by scores or by merges with byte tokens, is "llama", the rank of what merges
 * make being its score. The keys are read back, and both must cut some hard texts alike. */
#include "gguf_from_folder.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pretokenizers.h"
#include "tokenizer.h"
#include "tokenizer_data.h"

#define KEY(name) "tokenizer.ggml." name

enum { PAD_NAME = 24 };

typedef struct tokens {
    int32_t count; /* rows of the embedding */
    clf_string *texts;
    float *scores;
    int32_t *kinds;
    char (*pads)[PAD_NAME]; /* names of rows without a token */
    clf_string *merges;
    char *merge_text;
} tokens;

static void release(tokens *k) {
    free(k->texts);
    free(k->scores);
    free(k->kinds);
    free(k->pads);
    free(k->merges);
    free(k->merge_text);
}

static clf_status take_tokens(tokens *k, const clf_tokenizer *t, clf_error *err) {
    const size_t n = (size_t)k->count;
    k->texts = malloc(n * sizeof *k->texts);
    k->scores = malloc(n * sizeof *k->scores);
    k->kinds = malloc(n * sizeof *k->kinds);
    k->pads = malloc(n * sizeof *k->pads);
    CLF_CHECK(err, k->texts && k->scores && k->kinds && k->pads, CLF_OUT_OF_MEMORY, "tokenizer: out of memory");
    for (int32_t id = 0; id < k->count; id++) {
        const clf_piece *piece = id < t->vocab.count ? &t->vocab.pieces[id] : NULL;
        if (piece && piece->length) {
            k->texts[id] = (clf_string){clf_vocab_text(&t->vocab, id), piece->length};
            k->kinds[id] = piece->kind;
            k->scores[id] = (float)piece->score;
        } else {
            k->texts[id] = (clf_string){k->pads[id], (uint64_t)snprintf(k->pads[id], PAD_NAME, "[PAD%d]", id)};
            k->kinds[id] = CLF_PIECE_UNUSED;
            k->scores[id] = -1e6f;
        }
    }
    return CLF_OK;
}

/* "left right", one after the other in one text. */
static clf_status put_merges(tokens *k, clf_gguf_writer *w, const clf_tokenizer *t, clf_error *err) {
    const clf_piece *pieces = t->vocab.pieces;
    clf_merge *merges;
    size_t n, length = 0;
    CLF_TRY(clf_tokenizer_list_merges(t, &merges, &n, err));
    for (size_t i = 0; i < n; i++) length += pieces[merges[i].left].length + pieces[merges[i].right].length + 1;
    k->merges = malloc((n + 1) * sizeof *k->merges);
    char *at = k->merge_text = malloc(length + 1);
    for (size_t i = 0; k->merges && at && i < n; i++) {
        const clf_piece *left = &pieces[merges[i].left], *right = &pieces[merges[i].right];
        k->merges[i] = (clf_string){at, left->length + right->length + 1};
        memcpy(at, clf_vocab_text(&t->vocab, merges[i].left), left->length);
        at[left->length] = ' ';
        memcpy(at + left->length + 1, clf_vocab_text(&t->vocab, merges[i].right), right->length);
        at += left->length + right->length + 1;
    }
    free(merges);
    CLF_CHECK(err, k->merges && at, CLF_OUT_OF_MEMORY, "tokenizer: out of memory");
    return clf_gguf_write_strings(w, KEY("merges"), k->merges, n, err);
}

/* The earlier a merge, the greater the score of what it makes; pieces that nothing makes come last. */
static clf_status scores_of_merges(tokens *k, const clf_tokenizer *t, clf_error *err) {
    clf_merge *merges;
    size_t n;
    CLF_TRY(clf_tokenizer_list_merges(t, &merges, &n, err));
    for (int32_t id = 0; id < t->vocab.count && id < k->count; id++) k->scores[id] = -(float)n - 1;
    for (size_t i = n; i-- > 0;)
        if (merges[i].id < k->count) k->scores[merges[i].id] = -(float)i - 1;
    free(merges);
    return CLF_OK;
}

/* Whether a text is split at these patterns, and then byte by byte. */
static bool splits_as(const clf_tokenizer *t, const clf_pretokenizer *p) {
    size_t n = 0;
    while (n < CLF_MAX_PATTERNS && p->patterns[n]) n++;
    if (t->split.count != n + 1 || t->split.data[n].kind != CLF_STEP_BYTE_LEVEL) return false;
    for (size_t i = 0; i < n; i++) {
        const clf_step *s = &t->split.data[i];
        if (s->kind != CLF_STEP_SPLIT || s->behaviour != CLF_SPLIT_ISOLATED || s->invert || !s->regex ||
            s->pattern_length != strlen(p->patterns[i]) || memcmp(s->pattern, p->patterns[i], s->pattern_length))
            return false;
    }
    return t->ignore_merges == p->ignore_merges;
}

static clf_status put_bpe(tokens *k, clf_gguf_writer *w, const clf_tokenizer *t, clf_error *err) {
    const char *pre = NULL;
    for (int i = 0; !pre && clf_pretokenizer_name(i); i++)
        if (splits_as(t, clf_pretokenizer_find(clf_pretokenizer_name(i), strlen(clf_pretokenizer_name(i)))))
            pre = clf_pretokenizer_name(i);
    CLF_CHECK(err, pre, CLF_UNSUPPORTED, "tokenizer: GGUF has no name for its way of splitting texts");
    CLF_TRY(clf_gguf_write_string(w, KEY("model"), "gpt2", err));
    CLF_TRY(clf_gguf_write_string(w, KEY("pre"), pre, err));
    return put_merges(k, w, t, err);
}

static bool has_step(const clf_tokenizer *t, clf_step_kind kind) {
    for (size_t i = 0; i < t->normalize.count; i++)
        if (t->normalize.data[i].kind == kind) return true;
    for (size_t i = 0; i < t->split.count; i++)
        if (t->split.data[i].kind == kind) return true;
    return false;
}

static clf_status put_spm(tokens *k, clf_gguf_writer *w, const clf_tokenizer *t, clf_error *err) {
    CLF_CHECK(err, t->byte_fallback && (t->kind == CLF_TOKENIZER_SCORES || t->kind == CLF_TOKENIZER_MERGES),
              CLF_UNSUPPORTED, "tokenizer: GGUF has byte-level BPE and SentencePiece's BPE with bytes, not this one");
    if (t->kind == CLF_TOKENIZER_MERGES) CLF_TRY(scores_of_merges(k, t, err));
    CLF_TRY(clf_gguf_write_string(w, KEY("model"), "llama", err));
    CLF_TRY(clf_gguf_write_string(w, KEY("pre"), "default", err));
    CLF_TRY(clf_gguf_write_array(w, KEY("scores"), CLF_GGUF_F32, k->scores, (uint64_t)k->count, err));
    CLF_TRY(clf_gguf_write_bool(w, KEY("add_space_prefix"), has_step(t, CLF_STEP_PREFIX), err));
    return clf_gguf_write_bool(w, KEY("remove_extra_whitespaces"), has_step(t, CLF_STEP_SQUEEZE), err);
}

static clf_status put_id(clf_gguf_writer *w, const char *key, int32_t id, clf_error *err) {
    return id < 0 ? CLF_OK : clf_gguf_write_u32(w, key, (uint32_t)id, err);
}

/* Whether a text gets this token there, and nothing else. */
static clf_status put_around(clf_gguf_writer *w, const char *key, const clf_ids *ids, int32_t id, clf_error *err) {
    CLF_CHECK(err, !ids->count || (ids->count == 1 && ids->data[0] == id), CLF_UNSUPPORTED,
              "tokenizer: GGUF has no key for the tokens that it puts around a text");
    return clf_gguf_write_bool(w, key, ids->count == 1, err);
}

static clf_status put_ids(clf_gguf_writer *w, const clf_tokenizer *t, clf_error *err) {
    static const char *const ends[] = {KEY("eot_token_id"), KEY("eom_token_id")};
    int n = 0;
    CLF_TRY(put_id(w, KEY("bos_token_id"), t->bos, err));
    CLF_TRY(put_id(w, KEY("eos_token_id"), t->eos, err));
    CLF_TRY(put_id(w, KEY("unknown_token_id"), t->unknown, err));
    CLF_TRY(put_around(w, KEY("add_bos_token"), &t->before, t->bos, err));
    CLF_TRY(put_around(w, KEY("add_eos_token"), &t->after, t->eos, err));
    for (int32_t id = 0; id < t->vocab.count && n < 2; id++)
        if (t->vocab.pieces[id].end && id != t->eos) CLF_TRY(put_id(w, ends[n++], id, err));
    return CLF_OK;
}

static clf_status put_all(tokens *k, clf_gguf_writer *w, const clf_tokenizer *t, clf_error *err) {
    CLF_CHECK(err, t->vocab.count <= k->count && k->count <= CLF_MAX_PIECES, CLF_UNSUPPORTED,
              "tokenizer: expected at most %d tokens, as the embedding has rows, got %d", k->count, t->vocab.count);
    CLF_TRY(take_tokens(k, t, err));
    CLF_TRY(t->byte_level ? put_bpe(k, w, t, err) : put_spm(k, w, t, err));
    CLF_TRY(clf_gguf_write_strings(w, KEY("tokens"), k->texts, (uint64_t)k->count, err));
    CLF_TRY(clf_gguf_write_array(w, KEY("token_type"), CLF_GGUF_I32, k->kinds, (uint64_t)k->count, err));
    CLF_TRY(put_ids(w, t, err));
    return t->chat_template ? clf_gguf_write_string(w, "tokenizer.chat_template", t->chat_template, err) : CLF_OK;
}

static clf_status check_written(const clf_gguf_writer *w, const clf_tokenizer *t, clf_error *err) {
    clf_tokenizer *read = NULL;
    clf_gguf *gguf = NULL;
    void *data = NULL;
    size_t size = 0;
    clf_status st = clf_gguf_writer_keys(w, &data, &size, err);
    if (st == CLF_OK) st = clf_gguf_open(&gguf, &(clf_model_file_args){.data = data, .data_size = size}, err);
    if (st == CLF_OK) st = clf_tokenizer_from_gguf(&read, gguf, err);
    if (st == CLF_OK) st = clf_tokenizer_check_same(t, read, "a GGUF", err);
    clf_tokenizer_destroy(read);
    clf_gguf_close(gguf);
    free(data);
    return st;
}

clf_status clf_gguf_write_tokenizer_of(clf_gguf_writer *w, const char *folder, const clf_config *c, clf_error *err) {
    clf_tokenizer *t;
    clf_status st = clf_tokenizer_from_folder(&t, folder, err);
    if (st == CLF_NOT_FOUND) {
        clf_error_clear(err);
        CLF_TRY(clf_gguf_write_string(w, KEY("model"), "none", err));
        CLF_TRY(put_id(w, KEY("bos_token_id"), c->bos, err));
        return put_id(w, KEY("eos_token_id"), c->eos, err);
    }
    CLF_TRY(st);
    tokens k = {.count = c->vocab_size};
    st = put_all(&k, w, t, err);
    if (st == CLF_OK) st = check_written(w, t, err);
    release(&k);
    clf_tokenizer_destroy(t);
    return st;
}
