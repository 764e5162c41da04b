/* gguf_from_folder.c: a configuration as GGUF keys. Defaults of the reader aren't written where llama.cpp reads such
 * files without them. */
#include "gguf_from_folder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "read_config.h"
#include "tokenizer.h"

typedef struct keys {
    clf_gguf_writer *writer;
    const clf_config *config;
    const clf_architecture *a; /* as the GGUF will say */
    clf_error *err;
    char key[96];
} keys;

static const char *key(keys *k, const char *name) {
    snprintf(k->key, sizeof k->key, "%s.%s", k->a->gguf, name);
    return k->key;
}
static clf_status put_u32(keys *k, const char *name, int64_t value) {
    return clf_gguf_write_u32(k->writer, key(k, name), (uint32_t)value, k->err);
}
static clf_status put_f32(keys *k, const char *name, float value) {
    return clf_gguf_write_f32(k->writer, key(k, name), value, k->err);
}

static clf_status put_sizes(keys *k) {
    const clf_config *c = k->config;
    CLF_TRY(put_u32(k, "block_count", c->n_layers));
    CLF_TRY(put_u32(k, "context_length", c->trained_context));
    CLF_TRY(put_u32(k, "embedding_length", c->hidden_size));
    CLF_TRY(put_u32(k, "feed_forward_length", c->ffn_size));
    CLF_TRY(put_u32(k, "attention.head_count", c->n_heads));
    CLF_TRY(put_u32(k, "attention.head_count_kv", c->n_kv_heads));
    CLF_TRY(put_u32(k, "attention.key_length", c->head_dim));
    CLF_TRY(put_u32(k, "attention.value_length", c->v_dim));
    CLF_TRY(put_u32(k, "vocab_size", c->vocab_size));
    return put_f32(k, "attention.layer_norm_rms_epsilon", c->norm_eps);
}

/* LLaMA 3's scaling and longrope show by tensors of factors. */
static clf_status put_rope(keys *k) {
    const clf_config *c = k->config;
    const clf_rope_config *r = &c->rope;
    CLF_TRY(put_u32(k, "rope.dimension_count", r->n_dims));
    CLF_TRY(put_f32(k, "rope.freq_base", (float)r->base));
    if (c->has_rope_local) CLF_TRY(put_f32(k, "rope.freq_base_swa", (float)c->rope_local.base));
    const bool yarn = r->scaling == CLF_ROPE_SCALING_YARN, longrope = r->scaling == CLF_ROPE_SCALING_LONGROPE;
    if (r->scaling == CLF_ROPE_SCALING_LINEAR || yarn) {
        CLF_TRY(clf_gguf_write_string(k->writer, key(k, "rope.scaling.type"), yarn ? "yarn" : "linear", k->err));
        CLF_TRY(put_f32(k, "rope.scaling.factor", r->factor));
    }
    if (yarn || longrope) CLF_TRY(put_u32(k, "rope.scaling.original_context_length", r->original_context));
    if (yarn) {
        const float usual = (float)(1 + 0.1 * log(r->factor > 1 ? (double)r->factor : 1));
        if (r->beta_fast != 32) CLF_TRY(put_f32(k, "rope.scaling.yarn_beta_fast", r->beta_fast));
        if (r->beta_slow != 1) CLF_TRY(put_f32(k, "rope.scaling.yarn_beta_slow", r->beta_slow));
        if (r->attention_factor != usual) CLF_TRY(put_f32(k, "rope.scaling.attn_factor", r->attention_factor / usual));
    }
    return longrope ? put_f32(k, "rope.scaling.attn_factor", r->attention_factor) : CLF_OK;
}

/* Which layers slide, where it isn't what the reader takes for granted. */
static clf_status put_window(keys *k) {
    const clf_config *c = k->config;
    clf_config usual = {.n_layers = c->n_layers, .window = c->window};
    if (c->window || k->a->gguf_window) CLF_TRY(put_u32(k, "attention.sliding_window", c->window));
    clf_config_set_windows(&usual, k->a->full_every);
    if (!c->window || (!k->a->window_tail && !memcmp(usual.windowed, c->windowed, (size_t)c->n_layers))) return CLF_OK;
    return clf_gguf_write_array(k->writer, key(k, "attention.sliding_window_pattern"), CLF_GGUF_BOOL, c->windowed,
                                (uint64_t)c->n_layers, k->err);
}

static clf_status put_scales(keys *k) {
    const clf_config *c = k->config;
    const clf_hf_defaults *d = &k->a->hf_defaults;
    const float narrow = (float)(1 / sqrt(c->head_dim)), heads = (float)(1 / sqrt((double)c->hidden_size / c->n_heads));
    const float usual = c->n_layers == k->a->gguf_wide_layers ? heads : narrow;
    const float scale = c->attention_scale != 0 ? c->attention_scale : narrow;
    if (fabsf(scale - usual) > 1e-6f * usual) CLF_TRY(put_f32(k, "attention.scale", scale));
    if (c->attention_softcap != 0 || d->attention_softcap != 0)
        CLF_TRY(put_f32(k, "attn_logit_softcapping", c->attention_softcap));
    if (c->logit_softcap != 0 || d->logit_softcap != 0)
        CLF_TRY(put_f32(k, "final_logit_softcapping", c->logit_softcap));
    return CLF_OK;
}

static clf_status put_general(keys *k) {
    const char *name = k->config->name;
    CLF_TRY(clf_gguf_write_string(k->writer, "general.architecture", k->a->gguf, k->err));
    CLF_TRY(clf_gguf_write_string(k->writer, "general.type", "model", k->err));
    return *name ? clf_gguf_write_string(k->writer, "general.name", name, k->err) : CLF_OK;
}

static clf_status check_written(const keys *k) {
    const clf_architecture *a;
    clf_config *read = malloc(sizeof *read);
    clf_gguf *gguf = NULL;
    void *data = NULL;
    size_t size = 0;
    clf_status st = read ? clf_gguf_writer_keys(k->writer, &data, &size, k->err)
                         : clf_fail(k->err, CLF_OUT_OF_MEMORY, "gguf: out of memory");
    if (st == CLF_OK) st = clf_gguf_open(&gguf, &(clf_model_file_args){.data = data, .data_size = size}, k->err);
    if (st == CLF_OK) st = clf_config_from_gguf(read, &a, gguf, k->err);
    const char *difference = st == CLF_OK ? clf_config_difference(k->config, read) : NULL;
    if (difference) /* what can't be said in keys shows when they are read */
        st = clf_fail(k->err, CLF_UNSUPPORTED, "config.json: %s: a GGUF of %s can't say it", difference,
                      read->architecture);
    clf_gguf_close(gguf);
    free(data);
    free(read);
    return st;
}

clf_status clf_gguf_write_keys_of_folder(clf_gguf_writer *w, const clf_model_file *folder, clf_error *err) {
    const clf_config *c = clf_model_file_config(folder);
    keys k = {.writer = w, .config = c, .err = err};
    k.a = clf_architecture_in_gguf(clf_architecture_named(c->architecture));
    CLF_TRY(put_general(&k));
    CLF_TRY(put_sizes(&k));
    CLF_TRY(put_rope(&k));
    CLF_TRY(put_window(&k));
    CLF_TRY(put_scales(&k));
    CLF_TRY(check_written(&k));
    return clf_gguf_write_tokenizer_of(w, clf_model_file_path(folder), c, err);
}

float clf_llama3_factor(const clf_rope_config *r, int pair) {
    const double frequency = pow(r->base, -2.0 * pair / r->n_dims), factor = (double)r->factor;
    const double turns = (double)r->original_context * frequency / (2 * 3.14159265358979323846); /* context / λ */
    const double low = (double)r->low_freq_factor, high = (double)r->high_freq_factor;
    const double kept = fmin(fmax((turns - low) / (high - low), 0), 1);
    return (float)(1 / (kept + (1 - kept) / factor));
}

static void add(clf_gguf_factors *f, const char *name, const float *values, int n) {
    float *to = f->values[f->count];
    memcpy(to, values, (size_t)n * sizeof *to);
    f->tensor[f->count++] = (clf_file_tensor){
        .name = name, .dtype = CLF_F32, .ndim = 1, .shape = {n}, .data = to, .nbytes = (uint64_t)n * sizeof *to};
}

void clf_gguf_factors_of(clf_gguf_factors *f, const clf_config *c) {
    const clf_rope_config *r = &c->rope;
    const int n = r->n_dims / 2;
    float values[CLF_MAX_ROPE_PAIRS];
    *f = (clf_gguf_factors){0};
    if (r->scaling == CLF_ROPE_SCALING_LLAMA3) {
        for (int i = 0; i < n; i++) values[i] = clf_llama3_factor(r, i);
        add(f, "rope_freqs.weight", values, n);
    } else if (r->scaling == CLF_ROPE_SCALING_LONGROPE) {
        add(f, "rope_factors_long.weight", r->long_freq_factors, n);
        add(f, "rope_factors_short.weight", r->freq_factors, n);
    }
}
