/* chat.c: placeholder */
#include "chat.h"
#include <stddef.h>
clf_chat_family clf_chat_recognise(const char *chat_template) {
    return chat_template ? CLF_CHAT_UNKNOWN : CLF_CHAT_NONE;
}
