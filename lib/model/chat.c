/* chat.c: conversations to ids. The control tokens of a template are written by id; everything else, contents included,
 * is text, tokenized without looking for special tokens, so that a content can't open or close a turn. Text between two
 * control tokens is tokenized as one. A marker that is no token of the vocabulary is text, as in the template.
 *
 * The renderings are those of the models' own templates; tests/golden/chat has them with the ids of transformers. */
#include "chat.h"

#include <stdlib.h>
#include <string.h>

#include "gguf.h"
#include "tokenizer_data.h"

typedef struct writer {
    const clf_tokenizer *tokenizer;
    const clf_chat_style *style;
    clf_scratch *scratch;
    clf_text text;      /* since the last control token */
    bool strip_left;    /* that token takes white space after it along */
    clf_status status;  /* the first failure */
    clf_spans *replies; /* the assistant's turns, in ids; NULL: not asked for */
    clf_spans edges;    /* .begin: bytes of `text` before where a reply begins or ends */
    bool in_reply;      /* the last of `replies` has no end yet */
} writer;

static void put_bytes(writer *w, const char *text, size_t length) {
    if (w->status == CLF_OK && !clf_text_append(&w->text, text, length)) w->status = CLF_OUT_OF_MEMORY;
}

static void put(writer *w, const char *text) {
    put_bytes(w, text, strlen(text));
}

/* Space as Python's str.strip() has it. */
static bool is_blank(const char *text, size_t length) {
    int32_t c;
    return clf_utf8_decode(text, length, &c) && (clf_is_space(c) || (c >= 0x1C && c <= 0x1F));
}

static clf_string strip(clf_string s, bool left, bool right) {
    size_t begin = 0, end = (size_t)s.length;
    while (left && begin < end && is_blank(s.data + begin, end - begin)) begin += clf_utf8_size(s.data[begin]);
    while (right && begin < end) {
        size_t last = end - 1;
        while (last > begin && (s.data[last] & 0xC0) == 0x80) last--;
        if (!is_blank(s.data + last, end - last)) break;
        end = last;
    }
    return (clf_string){s.data + begin, end - begin};
}

static void tokenize(writer *w, clf_string s, clf_place place) {
    if (w->status == CLF_OK && s.length)
        w->status = clf_tokenize_append(w->tokenizer, w->scratch, s.data, (size_t)s.length, false, place);
}

/* A reply begins or ends before id `at`. */
static void put_edge(writer *w, size_t at) {
    if (w->in_reply)
        w->replies->data[w->replies->count - 1].end = at;
    else if (w->status == CLF_OK && !clf_spans_append(w->replies, at, at))
        w->status = CLF_OUT_OF_MEMORY;
    w->in_reply = !w->in_reply && w->status == CLF_OK;
}

/* Finds the edges within `s`, whose ids begin at `first`: each is where they leave the ids of the text before the edge
 * alone, which are what the model is given when it is to speak. A token across an edge belongs to what follows. */
static void find_edges(writer *w, clf_string s, size_t first, clf_place place) {
    clf_ids *ids = &w->scratch->ids, all = *ids;
    *ids = (clf_ids){0};
    for (size_t i = 0; i < w->edges.count; i++) {
        const char *end = w->text.data + w->edges.data[i].begin;
        const uint64_t before = end > s.data ? (uint64_t)(end - s.data) : 0;
        size_t same = 0;
        ids->count = 0;
        tokenize(w, (clf_string){s.data, before < s.length ? before : s.length}, place);
        while (same < ids->count && first + same < all.count && ids->data[same] == all.data[first + same]) same++;
        put_edge(w, first + same);
    }
    w->edges.count = 0;
    free(ids->data);
    *ids = all;
}

/* Here the assistant's turn begins, behind its header, or ends, behind the token that ends it. */
static void edge(writer *w) {
    if (!w->replies) return;
    if (!w->text.length)
        put_edge(w, w->scratch->ids.count);
    else if (!clf_spans_append(&w->edges, w->text.length, 0))
        w->status = CLF_OUT_OF_MEMORY;
}

static void flush(writer *w, bool strip_right) {
    clf_string s = {w->text.data, w->text.length};
    const size_t first = w->scratch->ids.count;
    const clf_place place = first ? CLF_PLACE_TOKEN : CLF_PLACE_BEGINNING;
    if (s.length) s = strip(s, w->strip_left, strip_right);
    tokenize(w, s, place);
    if (w->edges.count) find_edges(w, s, first, place);
    w->text.length = 0;
    w->strip_left = false;
}

static void put_token(writer *w, int32_t id) {
    const clf_tokenizer *t = w->tokenizer;
    if (id < 0) return;
    bool left = false, right = false;
    for (size_t i = 0; i < t->n_added; i++) {
        if (t->added[i].id != id) continue;
        left = t->added[i].left;
        right = t->added[i].right;
    }
    flush(w, left);
    if (w->status == CLF_OK && !clf_ids_append(&w->scratch->ids, id)) w->status = CLF_OUT_OF_MEMORY;
    w->strip_left = right;
}

/* A control token by its spelling. */
static void mark(writer *w, const char *spelling) {
    const clf_vocab *vocab = &w->tokenizer->vocab;
    const int32_t id = clf_vocab_find(vocab, spelling, strlen(spelling));
    if (id >= 0 && (vocab->pieces[id].kind == CLF_PIECE_CONTROL || vocab->pieces[id].kind == CLF_PIECE_USER))
        put_token(w, id);
    else
        put(w, spelling);
}

static void put_eos(writer *w) {
    put_token(w, w->tokenizer->eos);
}

static clf_string content_of(const clf_chat_message *message, bool trim) {
    const clf_string s = {message->content, strlen(message->content)};
    return trim ? strip(s, true, true) : s;
}

static void put_content(writer *w, const clf_chat_message *message, bool trim) {
    const clf_string s = content_of(message, trim);
    put_bytes(w, s.data, (size_t)s.length);
}

static bool is_role(const clf_chat_message *message, const char *role) {
    return strcmp(message->role, role) == 0;
}

static void edge_of_reply(writer *w, const clf_chat_message *message) {
    if (is_role(message, "assistant")) edge(w);
}

/* An optional system message, then the user and the assistant in turn. */
static bool alternates(const clf_chat_message *messages, size_t n, bool system) {
    const size_t first = is_role(&messages[0], "system");
    if (first && (!system || n == 1)) return false;
    for (size_t i = first; i < n; i++)
        if (!is_role(&messages[i], (i - first) % 2 ? "assistant" : "user")) return false;
    return true;
}

/* "[INST] " with the marker as a token. */
static void put_around(writer *w, const char *spelling) {
    const size_t n = strlen(spelling);
    const bool before = spelling[0] == ' ', after = n && spelling[n - 1] == ' ';
    if (before) put(w, " ");
    mark(w, strchr(spelling, '/') ? "[/INST]" : "[INST]");
    if (after) put(w, " ");
}

static clf_status render_inst(writer *w, const clf_chat_message *messages, size_t n) {
    const clf_chat_style *style = w->style;
    if (!alternates(messages, n, style->system != CLF_CHAT_SYSTEM_REFUSED)) return CLF_INVALID_ARGUMENT;
    const size_t first = is_role(&messages[0], "system");
    for (size_t i = first; i < n; i++) {
        if (is_role(&messages[i], "assistant")) {
            edge(w);
            put(w, style->lead);
            put_content(w, &messages[i], style->trim_reply);
            put(w, style->tail);
            put_eos(w);
            edge(w);
            put(w, style->after);
            continue;
        }
        if (style->bos_each) put_token(w, w->tokenizer->bos);
        put_around(w, style->open);
        const bool system = first && i == (style->system == CLF_CHAT_SYSTEM_LAST ? n - 1 : first);
        if (system) {
            const bool block = style->system == CLF_CHAT_SYSTEM_BLOCK;
            if (block) put(w, "<<SYS>>\n");
            put_content(w, &messages[0], false);
            put(w, block ? "\n<</SYS>>\n\n" : "\n\n");
        }
        /* system message and content are trimmed together */
        put_content(w, &messages[i], style->trim && !system);
        if (style->trim && system)
            w->text.length = (size_t)strip((clf_string){w->text.data, w->text.length}, false, true).length;
        put_around(w, style->close);
    }
    return CLF_OK;
}

static void open_llama3(writer *w, const char *role) {
    mark(w, "<|start_header_id|>");
    put(w, role);
    mark(w, "<|end_header_id|>");
    put(w, "\n\n");
}

static clf_status render_llama3(writer *w, const clf_chat_message *messages, size_t n, bool reply) {
    size_t first = 0;
    if (w->style->dates) {
        open_llama3(w, "system");
        put(w, "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n");
        if (is_role(&messages[0], "system")) put_content(w, &messages[first++], true);
        mark(w, "<|eot_id|>");
    }
    for (size_t i = first; i < n; i++) {
        open_llama3(w, messages[i].role);
        edge_of_reply(w, &messages[i]);
        put_content(w, &messages[i], true);
        mark(w, "<|eot_id|>");
        edge_of_reply(w, &messages[i]);
    }
    if (reply) open_llama3(w, "assistant");
    return CLF_OK;
}

/* The literal in the template, without its escapes. */
static void put_unescaped(writer *w, const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\\' && i + 1 < length) {
            i++;
            put_bytes(w, text[i] == 'n' ? "\n" : text[i] == 't' ? "\t" : text + i, 1);
        } else {
            put_bytes(w, text + i, 1);
        }
    }
}

static void open_chatml(writer *w, const char *role) {
    mark(w, "<|im_start|>");
    put(w, role);
    put(w, "\n");
}

static clf_string without_newlines(clf_string s, bool left, bool right) {
    while (left && s.length && s.data[0] == '\n') s.data++, s.length--;
    while (right && s.length && s.data[s.length - 1] == '\n') s.length--;
    return s;
}

/* Qwen 3: "<think>…</think>" is cut off, and put back for a reply that ends the conversation. */
static void put_reasoned(writer *w, const clf_chat_message *message, bool last) {
    const char *text = message->content, *end = NULL;
    for (const char *p = text; (p = strstr(p, "</think>")); p += 8) end = p;
    clf_string thought = {text, 0}, answer = {end ? end + 8 : text, strlen(end ? end + 8 : text)};
    if (end) {
        const char *first = strstr(text, "</think>");
        thought = without_newlines((clf_string){text, (uint64_t)(first - text)}, false, true);
        for (const char *p = text; (p = strstr(p, "<think>")) && p < first; p += 7)
            thought = (clf_string){p + 7, (uint64_t)(text + (thought.data - text) + thought.length - (p + 7))};
        thought = without_newlines(thought, true, true);
        answer = without_newlines(answer, true, false);
    }
    if (last) {
        mark(w, "<think>");
        put(w, "\n");
        put_bytes(w, thought.data, (size_t)thought.length);
        put(w, "\n");
        mark(w, "</think>");
        put(w, "\n\n");
        answer = without_newlines(answer, true, false);
    }
    put_bytes(w, answer.data, (size_t)answer.length);
}

static clf_status render_chatml(writer *w, const clf_chat_message *messages, size_t n, bool reply) {
    const clf_chat_style *style = w->style;
    if (style->default_system && !is_role(&messages[0], "system")) {
        open_chatml(w, "system");
        put_unescaped(w, style->default_system, style->default_system_length);
        mark(w, "<|im_end|>");
        put(w, "\n");
    }
    for (size_t i = 0; i < n; i++) {
        open_chatml(w, messages[i].role);
        edge_of_reply(w, &messages[i]);
        if (style->reasoning && is_role(&messages[i], "assistant"))
            put_reasoned(w, &messages[i], i == n - 1 && i > 0);
        else
            put_content(w, &messages[i], style->trim);
        mark(w, "<|im_end|>");
        edge_of_reply(w, &messages[i]);
        put(w, "\n");
    }
    if (reply) open_chatml(w, "assistant");
    return CLF_OK;
}

static void open_gemma(writer *w, const char *role) {
    mark(w, "<start_of_turn>");
    put(w, role);
    put(w, "\n");
}

static clf_status render_gemma(writer *w, const clf_chat_message *messages, size_t n, bool reply) {
    if (!alternates(messages, n, w->style->system != CLF_CHAT_SYSTEM_REFUSED)) return CLF_INVALID_ARGUMENT;
    const size_t first = is_role(&messages[0], "system");
    for (size_t i = first; i < n; i++) {
        const bool user = is_role(&messages[i], "user");
        open_gemma(w, user ? "user" : "model");
        if (first && i == first) {
            put_content(w, &messages[0], false);
            put(w, "\n\n");
        }
        edge_of_reply(w, &messages[i]);
        put_content(w, &messages[i], true);
        mark(w, "<end_of_turn>");
        edge_of_reply(w, &messages[i]);
        put(w, "\n");
    }
    if (reply) open_gemma(w, "model");
    return CLF_OK;
}

/* "<|user|>" and its kin; `spelling` ends the turn, NULL: end-of-sequence. */
static void put_turn(writer *w, const clf_chat_message *message, const char *end, bool newline) {
    mark(w, is_role(message, "user") ? "<|user|>" : is_role(message, "system") ? "<|system|>" : "<|assistant|>");
    if (newline) put(w, "\n");
    edge_of_reply(w, message);
    put_content(w, message, false);
    if (end)
        mark(w, end);
    else
        put_eos(w);
    edge_of_reply(w, message);
    if (newline) put(w, "\n");
}

static clf_status render_phi3(writer *w, const clf_chat_message *messages, size_t n, bool reply) {
    const clf_chat_style *style = w->style;
    for (size_t i = 0; i < n; i++) {
        if (!style->opens_reply || is_role(&messages[i], "user")) {
            put_turn(w, &messages[i], "<|end|>", style->newline);
        } else { /* the header is there already */
            if (is_role(&messages[i], "system")) return CLF_INVALID_ARGUMENT;
            edge(w);
            put_content(w, &messages[i], false);
            mark(w, "<|end|>");
            edge(w);
            put(w, "\n");
        }
        if (style->opens_reply ? is_role(&messages[i], "user") : reply && i == n - 1) {
            mark(w, "<|assistant|>");
            if (style->newline) put(w, "\n");
        }
    }
    if (style->eos_at_end && !reply) put_eos(w);
    return CLF_OK;
}

static clf_status render_zephyr(writer *w, const clf_chat_message *messages, size_t n, bool reply) {
    for (size_t i = 0; i < n; i++) put_turn(w, &messages[i], NULL, true);
    if (reply) {
        mark(w, "<|assistant|>");
        put(w, "\n");
    }
    return CLF_OK;
}

static clf_status render(writer *w, const clf_chat_message *messages, size_t n, bool reply) {
    if (w->style->bos && !w->style->bos_each) put_token(w, w->tokenizer->bos);
    switch (w->style->family) {
    case CLF_CHAT_LLAMA2:
    case CLF_CHAT_MISTRAL: return render_inst(w, messages, n);
    case CLF_CHAT_LLAMA3: return render_llama3(w, messages, n, reply);
    case CLF_CHAT_CHATML: return render_chatml(w, messages, n, reply);
    case CLF_CHAT_GEMMA: return render_gemma(w, messages, n, reply);
    case CLF_CHAT_PHI3: return render_phi3(w, messages, n, reply);
    case CLF_CHAT_ZEPHYR: return render_zephyr(w, messages, n, reply);
    case CLF_CHAT_NONE: break;
    }
    return CLF_UNSUPPORTED;
}

clf_status clf_chat_append(const clf_tokenizer *t, const clf_chat_message *messages, size_t n, bool reply,
                           clf_scratch *scratch, clf_spans *replies) {
    if (!n) return CLF_INVALID_ARGUMENT;
    if (t->chat.family == CLF_CHAT_NONE) return CLF_UNSUPPORTED;
    for (size_t i = 0; i < n; i++) {
        const clf_chat_message *m = &messages[i];
        if (!m->role || !m->content || strlen(m->content) > (size_t)1 << 31 ||
            (!is_role(m, "system") && !is_role(m, "user") && !is_role(m, "assistant")))
            return CLF_INVALID_ARGUMENT;
    }
    writer w = {.tokenizer = t, .style = &t->chat, .scratch = scratch, .replies = replies};
    clf_status st = render(&w, messages, n, reply);
    flush(&w, false);
    if (st == CLF_OK) st = w.status;
    free(w.text.data);
    free(w.edges.data);
    return st;
}

clf_status clf_tokenize_chat(const clf_tokenizer *t, const clf_chat_message *messages, size_t n, bool reply,
                             int32_t *ids, size_t capacity, size_t *count) {
    if (count) *count = 0;
    if (!t || !messages || !count || (!ids && capacity)) return CLF_INVALID_ARGUMENT;
    clf_scratch scratch = {0};
    clf_status st = clf_chat_append(t, messages, n, reply, &scratch, NULL);
    if (st == CLF_OK) st = clf_tokenize_deliver(&scratch, ids, capacity, count);
    clf_scratch_clear(&scratch);
    return st;
}

const char *clf_tokenizer_chat_family(const clf_tokenizer *t) {
    static const char *const names[] = {
        [CLF_CHAT_LLAMA2] = "llama2", [CLF_CHAT_LLAMA3] = "llama3", [CLF_CHAT_MISTRAL] = "mistral",
        [CLF_CHAT_CHATML] = "chatml", [CLF_CHAT_GEMMA] = "gemma",   [CLF_CHAT_PHI3] = "phi3",
        [CLF_CHAT_ZEPHYR] = "zephyr"};
    return t ? names[t->chat.family] : NULL;
}
