#!/bin/bash
# clformer-quantize as a user runs it: quantize.sh BIN. What is refused leaves no file and says why.
set -eu
tests=$(cd "$(dirname "$0")" && pwd)
quantize=$1/clformer-quantize
model=$tests/../examples/default_model/default.gguf
work=$(mktemp -d)
trap 'rm -rf "$work" "$work".*' EXIT

fail() {
    echo "quantize.sh: $*" >&2
    exit 1
}

# refused PART ARGUMENTS...: it fails, the message has the part, and no file is there that wasn't
refused() {
    local part=$1
    shift
    ls -lA "$work" > "$work.before"
    ! "$quantize" "$@" > "$work.out" 2> "$work.err" || fail "accepted: $*"
    grep -q -- "$part" "$work.err" || fail "$*: expected '$part', got: $(cat "$work.err")"
    ls -lA "$work" > "$work.after"
    cmp -s "$work.before" "$work.after" || fail "left something behind: $*"
    rm -f "$work.before" "$work.after" "$work.out" "$work.err"
}

"$quantize" "$model" "$work/q8.gguf" --type q8_0 > "$work/report"
grep -q 'blk.0.attn_q.weight .* f16 -> q8_0 .* MiB .* bits .*error 0\.00.* dB.*cosine 0.9999' "$work/report" || fail "no line for attn_q"
grep -q 'attn_norm.weight .* exact' "$work/report" || fail "no line for a norm"
grep -q 'bits per weight' "$work/report" || fail "no totals"
[ "$(grep -A5 '^worst:' "$work/report" | grep -c ' dB')" = 5 ] || fail "not five worst"
[ "$("$quantize" -q "$model" "$work/quiet.gguf" --type q8_0 | grep -c '^\[')" = 0 ] || fail "not quiet"
cmp -s "$work/q8.gguf" "$work/quiet.gguf" || fail "two runs differ"
"$quantize" "$model" "$work/mixed.gguf" -t q8_0 -T 'blk.*.ffn_down.weight=q4_0' -T 'blk.1.*=f16' > "$work/report"
[ "$(grep -c 'ffn_down.weight .* -> q4_0' "$work/report")" -gt 1 ] || fail "no override"
grep -q 'blk.1.ffn_up.weight .* -> f16' "$work/report" || fail "no second override"
"$quantize" -q "$model" "$work/forced.gguf" -t tq2_0 --force > "$work/report"
rm "$work/report"

head -c 8000 "$tests/quantize.c" > "$work.text"
"$1/clformer-imatrix" -m "$model" -f "$work.text" -o "$work/importance.gguf" -c 256 > /dev/null
"$quantize" "$model" "$work/judged.gguf" -t q4_k_m -i "$work/importance.gguf" --eval "$work.text" > "$work/report"
for figure in '^perplexity  *[0-9.]* ± ' '^KL divergence .* 99.9 %' '^same top .* ± ' '^perplexity ÷ base'; do
    grep -q "$figure" "$work/report" || fail "no $figure"
done
rm "$work/report"

refused 'nowhere' "$model" "$work/x.gguf" -t q4_0 --eval "$work/nowhere"
refused 'expected one of f32' "$model" "$work/x.gguf" -t q4_9
refused 'a file of the input' "$work/q8.gguf" "$work/q8.gguf" -t q4_0
ln -s "$work/q8.gguf" "$work/link.gguf"
refused 'a file of the input' "$work/q8.gguf" "$work/link.gguf" -t q4_0
refused 'matches no matrix' "$model" "$work/x.gguf" -t q4_0 -T 'nothing=q8_0'
refused 'PATTERN=DTYPE' "$model" "$work/x.gguf" -t q4_0 -T 'output.weight=q9'
refused 'NAME.gguf' "$model" "$work/x" -t q4_0
refused 'nowhere' "$work/nowhere.gguf" "$work/x.gguf" -t q4_0
refused '--type' "$model" "$work/x.gguf"
refused 'importance' "$model" "$work/x.gguf" -t q4_0 -i "$tests/quantize.sh"
head -c 1000000 "$model" > "$work/short.gguf"
refused 'short.gguf' "$work/short.gguf" "$work/x.gguf" -t q4_0
CLFORMER_MEM_LIMIT=1M refused 'memory' "$model" "$work/x.gguf" -t q4_0
(ulimit -f 400; trap '' XFSZ; refused 'write' "$model" "$work/x.gguf" -t q8_0)
echo "quantize.sh: passed"
