#!/usr/bin/env bash
# finetune.sh: clformer-finetune as a user runs it, on the embedded model: what bad input does, that a run which was stopped, killed or out of disk ends
# with the bits of one which wasn't, and that another style is learnt.
# usage: tests/finetune.sh FOLDER-OF-PROGRAMS [how often a run is killed, default 5]
set -uo pipefail
tests=$(cd "$(dirname "$0")" && pwd)
finetune=$(realpath "$1")/clformer-finetune generate=$(realpath "$1")/clformer-generate kills=${2:-5}
[ -x "$finetune" ] && [ -x "$generate" ] || { echo "no programs in $1"; exit 1; }
lines=$tests/../examples/finetune.jsonl
export CLFORMER_NUM_THREADS=1 CLFORMER_DEVICE=cpu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failed=0 passed=0

ok() { # ok NAME COMMAND...: it must succeed
    local name=$1
    shift
    if "$@"; then passed=$((passed + 1)); else echo "FAIL $name"; failed=$((failed + 1)); fi
}
says() { # says NAME CODE PATTERN ARGS...: the program ends with CODE, and a line of what it says matches
    local name=$1 code=$2 pattern=$3 got
    shift 3
    "$finetune" "$@" >log 2>&1
    got=$?
    if [ $got = "$code" ] && grep -qE -- "$pattern" log; then
        passed=$((passed + 1))
    else
        echo "FAIL $name: expected exit $code and '$pattern', got exit $got and:"
        sed 's/^/    /' log
        failed=$((failed + 1))
    fi
}
# what a run leaves, but for times and memory
metrics() { sed 's/,"tokens_per_second".*//' "$1/metrics.jsonl"; }
same() { cmp "$1/adapter/adapter_model.safetensors" "$2/adapter/adapter_model.safetensors" && diff <(metrics "$1") <(metrics "$2"); }
checkpoints() { find "$1" -name 'checkpoint-*.safetensors' | sort; }

head -12 "$lines" >data.jsonl
# everything that has a state: dropout, accumulation, packing, 8-bit state, evaluation, a dynamic scale
settings=(--steps 12 --context 48 --accumulate 2 --lora-rank 16 --lora-dropout 0.1 --learning-rate 3e-3 --optimizer adamw8bit
    --loss-scale dynamic --eval 0.2 --eval-every 4 --save-every 3)
run=("${settings[@]}" --data data.jsonl)

# the command line
says no-data 64 'expected a file to learn from'
says offload-alone 64 'without --checkpointing' --dry-run --offload
says bad-number 64 "steps: expected a whole number from 1 to" "${run[@]}" --steps many
says full-and-lora 64 'full and --ternary train every weight' --data data.jsonl --full --lora-rank 3
says ternary-and-lora 64 'full and --ternary train every weight' --data data.jsonl --ternary --lora-rank 3
says ternary-and-nf4 64 'no --quantize' --data data.jsonl --ternary --quantize nf4
says ternary-and-dpo 64 'no --full, --ternary or --whole' --data data.jsonl --ternary --dpo 0.1
says dpo-odd-batch 64 'expected an even number' --data data.jsonl --dpo 0.1 --batch 3
printf '{"steps": 1, "data": ["nothing.jsonl"], "context": 32, "pack": false}' >config.json
says config 1 'nothing.jsonl: No such file' --config config.json --output c
says command-line-wins 0 'the adapter is in c' --config config.json --data data.jsonl --output c
printf '{"steps": 1,' >config.json
says config-syntax 1 'config.json: line 1' --config config.json
printf '{"stepz": 1}' >config.json
says config-unknown 64 "unrecognized option '--stepz=1'" --config config.json

# data
: >empty.jsonl
says empty-data 1 'expected samples, got an empty file' --data empty.jsonl --output bad
says no-such-data 1 'nothing.jsonl: No such file' --data nothing.jsonl --output bad
printf '{"prompt": "Once", "completion": ""}\n{"prompt": "Twice", "completion": ""}\n' >masked.jsonl
says all-masked 1 'no sample has a target' --data masked.jsonl --output bad
(head -1 data.jsonl && echo '{"text": 5}') >bad.jsonl
says bad-line 1 'bad.jsonl: line 2' --data bad.jsonl --output bad
says bad-line-skipped 0 '1 lines can.t be read and are left out' --data bad.jsonl --bad-lines skip --steps 1 --context 32 --output skip
head -1 data.jsonl >one.jsonl
says one-line 0 'the adapter is in one' --data one.jsonl --steps 1 --context 32 --output one
says one-line-evaluated 1 'expected two samples at least' --data one.jsonl --eval 0.5 --output bad
says long-samples 0 '12 samples are longer than 32 tokens \(the longest: [0-9]+\): [0-9]+ tokens are cut off' --data data.jsonl --steps 1 --context 32 --output long

# models and adapters
says no-such-model 1 'No such file' --data data.jsonl --model nothing.gguf --output bad
says adapter-of-another-model 1 'adapter' --data data.jsonl --adapter "$tests/golden/train/llama-lora/adapter_start" --output bad

# memory
says dry-run 0 'about [0-9]+ tokens/s' --dry-run --context 64
trained() { "$finetune" --dry-run --context 64 "$@" | grep -oE '[0-9]+ parameters are trained' || echo none; }
"$finetune" --data data.jsonl --steps 1 --context 32 --lora-rank 3 --output thin >log 2>&1 || cat log
ok dry-run-adapter [ "$(trained --adapter thin/adapter)" = "$(trained --lora-rank 3 | grep -v none)" ]
says offload-on-cpu 1 'offload: expected a device with memory of its own' --dry-run --device cpu --checkpointing 1 --offload
says dry-run-too-large 1 'this would fit: --batch 1 --accumulate 32 --checkpointing 1' --dry-run --batch 8 --memory-limit 16M
says memory-limit 1 'this would fit:' --data data.jsonl --batch 8 --memory-limit 24M --output bad

# a run, and the same in parts
says whole 0 'the adapter is in whole/adapter' "${run[@]}" --output whole
ok three-are-kept [ "$(checkpoints whole | wc -l)" = 3 ]
ok metrics-of-each-step [ "$(grep -c '"loss"' whole/metrics.jsonl)" = 12 ]
ok metrics-of-evaluations [ "$(grep -c '"eval_loss"' whole/metrics.jsonl)" = 4 ]
if command -v gnuplot >/dev/null; then ok loss-curve grep -q '</svg>' whole/loss.svg; else echo "skip loss-curve: gnuplot is not installed"; fi
says output-in-use 1 'it has checkpoints already' "${run[@]}" --output whole
exec 9>>whole/metrics.jsonl
flock 9
says one-run-at-a-time 1 'another run is writing there' "${run[@]}" --output whole --resume
exec 9>&-

# parts FOLDER: the same run up to its third checkpoint
parts() { rm -rf "$1" && cp -r whole "$1" && rm -rf "$1/adapter"; }
parts again
rm again/checkpoint-000012.safetensors again/checkpoint-000009.safetensors
says resume 0 'going on after step 6' "${run[@]}" --output again --resume
ok resume-is-equal same whole again
parts config
rm config/checkpoint-000012.safetensors
sed -i 's/"output": "whole"/"output": "config"/' config/config.json
says resume-from-config 0 'going on after step 9' --config config/config.json --resume
ok resume-from-config-is-equal same whole config
parts named
says resume-named 0 'set aside' "${run[@]}" --output named --resume named/checkpoint-000006.safetensors
ok resume-named-is-equal same whole named
says resume-nothing 0 'no checkpoint in fresh: from the beginning' "${run[@]}" --output fresh --resume
ok resume-nothing-is-equal same whole fresh

# checkpoints that don't fit
parts other
says other-options 1 'it was made with --lora-rank 16, this run has 8' "${run[@]}" --lora-rank 8 --output other --resume
says other-rate 1 'it was made with --learning-rate 0.003, this run has 0.001' "${run[@]}" --learning-rate 1e-3 --output other --resume
tail -12 "$lines" >others.jsonl
says other-data 1 'of other data' "${settings[@]}" --data others.jsonl --output other --resume=whole/checkpoint-000012.safetensors
says no-checkpoint 1 'no checkpoint|metadata' "${run[@]}" --output else --resume=whole/adapter/adapter_model.safetensors
says more-steps 0 'was of 12 steps, this one is of 14' "${run[@]}" --steps 14 --output other --resume

# damaged checkpoints
parts cut
truncate -s -5 cut/checkpoint-000012.safetensors
cp cut/metrics.jsonl before
says truncated 1 '000012.*the one before it is good: --resume=cut/checkpoint-000009.safetensors' "${run[@]}" --output cut --resume
ok nothing-is-lost cmp cut/metrics.jsonl before
says truncated-auto 0 'going on after step 9' "${run[@]}" --output cut --resume=auto
ok truncated-is-equal same whole cut
parts flip
size=$(stat -c %s flip/checkpoint-000012.safetensors)
byte=$(od -An -tu1 -j$((size / 2)) -N1 flip/checkpoint-000012.safetensors)
printf "\\x$(printf %02x $((byte ^ 16)))" | dd of=flip/checkpoint-000012.safetensors bs=1 seek=$((size / 2)) conv=notrunc status=none
says bit-flipped 1 'checksum is wrong.*the one before it is good' "${run[@]}" --output flip --resume
rm flip/checkpoint-00000*
says none-is-good 1 'there is no older one that is good' "${run[@]}" --output flip --resume

# not a number
says not-finite 1 '(is -?(nan|inf)|gradient of .* is not finite).*the last good checkpoint is nan/checkpoint-' --data data.jsonl --steps 60 --full --context 32 --save-every 1 \
    --optimizer sgd --clip 0 --learning-rate 1000 --warmup 30 --output nan
ok not-finite-is-named grep -qE "(gradient of|is -?(nan|inf):) [a-z]+[._]" log

# other ways to train: half of a run, then the rest
way=0
while read -r -a options; do
    way=$((way + 1))
    says "way-$way" 0 'is in way-' --data data.jsonl --steps 4 --context 48 --learning-rate 1e-3 --save-every 2 "${options[@]}" --output way-$way
    cp -r way-$way half-$way
    rm -r half-$way/checkpoint-000004.safetensors half-$way/adapter half-$way/model.gguf 2>/dev/null
    says "way-$way-resumes" 0 'going on after step 2' --config half-$way/config.json --resume --output half-$way
    ok "way-$way-is-equal: ${options[*]}" diff -r -x metrics.jsonl -x config.json -x loss.svg -x 'checkpoint-*' way-$way half-$way
    ok "way-$way-has-equal-metrics" diff <(metrics way-$way) <(metrics half-$way)
done <<'WAYS'
--full --precision bf16 --optimizer adamw8bit
--ternary --checkpointing 1
--precision f16 --lora-alpha 32 --rslora
--quantize nf4 --targets q,v --weight-decay 0.1
--optimizer lion --no-pack --batch 2 --schedule linear --min-rate 0.1
--optimizer sgd --clip 0 --schedule constant --warmup 2 --loss-scale 128
--checkpointing sqrt --seed 7 --merge=f32
WAYS

# stopped
stop() { # stop FOLDER SIGNAL SECONDS: the run gets the signal after so long; its exit status
    "$finetune" "${run[@]}" --output "$1" --resume >log 2>&1 &
    local pid=$!
    sleep "$3"
    kill -s "$2" $pid 2>/dev/null
    wait $pid 2>/dev/null
}
start=$(date +%s%N)
"$finetune" "${run[@]}" --output timed >log 2>&1
millis=$((($(date +%s%N) - start) / 1000000))
# a moment within the run, in seconds
moment() { printf '%d.%03d' $(((10#$1) / 1000)) $(((10#$1) % 1000)); }
for signal in INT TERM; do
    code=0
    for _ in 1 2 3 4 5 6; do # until it wasn't over before
        rm -rf "stopped-$signal"
        stop "stopped-$signal" $signal "$(moment $((millis / 3 + RANDOM % (millis / 3 + 1))))"
        code=$?
        [ $code = 0 ] || break
    done
    ok "$signal-ends-with-130" [ $code = 130 ]
    ok "$signal-says-how-to-go-on" grep -q "interrupted after step .* --config stopped-$signal/config.json --resume" log
    ok "$signal-leaves-a-checkpoint" [ -n "$(checkpoints "stopped-$signal")" ]
    says "$signal-resumes" 0 'the adapter is in' --config "stopped-$signal/config.json" --resume
    ok "$signal-is-equal" same whole "stopped-$signal"
done

# killed at random moments, again and again; each time it is over it must be the same
RANDOM=${SEED:-$$}
killed=0 ended=0
while [ $killed -lt "$kills" ]; do
    stop killed KILL "$(moment $((RANDOM % (millis + 1))))"
    case $? in
        137) killed=$((killed + 1)) ;;
        0) ended=$((ended + 1)); ok "killed-$killed-is-equal" same whole killed; rm -rf killed ;;
        *) ok "resume after $killed kills: $(tail -1 log)" false; break ;;
    esac
done
says "killed-resumes" 0 'the adapter is in' "${run[@]}" --output killed --resume
ok "killed-is-equal" same whole killed
echo "killed $killed times, ended $((ended + 1)) times"

# a full disk, by the largest file in KiB that may be: writes of options, of metrics, of checkpoints fail. The checkpoint before survives, and the run
# goes on from it. Not 0: LLVM's OpenMP needs a KiB of shared memory, and dies without
for limit in 1 2 100 900; do
    parts full
    rm full/checkpoint-000012.safetensors full/checkpoint-000009.safetensors
    (ulimit -f $limit && exec "$finetune" "${run[@]}" --output full --resume) 2>&1 | cat >log
    ok "full-disk-$limit-fails" [ "${PIPESTATUS[0]}" = 1 ]
    ok "full-disk-$limit-says-so: $(tail -1 log)" grep -q 'File too large\|it can.t be written' log
    ok "full-disk-$limit-leaves-nothing" [ -z "$(find full -name '*.tmp')" ]
    says "full-disk-$limit-resumes" 0 'going on after step 6' "${run[@]}" --output full --resume
    ok "full-disk-$limit-is-equal" same whole full
done
small_disk() { # the same on a file system of 3 MiB, where a namespace may have one: its log
    mkdir -p disk
    unshare -rm bash -c 'mount -t tmpfs -o size=3m none disk || exit 77
        "$@" --output disk/run --keep 99 && exit 1
        rm disk/run/checkpoint-000001* && "$@" --output disk/run --keep 1 --resume' bash "$finetune" "${run[@]}" --save-every 1 >log 2>&1
}
small_disk
code=$?
if [ $code = 0 ]; then
    ok small-disk grep -q 'No space left on device; the last good checkpoint is disk/run/checkpoint-' log
elif grep -q 'Operation not permitted\|permission denied\|unshare failed' log; then
    echo "skip small-disk: no mount here"
else
    ok "small-disk: exit $code: $(tail -3 log)" false
fi

# preferences
printf '{"prompt": "Once upon a time", "chosen": ", arr, there sailed a ship.", "rejected": ", there was a girl."}\n%.0s' 1 2 3 4 >pairs.jsonl
says preferences 0 'the adapter is in dpo' --data pairs.jsonl --dpo 0.1 --steps 10 --accumulate 1 --context 32 --learning-rate 5e-3 --output dpo
ok preferences-are-learnt [ "$(tail -1 dpo/metrics.jsonl | sed 's/.*"correct":\([0-9]*\).*/\1/')" = 1 ]

says preferences-evaluated 0 'step 0: evaluation loss 0.6931, margin 0.0000, 0.0 % of 2 pairs correct' --data pairs.jsonl --dpo 0.1 --steps 10 --accumulate 1 \
    --context 32 --learning-rate 5e-3 --eval 0.5 --eval-every 5 --save-every 5 --output dpo-eval
ok preferences-are-told grep -qE 'step 10: evaluation loss 0\.[0-6][0-9]*, margin [0-9]+\.[0-9]+, 100.0 % of 2 pairs correct' log
# all pairs are the same: what an evaluation says after step 5 is what step 6 finds before its update
figures() { grep "\"step\":$1,$2" dpo-eval/metrics.jsonl | grep -oE "\"$3\":[0-9.e-]+" | cut -d: -f2; }
ok preferences-evaluated-as-learnt awk -v a="$(figures 5 '"eval' eval_loss)" -v b="$(figures 6 '"epoch' loss)" -v c="$(figures 5 '"eval' eval_margin)" \
    -v d="$(figures 6 '"epoch' margin)" 'BEGIN { exit !(a > 0 && a / b - 1 < 1e-6 && b / a - 1 < 1e-6 && c > 0 && c / d - 1 < 1e-5 && d / c - 1 < 1e-5) }'
rm -r dpo-eval/adapter dpo-eval/checkpoint-000010.safetensors
cp dpo-eval/metrics.jsonl dpo-all.jsonl
says preferences-resume 0 'going on after step 5' --config dpo-eval/config.json --resume
ok preferences-resume-is-equal diff <(sed 's/,"tokens_per_second".*//' dpo-all.jsonl) <(metrics dpo-eval)

# another style
tell() { "$generate" --prompt 'Once upon a time' --temperature 0 --tokens 60 "$@"; }
says style 0 'the adapter is in style' --data "$lines" --steps 120 --context 128 --accumulate 2 --learning-rate 1e-2 --output style
loss=$(tail -1 style/metrics.jsonl | sed 's/.*"loss":\([0-9.]*\).*/\1/')
echo "loss after 120 steps on 40 lines: $loss"
ok style-loss awk -v loss="$loss" 'BEGIN { exit !(loss < 1.5) }'
ok style-before eval '! tell | grep -q arr'
ok style-after eval 'tell --adapter style/adapter | grep -q "^Once upon a time, arr, there sailed"'
says merged 0 'the model is in style/model.gguf' --config style/config.json --resume --merge
says other-model 1 'of another model' "${run[@]}" --model style/model.gguf --output else --resume=whole/checkpoint-000012.safetensors
cp style/model.gguf nan.gguf
printf '\377\377' | dd of=nan.gguf bs=1 seek=3000000 conv=notrunc status=none
says model-not-finite 1 "the loss of step 1 is -?nan: [a-z]+[._].* holds a value that isn't finite" "${run[@]}" --model nan.gguf --output fresh-nan
ok merged-tells-the-same eval '[ "$(tell --adapter style/adapter | head -c 120)" = "$(tell --model style/model.gguf | head -c 120)" ]'

echo "$passed passed, $failed failed"
[ $failed = 0 ]
