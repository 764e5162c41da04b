#!/usr/bin/env bash
# examples.sh: every example runs, in a pipe, with sane exit codes.
set -euo pipefail
cd "$(dirname "$0")/.."

refuses() { # set -e doesn't mind a command behind !
    if "$@" >/dev/null 2>&1; then echo "accepted: $*" >&2; exit 1; fi
}

bin=build/bin
for program in "$bin"/clformer-*; do
    "$program" --help >/dev/null
    refuses "$program" --no-such-option
done
$bin/clformer-info
$bin/clformer-info --placement
$bin/clformer-info --model tests/golden/models/llama --ctx 64
$bin/clformer-generate --prompt "Once upon a time" --tokens 20 --temperature 0 | grep -q '^Once upon a time'
$bin/clformer-generate --prompt "Once upon a time" --tokens 20 --seed 3 --json | python3 -m json.tool >/dev/null
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
golden=tests/golden
$bin/clformer-merge $golden/gguf/llama.gguf $golden/adapters/llama "$work/merged.gguf"
$bin/clformer-merge --dtype f16 $golden/models/llama $golden/gguf/llama-adapter.gguf "$work/merged"
$bin/clformer-merge --adapter $golden/gguf/llama.gguf $golden/gguf/llama-adapter.gguf "$work/adapter"
$bin/clformer-info --model "$work/merged" | grep -q f16
refuses $bin/clformer-merge $golden/models/llama-wide $golden/adapters/llama "$work/wrong"
refuses $bin/clformer-generate --model /no/such/file --prompt x --tokens 1
$bin/clformer-finetune --dry-run | grep -q 'tokens/s'
refuses $bin/clformer-finetune --data /no/such/file --output "$(mktemp -d)"
model=examples/default_model/default.gguf
$bin/clformer-finetune_loop examples/finetune.jsonl $model 3 | grep -q '^step   3'
$bin/clformer-mixed_precision examples/finetune.jsonl $model 3 | grep -q '^f16'
$bin/clformer-ternary_finetune examples/finetune.jsonl "$work/ternary.gguf" $model 3 | grep -q '^step   3'
$bin/clformer-info --model "$work/ternary.gguf" | grep -q tq2_0
$bin/clformer-memory | grep -q 'refused: memory limit'
$bin/clformer-simple_attention --length 300 --heads 4 --kv-heads 1
refuses $bin/clformer-simple_attention --kv-heads 3
echo "Once upon a time" | $bin/clformer-tokenize --model tests/golden/tokenizers/llama3-bpe --count
if [ -f build/lib/clformer-opencl.so ] && $bin/clformer-info | grep -q '^ *opencl:0'; then
    CLFORMER_CACHE_DIR=$(mktemp -d) $bin/clformer-tune --head-dim 64 --length 64 --most 1 | grep -q 'attention backward'
fi
$bin/clformer-perplexity --file examples/finetune.jsonl --context 64 --chunks 2 | grep -q '^perplexity'
$bin/clformer-imatrix --file examples/finetune.jsonl --context 64 --chunks 2 --output "$work/imatrix.gguf"
$bin/clformer-quantize --type q4_k_m --importance "$work/imatrix.gguf" --eval README.md $model "$work/small.gguf" | grep '^KL divergence' >/dev/null
$bin/clformer-quantize --type q8_0 --quiet $golden/models/llama "$work/from_folder.gguf" | grep "rows aren't whole blocks" >/dev/null
$bin/clformer-merge $golden/models/llama $golden/adapters/llama "$work/merged_folder.gguf"
LC_ALL=C sed '0,/<|begin|>/s//<|beg\xffn|>/' $model >"$work/odd.gguf" # a token that isn't UTF-8
$bin/clformer-finetune --model "$work/odd.gguf" --data examples/finetune.jsonl --steps 1 --context 32 --accumulate 1 --output "$work/odd" >/dev/null 2>&1
$bin/clformer-merge "$work/odd.gguf" "$work/odd/adapter" "$work/odd_folder" 2>&1 | grep -q 'gets no tokenizer: tokenizer.json: token 0'
[ -z "$($bin/clformer-merge $model "$work/odd/adapter" "$work/folder" 2>&1)" ]
$bin/clformer-simple_quantize $model "$work/simple.gguf" examples/finetune.jsonl | grep '^perplexity' >/dev/null
refuses $bin/clformer-simple_quantize $model "$work/simple.gguf" /no/such/file
refuses $bin/clformer-quantize --type tq2_0 $model "$work/refused.gguf"
