#!/usr/bin/env bash
# generate.sh: clformer-generate on the embedded model: prompts from files are taken as they are, byte by byte.
# usage: tests/generate.sh FOLDER-OF-PROGRAMS
set -uo pipefail
tests=$(cd "$(dirname "$0")" && pwd)
generate=$(realpath "$1")/clformer-generate tokenize=$(realpath "$1")/clformer-tokenize
export CLFORMER_NUM_THREADS=1 CLFORMER_DEVICE=cpu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failed=0
check() { # NAME COMMAND...
    local name=$1
    shift
    if "$@"; then echo "ok   $name"; else echo "FAIL $name"; failed=1; fi
}
# begins FILE: the output is the prompt, and what follows it
begins() { cmp -s "$1" <(head -c "$(stat -c %s "$1")" out); }
continued() { # NAME FILE
    "$generate" --file "$2" --tokens 2 --temperature 0 >out 2>err
    check "$1" begins "$2"
}
printf 'Once upon a time\xff there was\n' >bytes
printf 'Once upon a time\0 there was\n' >zero
continued byte-255 bytes
continued byte-0 zero
: >empty
check empty eval '"$generate" --file empty --tokens 2 --temperature 0 >out 2>err'
"$generate" --file - --tokens 2 --temperature 0 <zero >piped
"$generate" --file zero --tokens 2 --temperature 0 >out
check stdin cmp -s piped out
check json eval '"$generate" --file zero --tokens 2 --temperature 0 --json | grep -q "time.u0000 there was"'
check refuses-json eval '! "$generate" --file bytes --tokens 2 --json 2>err && grep -q UTF-8 err'
check no-file eval '! "$generate" --file nothing 2>err && grep -q "nothing: No such file" err'
check folder eval '! "$generate" --file . 2>err && grep -q "directory" err'
model=$tests/../examples/default_model/default.gguf
"$tokenize" --model "$model" --ids --file zero >ids
check tokenize-file cmp -s ids <("$tokenize" --model "$model" --ids <zero)
check tokenize-no-file eval '! "$tokenize" --model "$model" --file nothing 2>err && grep -q "nothing: No such file" err'
exit $failed
