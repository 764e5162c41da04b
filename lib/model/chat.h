/* chat.h: the families of chat templates. */
#ifndef CLF_MODEL_CHAT_H
#define CLF_MODEL_CHAT_H

typedef enum clf_chat_family {
    CLF_CHAT_NONE, /* no template */
    CLF_CHAT_UNKNOWN,
    CLF_CHAT_LLAMA2,
    CLF_CHAT_LLAMA3,
    CLF_CHAT_MISTRAL_V1,
    CLF_CHAT_MISTRAL_V3,
    CLF_CHAT_MISTRAL_TEKKEN,
    CLF_CHAT_CHATML,
    CLF_CHAT_GEMMA,
    CLF_CHAT_PHI3,
    CLF_CHAT_ZEPHYR
} clf_chat_family;

/* The family that a template's markers show. NULL: CLF_CHAT_NONE. */
clf_chat_family clf_chat_recognise(const char *chat_template);

#endif
