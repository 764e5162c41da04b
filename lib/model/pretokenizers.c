/* pretokenizers.c: the table behind tokenizer.ggml.pre. A text is split at the matches of the first pattern, what
 * results at those of the second, and so on. The patterns are those of the models' own tokenizer.json files; where GGUF
 * names several models alike, they share one. */
#include "pretokenizers.h"

#include <string.h>

/* Contractions, any case; and the same after a word. */
#define C      "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define LINES  "\\s*[\\r\\n]+"
#define SPACES "\\s+(?!\\S)|\\s+"
#define WORD   "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define SYMBOL " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
/* Words that end where capitals begin. */
#define UPPER     "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}"
#define LOWER     "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"
#define CASED(S)  "[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]*[" LOWER "]+" S "|[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]+[" LOWER "]*" S
#define PATHS     " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*"
#define IDEOGRAMS "[一-龥\\x{3040}-ゟ゠-ヿ]+"
#define DEEPSEEK3                                                                                                      \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"                \
    "| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* Letters with case (L&, less modifier letters), as DeepSeek's file lists them. */
#define CASED_LETTERS                                                                                                                                                                                        \
    "[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-"                      \
    "ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼ"                                                                                                                      \
    "ℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-" \
    "𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]"

static const clf_pretokenizer llama3 = {{C "|" WORD "|\\p{N}{1,3}|" SYMBOL "|" LINES "|" SPACES}, true, true};
static const clf_pretokenizer dbrx = {{C "|" WORD "|\\p{N}{1,3}|" SYMBOL "|" LINES "|" SPACES}, false, false};
static const clf_pretokenizer qwen2 = {{C "|" WORD "|\\p{N}|" SYMBOL "|" LINES "|" SPACES}, false, false};
static const clf_pretokenizer qwen35 = {
    {C "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" LINES "|" SPACES},
    false,
    false};
static const clf_pretokenizer gpt2 = {{CLF_GPT2_PATTERN}, false, false};
static const clf_pretokenizer starcoder = {{"\\p{N}", CLF_GPT2_PATTERN}, false, false};
static const clf_pretokenizer tekken = {{CASED("") "|\\p{N}|" PATHS "|" LINES "|" SPACES}, true, true};
static const clf_pretokenizer gpt4o = {{CASED(C "?") "|\\p{N}{1,3}|" PATHS "|" LINES "|" SPACES}, false, false};
static const clf_pretokenizer tiny_aya = {
    {"\\d{1,3}(?=(?:\\d{3})*\\b)", CASED(C "?") "|\\p{N}{1,3}|" PATHS "|" LINES "|" SPACES}, false, false};
static const clf_pretokenizer falcon = {
    {"[\\p{P}\\$\\+<=>\\^~\\|`]+", CLF_GPT2_PATTERN, "[0-9][0-9][0-9]"}, false, false};
static const clf_pretokenizer deepseek_llm = {{"[\\r\\n]", "\\s?" CASED_LETTERS "+", "\\s?[!-/:-~！-／：-～‘-‟　-。]+",
                                               "\\s+$", "[一-龥ࠀ-一가-\\x{D7FF}]+", "\\p{N}+"},
                                              false,
                                              false};
static const clf_pretokenizer deepseek_coder = {
    {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", "[一-龥ࠀ-一가-\\x{D7FF}]+", "\\p{N}"}, false, false};
static const clf_pretokenizer deepseek3 = {{"\\p{N}{1,3}", IDEOGRAMS, DEEPSEEK3}, false, false};
static const clf_pretokenizer bloom = {{" ?[^(\\s|.,!?…。，、।۔،)]+"}, false, false};
static const clf_pretokenizer viking = {{" ?[^(\\s|.,!?…。，、।۔،)]+", "\\p{N}"}, false, false};
static const clf_pretokenizer superbpe = {{"\\p{N}+", "(?=(\\d{3})+(?!\\d))"}, false, false};
static const clf_pretokenizer bailing = {{"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}"
                                          "| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|" SPACES},
                                         false,
                                         false};
static const clf_pretokenizer seed_coder = {
    {C "|" WORD "|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" LINES "|" SPACES}, false, false};
static const clf_pretokenizer exaone_moe = {{C "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}| "
                                               "?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|" SPACES},
                                            false,
                                            false};
static const clf_pretokenizer minicpm5 = {
    {"\\p{N}{1,3}", C "|" WORD "|\\p{N}+|" SYMBOL "|" LINES "|" SPACES}, true, false};
/* Files from before the key existed: a guess, better than none. */
static const clf_pretokenizer other = {
    {"[\\p{P}\\$\\+<=>\\^~\\|]+", CLF_GPT2_PATTERN, "\\p{N}+", "[0-9][0-9][0-9]"}, false, false};

static const struct {
    const char *name;
    const clf_pretokenizer *pretokenizer;
} table[] = {
    {"default", &other},
    {"llama3", &llama3},
    {"llama-v3", &llama3},
    {"llama-bpe", &llama3},
    {"falcon3", &llama3},
    {"falcon-h1", &llama3},
    {"pixtral", &llama3},
    {"midm-2.0", &llama3},
    {"lfm2", &llama3},
    {"dbrx", &dbrx},
    {"smaug-bpe", &dbrx},
    {"chatglm-bpe", &dbrx},
    {"glm4", &dbrx},
    {"qwen2", &qwen2},
    {"deepseek-r1-qwen", &qwen2},
    {"kormo", &qwen2},
    {"f2llmv2", &qwen2},
    {"stablelm2", &qwen2},
    {"megrez", &qwen2},
    {"hunyuan", &qwen2},
    {"solar-open", &qwen2},
    {"grok-2", &qwen2},
    {"qwen35", &qwen35},
    {"gpt-2", &gpt2},
    {"phi-2", &gpt2},
    {"mpt", &gpt2},
    {"olmo", &gpt2},
    {"jais", &gpt2},
    {"trillion", &gpt2},
    {"granite-docling", &gpt2},
    {"gigachat", &gpt2},
    {"a.x-4.0", &gpt2},
    {"mellum", &gpt2},
    {"modern-bert", &gpt2},
    {"exaone4", &gpt2},
    {"roberta-bpe", &gpt2},
    {"jina-es", &gpt2},
    {"jina-de", &gpt2},
    {"jina-v1-en", &gpt2},
    {"jina-v2-es", &gpt2},
    {"jina-v2-de", &gpt2},
    {"jina-v2-code", &gpt2},
    {"starcoder", &starcoder},
    {"refact", &starcoder},
    {"command-r", &starcoder},
    {"smollm", &starcoder},
    {"codeshell", &starcoder},
    {"exaone", &starcoder},
    {"minerva-7b", &starcoder},
    {"mellum2", &starcoder},
    {"tekken", &tekken},
    {"gpt-4o", &gpt4o},
    {"llama4", &gpt4o},
    {"kanana2", &gpt4o},
    {"talkie", &gpt4o},
    {"minimax-m2", &gpt4o},
    {"tiny_aya", &tiny_aya},
    {"cohere2moe", &tiny_aya},
    {"falcon", &falcon},
    {"deepseek-llm", &deepseek_llm},
    {"deepseek-coder", &deepseek_coder},
    {"deepseek-v3", &deepseek3},
    {"hunyuan-dense", &deepseek3},
    {"joyai-llm", &deepseek3},
    {"hy_v4", &deepseek3},
    {"bloom", &bloom},
    {"poro-chat", &bloom},
    {"gpt3-finnish", &bloom},
    {"viking", &viking},
    {"superbpe", &superbpe},
    {"bailingmoe", &bailing},
    {"bailingmoe2", &bailing},
    {"llada-moe", &bailing},
    {"seed-coder", &seed_coder},
    {"exaone-moe", &exaone_moe},
    {"minicpm5", &minicpm5},
};

const clf_pretokenizer *clf_pretokenizer_find(const char *name, size_t length) {
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strlen(table[i].name) == length && memcmp(table[i].name, name, length) == 0) return table[i].pretokenizer;
    return NULL;
}
