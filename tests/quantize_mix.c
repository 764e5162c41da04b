/* quantize_mix.c: the mixes of quantize_mix.h choose a dtype for each matrix as llama.cpp's do. */
#include "model_case.h"

#include "../lib/model/quantize_mix.h"

/* What llama.cpp's tool gives a model of 16 layers, eight heads over two, and one of 12 layers without sharing. Layers
 * that differ from the rest are listed. */
static void test_mixes(void **state) {
    (void)state;
    static const struct {
        const char *type, *stem;
        int heads; /* over 2; 8: 16 layers; 2: 12 layers */
        clf_dtype rest;
        const char *layers; /* that have another */
        clf_dtype other;
    } facts[] = {
        {"q4_0", "ffn_down", 8, CLF_Q4_0, "", 0},
        {"q2_k", "attn_v", 8, CLF_Q4_K, "", 0},
        {"q2_k", "attn_v", 2, CLF_Q3_K, "", 0},
        {"q2_k", "attn_output", 8, CLF_Q3_K, "", 0},
        {"q2_k", "ffn_down", 8, CLF_Q3_K, "", 0},
        {"q2_k", "attn_q", 8, CLF_Q2_K, "", 0},
        {"q2_k", "output", 8, CLF_Q6_K, "", 0},
        {"q3_k_s", "attn_v", 8, CLF_Q3_K, "", 0},
        {"q3_k_m", "attn_v", 8, CLF_Q4_K, "0,1", CLF_Q5_K},
        {"q3_k_m", "ffn_down", 8, CLF_Q4_K, "0", CLF_Q5_K},
        {"q3_k_m", "ffn_down", 2, CLF_Q4_K, "", 0},
        {"q3_k_m", "attn_output", 8, CLF_Q4_K, "", 0},
        {"q3_k_l", "attn_v", 8, CLF_Q5_K, "", 0},
        {"q3_k_l", "attn_output", 8, CLF_Q5_K, "", 0},
        {"q3_k_l", "ffn_down", 8, CLF_Q5_K, "", 0},
        {"q3_k_l", "ffn_up", 8, CLF_Q3_K, "", 0},
        {"q4_k_s", "attn_v", 8, CLF_Q4_K, "0,1,2,3", CLF_Q5_K},
        {"q4_k_s", "ffn_down", 8, CLF_Q4_K, "0,1", CLF_Q5_K},
        {"q4_k_s", "ffn_down", 2, CLF_Q4_K, "0", CLF_Q5_K},
        {"q4_k_m", "attn_v", 8, CLF_Q6_K, "2,3,5,6,8,9,11,12", CLF_Q4_K},
        {"q4_k_m", "ffn_down", 8, CLF_Q6_K, "2,3,5,6,8,9,11,12", CLF_Q4_K},
        {"q4_k_m", "ffn_down", 2, CLF_Q6_K, "1,2,4,5,7,8", CLF_Q4_K},
        {"Q4_K", "attn_v", 8, CLF_Q6_K, "2,3,5,6,8,9,11,12", CLF_Q4_K},
        {"q4_k_m", "attn_qkv", 2, CLF_Q6_K, "1,2,4,5,7,8", CLF_Q4_K},
        {"q3_k_l", "attn_qkv", 2, CLF_Q5_K, "", 0},
        {"q2_k", "attn_qkv", 2, CLF_Q3_K, "", 0},
        {"q5_k_s", "attn_v", 8, CLF_Q5_K, "", 0},
        {"q5_k_m", "attn_v", 2, CLF_Q6_K, "1,2,4,5,7,8", CLF_Q5_K},
        {"q6_k", "token_embd", 8, CLF_Q6_K, "", 0},
        {"iq4_nl", "attn_v", 8, CLF_Q5_K, "", 0},
        {"iq4_nl", "attn_v", 2, CLF_IQ4_NL, "", 0},
        {"iq4_nl", "ffn_down", 8, CLF_IQ4_NL, "0,1", CLF_Q5_K},
        {"iq4_xs", "ffn_down", 2, CLF_IQ4_XS, "0", CLF_Q5_K},
        {"q8_0", "output", 8, CLF_Q8_0, "", 0},
        {"f16", "output", 8, CLF_F16, "", 0},
        {"q4_0", "output", 8, CLF_Q6_K, "", 0},
        {"tq2_0", "token_embd", 8, CLF_Q4_K, "", 0},
        {"tq1_0", "ffn_gate", 8, CLF_TQ1_0, "", 0},
    };
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++) {
        const clf_config c = {.n_layers = facts[i].heads == 8 ? 16 : 12, .n_heads = facts[i].heads, .n_kv_heads = 2};
        const clf_quantize_type *type;
        clf_error err = {0};
        assert_int_equal(clf_quantize_type_named(&type, facts[i].type, &err), CLF_OK);
        for (int layer = 0; layer < c.n_layers; layer++) {
            char listed[40], number[16];
            snprintf(listed, sizeof listed, ",%s,", facts[i].layers);
            snprintf(number, sizeof number, ",%d,", layer);
            const clf_dtype want = strstr(listed, number) ? facts[i].other : facts[i].rest;
            const clf_dtype got = clf_quantize_mixed(type, &c, (clf_quantize_place){facts[i].stem, layer, false});
            if (got != want)
                fail_msg("%s: %s of layer %d: expected %s, got %s", facts[i].type, facts[i].stem, layer,
                         clf_dtype_name(want), clf_dtype_name(got));
        }
    }
    const clf_config tied = {.n_layers = 2, .n_heads = 4, .n_kv_heads = 4, .tied_output = true};
    const clf_quantize_type *type;
    assert_int_equal(clf_quantize_type_named(&type, "tq2_0", NULL), CLF_OK);
    assert_int_equal(clf_quantize_mixed(type, &tied, (clf_quantize_place){"token_embd", -1, false}), CLF_Q6_K);
    assert_int_equal(clf_quantize_type_named(&type, "q4_0", NULL), CLF_OK);
    const clf_config deep = {.n_layers = 16, .n_heads = 4, .n_kv_heads = 4};
    assert_int_equal(clf_quantize_mixed(type, &deep, (clf_quantize_place){"ffn_down", 1, true}), CLF_Q4_1);
    assert_int_equal(clf_quantize_mixed(type, &deep, (clf_quantize_place){"ffn_down", 2, true}), CLF_Q4_0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_mixes)};
    return cmocka_run_group_tests_name("quantize_mix", tests, NULL, NULL);
}
