/* tokenizer_gguf.c: any bytes as a GGUF with a tokenizer; one that is accepted works on a short text and a
 * conversation. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../../lib/model/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char text[] = "Ab <s>\xC3\xA9 1\xF0\x9F\x98\x80\xFF </s>  x";
    static const clf_chat_message messages[] = {{"user", "a <s>"}, {"assistant", " b"}, {"user", "c\n"}};
    clf_error err = {0};
    clf_gguf *gguf;
    clf_tokenizer *t;
    int32_t ids[64];
    char back[256];
    size_t n, length;
    if (clf_gguf_open(&gguf, &(clf_model_file_args){.data = data, .data_size = size}, &err) != CLF_OK) return 0;
    if (clf_tokenizer_from_gguf(&t, gguf, &err) == CLF_OK) {
        clf_tokenize(t, text, sizeof text - 1, CLF_TOKENIZE_ADD_SPECIAL | CLF_TOKENIZE_PARSE_SPECIAL, ids, 64, &n);
        clf_detokenize(t, ids, n < 64 ? n : 64, true, back, sizeof back, &length);
        clf_tokenize_chat(t, messages, 3, true, ids, 64, &n);
    }
    clf_tokenizer_destroy(t);
    clf_gguf_close(gguf);
    return 0;
}
