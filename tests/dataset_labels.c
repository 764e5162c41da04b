/* dataset_labels.c: which tokens of a sample are targets: of texts, completions, conversations over every golden chat
 * template, and pairs. */
#include "dataset_case.h"

#include <jansson.h>

/* The labels of the only sequence of a file with this line. */
static clf_batch only(const clf_tokenizer *t, const char *line, clf_dataset **d) {
    *d = open_dataset((clf_dataset_args){.path = put("one.jsonl", line), .tokenizer = t, .context = 512, .pack = true});
    const clf_batch b = next(*d, 1);
    assert_int_equal(b.sequences, 1);
    assert_true(b.last);
    return b;
}

/* Text of the targets. */
static void targets_text(const clf_tokenizer *t, const clf_batch *b, char *text, size_t size) {
    int32_t ids[512];
    size_t n = 0, length;
    for (int64_t i = 0; i < b->tokens; i++)
        if (b->labels[i] != CLF_LABEL_NONE) ids[n++] = b->labels[i];
    assert_int_equal(clf_detokenize(t, ids, n, true, text, size, &length), CLF_OK);
}

static void test_labels(void **state) {
    (void)state;
    const int32_t eos = clf_tokenizer_eos(bpe);
    clf_dataset *d;
    char text[512], expected[512];
    const char *end = clf_tokenizer_piece(bpe, eos);
    /* text: the ids of clf_tokenize() and the end; all are targets but the first */
    clf_batch b = only(bpe, "{\"text\": \"The cat sat.\", \"source\": {\"id\": 3}}", &d);
    int32_t ids[64];
    size_t n;
    assert_int_equal(clf_tokenize(bpe, "The cat sat.", 12, CLF_TOKENIZE_ADD_SPECIAL, ids, 64, &n), CLF_OK);
    if (ids[n - 1] != eos) ids[n++] = eos;
    assert_int_equal(b.tokens, n);
    assert_memory_equal(b.ids, ids, n * sizeof *ids);
    assert_int_equal(b.targets, n - 1);
    assert_int_equal(b.labels[n - 1], CLF_LABEL_NONE);
    clf_dataset_destroy(d);
    /* completion: its own tokens and the end */
    b = only(bpe, "{\"prompt\": \"Q: two and two?\\nA:\", \"completion\": \" four <s>\"}", &d);
    targets_text(bpe, &b, text, sizeof text);
    snprintf(expected, sizeof expected, " four <s>%s", end);
    assert_string_equal(text, expected);
    clf_dataset_destroy(d);
    /* a token across the border is a target */
    b = only(bpe, "{\"prompt\": \"The ca\", \"completion\": \"t\"}", &d);
    assert_true(b.targets >= 2);
    clf_dataset_destroy(d);
    /* messages before prompt before text */
    b = only(
        chatml,
        "{\"prompt\": \"x\", \"text\": \"y\", \"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": "
        "\"assistant\", \"content\": \"One.\"}, {\"role\": \"user\", \"content\": \"And <|im_end|>\"}, {\"role\": "
        "\"assistant\", \"content\": \"Two\"}]}",
        &d);
    targets_text(chatml, &b, text, sizeof text);
    assert_string_equal(text, "One.<|im_end|>Two<|im_end|>");
    clf_dataset_destroy(d);
    /* a prompt of messages: only the completion's replies */
    b = only(
        chatml,
        "{\"prompt\": [{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": \"One.\"}, "
        "{\"role\": \"user\", \"content\": \"And\"}], \"completion\": [{\"role\": \"assistant\", \"content\": "
        "\"Two\"}]}",
        &d);
    targets_text(chatml, &b, text, sizeof text);
    assert_string_equal(text, "Two<|im_end|>");
    clf_dataset_destroy(d);
}

/* Every golden conversation of every template: a reply's targets begin where the ids of the conversation so far, with
 * the assistant about to speak, end, and what they say is what the assistant said. */
static void check_conversation(const char *name, const clf_tokenizer *t, const json_t *messages, int *checked) {
    const size_t n = json_array_size(messages);
    clf_chat_message list[16];
    size_t count, replies = 0;
    int32_t full[1024], before[1024];
    assert_true(n <= 16);
    for (size_t i = 0; i < n; i++) {
        const json_t *m = json_array_get(messages, i);
        list[i] = (clf_chat_message){json_string_value(json_object_get(m, "role")),
                                     json_string_value(json_object_get(m, "content"))};
        replies += !strcmp(list[i].role, "assistant");
    }
    if (!replies || clf_tokenize_chat(t, list, n, false, full, 1024, &count) != CLF_OK) return;
    json_t *line = json_pack("{s:O}", "messages", messages);
    char *dump = json_dumps(line, JSON_COMPACT);
    clf_dataset *d;
    const clf_batch b = only(t, dump, &d);
    assert_int_equal(b.tokens, count);
    assert_memory_equal(b.ids, full, count * sizeof *full);
    int64_t from = 0;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i].role, "assistant")) continue;
        /* the next run of targets */
        while (from < b.tokens && b.labels[from] == CLF_LABEL_NONE) from++;
        int64_t to = from;
        while (to < b.tokens && b.labels[to] != CLF_LABEL_NONE) to++;
        assert_true(to > from);
        char said[512], wanted[512];
        size_t length;
        assert_int_equal(clf_detokenize(t, b.labels + from, (size_t)(to - from), false, said, sizeof said, &length),
                         CLF_OK);
        snprintf(wanted, sizeof wanted, "%s", list[i].content);
        /* without white space, which some templates trim, and the thoughts that others drop */
        char *begin = strstr(wanted, "</think>") ? strstr(wanted, "</think>") + 8 : wanted;
        size_t k = strlen(begin);
        while (k && strchr(" \n", begin[k - 1])) begin[--k] = 0;
        begin += strspn(begin, " \n");
        if (!strstr(said, begin)) print_error("%s: \"%s\", expected \"%s\"\n", name, said, begin);
        assert_non_null(strstr(said, begin));
        assert_true(clf_tokenizer_is_end(t, b.labels[to - 1]));
        /* where the model would begin to speak; templates that change what was said before have another prefix */
        size_t prefix, same = 0;
        if (i && clf_tokenize_chat(t, list, i, true, before, 1024, &prefix) == CLF_OK) {
            while (same < prefix && before[same] == full[same]) same++;
            if (same == prefix) {
                assert_int_equal(from + 1, prefix);
                ++*checked;
            }
        }
        from = to;
    }
    clf_dataset_destroy(d);
    free(dump);
    json_decref(line);
}

static void test_conversations(void **state) {
    (void)state;
    struct dirent **names;
    const int n = scandir("golden/chat", &names, NULL, alphasort);
    int checked = 0;
    assert_true(n > 0);
    for (int i = 0; i < n; i++) {
        char path[512];
        json_t *expect, *row;
        size_t k;
        snprintf(path, sizeof path, "golden/chat/%s/expect.json", names[i]->d_name);
        if (names[i]->d_name[0] != '.' && (expect = json_load_file(path, 0, NULL))) {
            clf_tokenizer *t;
            *strrchr(path, '/') = 0;
            assert_int_equal(clf_tokenizer_create(&t, &(clf_tokenizer_args){.path = path}), CLF_OK);
            json_array_foreach(expect, k, row)
                check_conversation(names[i]->d_name, t, json_object_get(row, "messages"), &checked);
            clf_tokenizer_destroy(t);
            json_decref(expect);
        }
        free(names[i]);
    }
    free(names);
    print_message("%d replies\n", checked);
    assert_true(checked > 20);
}

static void test_pairs(void **state) {
    (void)state;
    static const char lines[] =
        "{\"prompt\": \"Say: \", \"chosen\": \"yes\", \"rejected\": \"no, never\"}\n"
        "{\"prompt\": \"1\", \"chosen\": [{\"role\": \"user\", \"content\": \"1\"}, {\"role\": \"assistant\", "
        "\"content\": "
        "\"good\"}], \"rejected\": [{\"role\": \"user\", \"content\": \"1\"}, {\"role\": \"assistant\", \"content\": "
        "\"bad\"}]}\n"
        "{\"prompt\": [{\"role\": \"user\", \"content\": \"1\"}], \"chosen\": [{\"role\": \"assistant\", \"content\": "
        "\"good\"}], \"rejected\": [{\"role\": \"assistant\", \"content\": \"bad\"}]}\n"
        "{\"chosen\": \"1 a b\", \"rejected\": \"1 c d e\"}\n"
        "{\"prompt\": \"x\", \"chosen\": \"\", \"rejected\": \"half a pair\"}\n";
    clf_dataset_args args = {.path = put("pairs.jsonl", lines), .context = 64, .preference = true, .tokenizer = chatml};
    for (int pack = 0; pack < 2; pack++) {
        args.pack = pack;
        clf_dataset *d = open_dataset(args);
        clf_batch b;
        assert_int_equal(clf_dataset_next(d, 1, &b), CLF_INVALID_ARGUMENT);
        assert_int_equal(clf_dataset_next(d, 3, &b), CLF_INVALID_ARGUMENT);
        int seen = 0, dropped = 0;
        for (bool last = false; !last;) {
            b = next(d, 2);
            check_batch(&b, &args, 2);
            assert_true(b.pairs && b.sequences % 2 == 0);
            dropped += (int)b.dropped;
            for (int64_t s = 0; s < b.sequences; s += 2) {
                const int32_t *x = b.ids + b.starts[s], *y = b.ids + b.starts[s + 1];
                char chosen[64], rejected[64];
                clf_batch half = b;
                half.labels += b.starts[s];
                half.tokens = b.starts[s + 1] - b.starts[s];
                targets_text(chatml, &half, chosen, sizeof chosen);
                half.labels = b.labels + b.starts[s + 1];
                half.tokens = b.starts[s + 2] - b.starts[s + 1];
                targets_text(chatml, &half, rejected, sizeof rejected);
                assert_int_equal(x[0], y[0]);
                if (strstr(chosen, "yes")) assert_non_null(strstr(rejected, "no, never"));
                if (strstr(chosen, "good")) assert_non_null(strstr(rejected, "bad"));
                if (strstr(chosen, "a b")) assert_non_null(strstr(rejected, "c d e"));
                seen += strstr(chosen, "yes") ? 1 : strstr(chosen, "good") ? 10 : 100;
            }
            last = b.last;
        }
        assert_int_equal(seen, 121);
        assert_int_equal(dropped, 1);
        clf_dataset_destroy(d);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_labels), cmocka_unit_test(test_conversations),
                                       cmocka_unit_test(test_pairs)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
