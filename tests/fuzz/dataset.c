/* dataset.c: any bytes as training data: as JSON lines with and without pairs, as text, as tokens (the first byte
 * chooses, also how batches are made); bad lines are left out. Two epochs come whole and the same again after a seek,
 * and as a file of tokens what has been read is read again. */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xxhash.h>

#include "../../lib/train/dataset.h"
#include "../../lib/train/tokens.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static clf_tokenizer *tokenizer;
static char saved[64];

static void require(int condition) {
    if (!condition) abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    clf_tokenizer_create(&tokenizer, &(clf_tokenizer_args){.path = CLF_GOLDEN "/chat/llama2"});
    require(tokenizer != NULL);
    snprintf(saved, sizeof saved, "/tmp/clformer-fuzz-%ld.tokens", (long)getpid());
    return 0;
}

/* Makes the bytes a file of tokens whose checksum holds. */
static void seal(uint8_t *data, size_t size) {
    clf_tokens_header h;
    if (size < sizeof h) return;
    memcpy(&h, data, sizeof h);
    h.tokenizer = clf_tokenizer_hash(tokenizer);
    h.hash = 0;
    h.hash = XXH3_64bits_withSeed(&h, sizeof h, XXH3_64bits(data + sizeof h, size - sizeof h));
    memcpy(data, &h, sizeof h);
}

static bool leave_out(void *user, const char *message) {
    (void)user;
    return message[0] != 0;
}

static uint64_t check(const clf_batch *b, int64_t most) {
    uint64_t hash = (uint64_t)b->tokens;
    int64_t targets = 0;
    require(b->sequences > 0 && b->tokens <= most && b->starts[0] == 0 && b->starts[b->sequences] == b->tokens);
    for (int64_t s = 0; s < b->sequences; s++) {
        require(b->starts[s] < b->starts[s + 1]);
        for (int32_t i = b->starts[s]; i < b->starts[s + 1]; i++) {
            require(b->ids[i] >= 0 && b->ids[i] < clf_tokenizer_size(tokenizer));
            require(b->positions[i] == i - b->starts[s]);
            if (b->labels[i] == CLF_LABEL_NONE) continue;
            targets++;
            require(i + 1 == b->starts[s + 1] || b->labels[i] == b->ids[i + 1]);
        }
    }
    for (int64_t i = 0; i < b->tokens; i++)
        hash = (hash ^ (uint32_t)b->ids[i]) * 0x100000001B3u + (uint32_t)b->labels[i];
    require(targets == b->targets && targets > 0);
    return hash;
}

/* Hash of one epoch of at most 100 batches; 0: there is none. */
static uint64_t epoch(clf_dataset *d, const clf_dataset_args *args) {
    uint64_t hash = 1;
    clf_batch b = {0};
    for (int i = 0; i < 100 && !b.last; i++) {
        if (clf_dataset_next(d, 2, &b) != CLF_OK) return require(clf_dataset_error(d)[0]), 0;
        hash = hash * 31 + check(&b, 2 * args->context);
    }
    return hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!size) return 0;
    char path[64], message[512] = "";
    const int file = memfd_create("data", 0), how = data[0];
    uint8_t *bytes = malloc(size);
    require(bytes != NULL);
    memcpy(bytes, data + 1, size - 1);
    if (how % 4 == 1) seal(bytes, size - 1);
    require(file >= 0 && write(file, bytes, size - 1) == (ssize_t)(size - 1));
    free(bytes);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    clf_dataset_args args = {.path = path,
                             .format = how % 4 == 0   ? CLF_DATASET_TEXT
                                       : how % 4 == 1 ? CLF_DATASET_TOKENS
                                                      : CLF_DATASET_JSONL,
                             .preference = how % 4 == 3,
                             .tokenizer = tokenizer,
                             .context = 4 + how / 64 * 20,
                             .pack = how & 4,
                             .split = how & 8 && how % 4 != 3,
                             .ordered = how & 16,
                             .max_line = 1000,
                             .bad_line = leave_out,
                             .error = message,
                             .error_size = sizeof message};
    clf_dataset *d, *again, *part;
    if (clf_dataset_create(&d, &args) != CLF_OK) {
        require(!d && message[0]);
    } else {
        const uint64_t first = epoch(d, &args);
        const clf_dataset_position p = clf_dataset_tell(d);
        const uint64_t second = epoch(d, &args);
        require(clf_dataset_seek(d, &p) == CLF_OK && epoch(d, &args) == second);
        require(clf_dataset_seek(d, NULL) == CLF_OK && epoch(d, &args) == first);
        if (clf_dataset_create(&part, &args) == CLF_OK && clf_dataset_split(part, 0.5, &again) == CLF_OK) {
            epoch(part, &args);
            epoch(again, &args);
            clf_dataset_destroy(again);
        }
        clf_dataset_destroy(part);
        if (how & 32 && clf_dataset_save_tokens(d, saved) == CLF_OK) {
            args.path = saved;
            args.format = CLF_DATASET_TOKENS;
            require(clf_dataset_create(&again, &args) == CLF_OK);
            require((epoch(again, &args) != 0) == (first != 0));
            clf_dataset_destroy(again);
            unlink(saved);
        }
        clf_dataset_destroy(d);
    }
    close(file);
    return 0;
}
