#!/usr/bin/env bash
# train.sh [DIR [OPTION...]]: makes a default model by clformer itself, DIR/run/model.gguf: random weights, a tokenizer and stories (start.py), all weights trained on
# them (clformer-finetune), the loss on stories not trained on (held_out.py). DIR (default: default-model) takes what lies between.
# BUILD is the build with the programs (default: ../../build), PYTHON an interpreter with numpy, tokenizers and gguf. A run that was
# stopped goes on. A device and a number of threads give the same file again. OPTIONs go to clformer-finetune, after those here:
# train.sh ternary --ternary --learning-rate 5e-3 --merge makes a ternary one.
set -euo pipefail
cd "$(dirname "$0")"
dir=${1:-default-model} build=${BUILD:-../../build} python=${PYTHON:-python3}
[ -e "$dir/start.gguf" ] || "$python" start.py --out "$dir"
"$build/bin/clformer-finetune" --model "$dir/start.gguf" --full --data "$dir/stories.jsonl" --output "$dir/run" --resume \
    --context 512 --batch 4 --accumulate 1 --steps 3740 --learning-rate 3e-3 --min-rate 0.02 --warmup 100 --schedule cosine \
    --beta2 0.97 --weight-decay 0.1 --clip 1 --seed 1 --threads 2 --save-every 400 --merge=f16 "${@:2}"
"$python" held_out.py "$dir/run/model.gguf"
