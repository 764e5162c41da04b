/* chat.h: the families of chat templates. A template is a Jinja program; here nothing runs it. Its text shows which of
 * the known families it belongs to and which of the family's variants it is, and the family is rendered in C. */
#ifndef CLF_MODEL_CHAT_H
#define CLF_MODEL_CHAT_H

#include <stdbool.h>
#include <stddef.h>

typedef enum clf_chat_family {
    CLF_CHAT_NONE, /* no template, or none of a known family */
    CLF_CHAT_LLAMA2,
    CLF_CHAT_LLAMA3,
    CLF_CHAT_MISTRAL,
    CLF_CHAT_CHATML,
    CLF_CHAT_GEMMA,
    CLF_CHAT_PHI3,
    CLF_CHAT_ZEPHYR
} clf_chat_family;

/* Where a system message goes in families whose turns alternate. */
typedef enum clf_chat_system {
    CLF_CHAT_SYSTEM_REFUSED,
    CLF_CHAT_SYSTEM_BLOCK, /* "<<SYS>>\n…\n<</SYS>>\n\n" before the first user's content */
    CLF_CHAT_SYSTEM_FIRST, /* "…\n\n" before the first user's content */
    CLF_CHAT_SYSTEM_LAST   /* before that of the last message, if it is the user's */
} clf_chat_system;

typedef struct clf_chat_style {
    clf_chat_family family;
    bool bos;  /* begin-of-sequence first */
    bool trim; /* contents without white space around them; LLAMA2, MISTRAL: the user's */
    clf_chat_system system;
    /* LLAMA2, MISTRAL: <bos> open content close, then lead content tail <eos> after */
    const char *open, *close, *lead, *tail, *after;
    bool bos_each;   /* begin-of-sequence before each open */
    bool trim_reply; /* the assistant's contents are trimmed */
    /* LLAMA3: the system turn tells two dates */
    bool dates;
    /* CHATML */
    bool reasoning;             /* Qwen 3: of what the assistant thought, only the last turn's is kept */
    const char *default_system; /* in the template, escaped; NULL: none */
    size_t default_system_length;
    /* PHI3 */
    bool opens_reply; /* the user's turn ends with the assistant's header, always */
    bool newline;     /* after headers and turns */
    bool eos_at_end;  /* where the assistant isn't about to speak */
} clf_chat_style;

/* NULL: CLF_CHAT_NONE. The style points into the template. */
clf_chat_style clf_chat_recognise(const char *chat_template);

#endif
