/* chat_style.c: recognising a chat template by the control tokens and expressions in its text. */
#include <string.h>

#include "chat.h"

typedef struct span {
    const char *begin, *end;
} span;

static bool has(const char *text, const char *part) {
    return strstr(text, part) != NULL;
}

static bool span_has(span s, const char *part) {
    const size_t n = strlen(part);
    for (const char *p = s.begin; (size_t)(s.end - p) >= n; p++)
        if (memcmp(p, part, n) == 0) return true;
    return false;
}

static bool trims(span s) {
    return span_has(s, "strip()") || span_has(s, "|trim") || span_has(s, "| trim");
}

/* The inside of the first {{ expression }} at or after `from` that has `part` and, if it isn't NULL, `other`; empty if
 * there is none. */
static span expression(const char *from, const char *part, const char *other) {
    for (const char *open = strstr(from, "{{"); open; open = strstr(open + 2, "{{")) {
        const char *close = strstr(open, "}}");
        const span s = {open + 2, close ? close : open + strlen(open)};
        if (span_has(s, part) && (!other || span_has(s, other))) return s;
    }
    return (span){from, from};
}

static bool is_quote(char c) {
    return c == '\'' || c == '"';
}

/* `mark` as a quoted literal of the expression, with the spaces inside the quotes: one of spellings[before][after]. */
static const char *spelled(span s, const char *mark, const char *const spellings[2][2]) {
    const size_t n = strlen(mark);
    for (const char *p = s.begin; (size_t)(s.end - p) > n; p++) {
        if (memcmp(p, mark, n) != 0) continue;
        const bool before = p > s.begin && p[-1] == ' ', after = p[n] == ' ';
        return spellings[before][after];
    }
    return spellings[0][0];
}

/* A line's end at `p`, as itself or as an escape: how many bytes; 0: none. */
static size_t line_end(const char *p) {
    return p[0] == '\n' ? 1 : p[0] == '\\' && p[1] == 'n' ? 2 : 0;
}

/* Whether a line ends after `mark`, in its literal or in one that is added to it. */
static bool ends_line(const char *text, const char *mark) {
    for (const char *p = text; (p = strstr(p, mark));) {
        p += strlen(mark);
        if (line_end(p) || (strncmp(p, "' + '", 5) == 0 && line_end(p + 5))) return true;
    }
    return false;
}

/* [INST] … [/INST] … </s>: LLaMA 2 and Mistral, whose versions differ by spaces. */
static void recognise_inst(const char *text, clf_chat_style *style) {
    static const char *const opens[2][2] = {{"[INST]", "[INST] "}, {" [INST]", " [INST] "}};
    static const char *const closes[2][2] = {{"[/INST]", "[/INST] "}, {" [/INST]", " [/INST] "}};
    const span user = expression(text, "[INST]", "content");
    const span reply = expression(text, "eos_token", "content");
    if (user.begin == user.end || reply.begin == reply.end) return;
    style->family = has(text, "<<SYS>>") ? CLF_CHAT_LLAMA2 : CLF_CHAT_MISTRAL;
    style->open = spelled(user, "[INST]", opens);
    style->close = spelled(user, "[/INST]", closes);
    const char *first = reply.begin;
    while (first < reply.end && (*first == ' ' || *first == '-' || *first == '\n')) first++;
    style->lead = reply.end - first > 2 && is_quote(first[0]) && first[1] == ' ' && is_quote(first[2]) ? " " : "";
    style->tail = span_has(reply, "' ' + eos_token") || span_has(reply, "\" \" + eos_token") ? " " : "";
    style->after = span_has(reply, "eos_token + ' '") || span_has(reply, "eos_token + \" \"") ? " " : "";
    style->trim = trims(user);
    style->trim_reply = trims(reply);
    style->bos_each = span_has(user, "bos_token");
    style->system = has(text, "<<SYS>>")                        ? CLF_CHAT_SYSTEM_BLOCK
                    : has(text, "loop.last and system_message") ? CLF_CHAT_SYSTEM_LAST
                    : has(text, "loop.first and system_message") || has(text, "loop.index0 == 0 and system_message")
                        ? CLF_CHAT_SYSTEM_FIRST
                        : CLF_CHAT_SYSTEM_REFUSED;
}

/* What stands between "<|im_start|>system\n" and "<|im_end|>" in one literal. */
static void find_default_system(const char *text, clf_chat_style *style) {
    static const char header[] = "<|im_start|>system", end[] = "<|im_end|>";
    for (const char *p = text; (p = strstr(p, header));) {
        p += sizeof header - 1;
        if (!line_end(p)) continue;
        p += line_end(p);
        const char *last = strstr(p, end);
        const size_t n = last ? (size_t)(last - p) : 0;
        if (!n || is_quote(*p) || memchr(p, '{', n) || memchr(p, '+', n)) continue;
        style->default_system = p;
        style->default_system_length = n;
        return;
    }
}

clf_chat_style clf_chat_recognise(const char *text) {
    clf_chat_style style = {0};
    if (!text) return style;
    style.bos = has(text, "bos_token");
    if (has(text, "<|im_start|>") && !has(text, "<|im_sep|>")) {
        style.family = CLF_CHAT_CHATML;
        style.trim = trims(expression(text, "<|im_end|>", "content"));
        style.reasoning = has(text, "reasoning_content");
        if (style.reasoning) style.trim = false;
        find_default_system(text, &style);
    } else if (has(text, "<|start_header_id|>") && has(text, "<|eot_id|>")) {
        style.family = CLF_CHAT_LLAMA3;
        style.dates = has(text, "Cutting Knowledge Date");
    } else if (has(text, "<start_of_turn>") && has(text, "<end_of_turn>")) {
        style.family = CLF_CHAT_GEMMA;
        style.system = has(text, "first_user_prefix") ? CLF_CHAT_SYSTEM_FIRST : CLF_CHAT_SYSTEM_REFUSED;
    } else if (has(text, "[INST]") && !has(text, "[SYSTEM_PROMPT]")) {
        recognise_inst(text, &style);
    } else if (has(text, "<|assistant|>") && has(text, "<|end|>")) {
        style.family = CLF_CHAT_PHI3;
        style.opens_reply = span_has(expression(text, "<|user|>", "content"), "<|assistant|>");
        style.newline = ends_line(text, "<|assistant|>");
        style.eos_at_end = has(text, "eos_token");
    } else if (has(text, "<|assistant|>") && span_has(expression(text, "<|user|>", "content"), "eos_token")) {
        style.family = CLF_CHAT_ZEPHYR;
    }
    return style;
}
