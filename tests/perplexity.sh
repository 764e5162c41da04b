#!/usr/bin/env bash
# perplexity.sh: clformer-perplexity and clformer-imatrix as a user runs them, on the embedded model: figures, JSON, what bad input does.
# usage: tests/perplexity.sh FOLDER-OF-PROGRAMS
set -uo pipefail
tests=$(cd "$(dirname "$0")" && pwd)
perplexity=$(realpath "$1")/clformer-perplexity imatrix=$(realpath "$1")/clformer-imatrix quantize=$(realpath "$1")/clformer-quantize
model=$tests/../examples/default_model/default.gguf
export CLFORMER_NUM_THREADS=1 CLFORMER_DEVICE=cpu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
python3 "$tests/../examples/default_model/stories.py" --seed 990001 --count 6 >text || exit 77
failed=0
# says NAME STATUS PATTERN COMMAND...: what it prints and how it ends
says() {
    local name=$1 status=$2 pattern=$3
    shift 3
    "$@" >log 2>&1
    local got=$?
    if [ $got = "$status" ] && grep -qE "$pattern" log; then echo "ok   $name"; else
        echo "FAIL $name: status $got, expected $status and '$pattern'"; cat log; failed=1
    fi
}
says figures 0 '^perplexity +[1-9]\.[0-9]{4} ± 0\.' "$perplexity" --file text --context 128
says running 0 '^\[1\] [1-9]\.' "$perplexity" --file text --context 128 --chunks 2
says chunks 0 '^126 tokens judged in 2 chunks' "$perplexity" --file text --context 128 --chunks 2
says itself 0 'KL divergence +0\.000000 ± 0\.000000' "$perplexity" --file text --context 128 --chunks 2 --base "$model"
says json 0 '"kl_999": 0\.0' "$perplexity" --file text --context 128 --chunks 2 --base "$model" --json
python3 -m json.tool log >/dev/null || { echo "FAIL json is JSON"; failed=1; }
says from-stdin 0 'tokens judged' "$perplexity" --file - --context 128 --chunks 1 <text
says too-short 1 'at least two chunks of 4096 tokens' "$perplexity" --file text --context 4096
says no-file 1 'nothing: No such file' "$perplexity" --file nothing
says no-text 64 'file: expected a text' "$perplexity"
says no-base 1 'nothing.gguf: .*No such file' "$perplexity" --file text --base nothing.gguf
says other-vocabulary 1 "expected the model's vocabulary" "$perplexity" --file text --context 128 --base "$tests/golden/gguf/llama.gguf"
says no-tokenizer 1 'no tokenizer' "$perplexity" --file text --model "$tests/golden/gguf/llama.gguf"
says no-dtype 64 'no dtype' "$perplexity" --file text --kv-dtype q9

says imatrix 0 'im.gguf: 3 chunks of 128 tokens' "$imatrix" --file text --context 128 --chunks 3 --output im.gguf
"$quantize" "$model" small.gguf --type q4_0 --pure --quiet >log 2>&1 || { echo "FAIL quantize"; cat log; failed=1; }
says smaller-is-other 0 'KL divergence +0\.0*[1-9]' "$perplexity" --model small.gguf --base "$model" --file text --context 128
"$quantize" "$model" weighed.gguf --type q4_0 --pure --quiet --importance im.gguf >log 2>&1 || { echo "FAIL quantize --importance"; cat log; failed=1; }
! cmp -s small.gguf weighed.gguf || { echo "FAIL --importance changes nothing"; failed=1; }
says imatrix-too-short 1 'at least a chunk of 100000 tokens' "$imatrix" --file text --context 100000 --output no.gguf
says imatrix-nowhere 1 'No such file' "$imatrix" --file text --context 128 --chunks 1 --output no/such/im.gguf
says imatrix-no-output 64 'expected --file and --output' "$imatrix" --file text
[ ! -e no.gguf ] || { echo "FAIL no.gguf is there"; failed=1; }
exit $failed
