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
#define IDEOGRAMS "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+"
#define DEEPSEEK3                                                                                                      \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"                \
    "| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* Letters with case (L&, less modifier letters), as DeepSeek's file lists them. */
#define CASED_LETTERS                                                                                                  \
    "[A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{293}"                   \
    "\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}\\x{388}-\\x{38A}"             \
    "\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}"                    \
    "\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}"                  \
    "\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}"                  \
    "\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}"                             \
    "\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}"                            \
    "\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}"                  \
    "\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}"                    \
    "\\x{2126}\\x{2128}\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}"                             \
    "\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}"                             \
    "\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}"                   \
    "\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}"                  \
    "\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}"                                 \
    "\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}"                             \
    "\\x{1E900}-\\x{1E943}]"

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
static const clf_pretokenizer deepseek_llm = {
    {"[\\r\\n]", "\\s?" CASED_LETTERS "+",
     "\\s?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]+", "\\s+$",
     "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+", "\\p{N}+"},
    false,
    false};
static const clf_pretokenizer deepseek_coder = {
    {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+", "\\p{N}"},
    false,
    false};
static const clf_pretokenizer deepseek3 = {{"\\p{N}{1,3}", IDEOGRAMS, DEEPSEEK3}, false, false};
static const clf_pretokenizer bloom = {
    {" ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+"}, false, false};
static const clf_pretokenizer viking = {
    {" ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+", "\\p{N}"}, false, false};
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

const char *clf_pretokenizer_name(int index) {
    return index >= 0 && (size_t)index < sizeof table / sizeof *table ? table[index].name : NULL;
}
