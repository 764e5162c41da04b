#!/usr/bin/env python3
"""What quantising costs the default model, for each type, plain and with an importance matrix from other stories: size;
perplexity of whole stories of a seed that it wasn't trained on, from the file's weights by numpy (held_out.py); and, by
clformer-perplexity over chunks of such stories, perplexity and divergence from the model as it is. Chunks begin amid
stories, which the model never saw, so that their perplexity is higher. A table in Markdown.

    python3 bench/quantised.py [BIN [TYPE ...]]

BIN (build/bin) has clformer-quantize, clformer-imatrix and clformer-perplexity. A type may have options behind it:
"q4_0 --pure"."""
import json, math, os, re, subprocess, sys, tempfile

TYPES = ["q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_nl", "q4_0", "mxfp4", "q3_k_m", "q2_k"]
TEXT_SEED, CALIBRATION_SEED, STORIES = 990001, 880001, 60
root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
binaries = sys.argv[1] if len(sys.argv) > 1 else os.path.join(root, "build", "bin")
default = os.path.join(root, "examples", "default_model")
model = os.path.join(default, "default.gguf")
base = None


def run(program, *args):
    done = subprocess.run([os.path.join(binaries, program), *args], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def stories(path, seed):
    with open(path, "w") as out:
        subprocess.run([sys.executable, os.path.join(default, "stories.py"), "--seed", str(seed), "--count", str(STORIES)], check=True, stdout=out)


def whole_stories(path):
    out = subprocess.run([sys.executable, os.path.join(default, "held_out.py"), path], capture_output=True, text=True, check=True).stdout
    return math.exp(float(re.search(r"loss ([0-9.]+)", out)[1]))


def row(name, path, text):
    global base
    whole = whole_stories(path)
    base = base or whole
    e = json.loads(run("clformer-perplexity", "--model", path, "--base", model, "--file", text, "--kv-dtype", "f32", "--json"))
    change, error = e["nll_difference"]["mean"], e["nll_difference"]["error"]
    print(f"| {name} | {os.path.getsize(path) / 1e6:.2f} | {whole:.4f} | {100 * (whole / base - 1):+.2f} | {e['perplexity']:.4f} | {100 * change:+.3f} ± {100 * error:.3f} | {e['kl']['mean']:.2e} ± "
          f"{e['kl']['error']:.0e} | {e['kl_999']:.3f} | {100 * e['same_top']['mean']:.2f} ± {100 * e['same_top']['error']:.2f} |", flush=True)


with tempfile.TemporaryDirectory() as work:
    text, calibration, matrix, small = (os.path.join(work, n) for n in ("text", "calibration", "imatrix.gguf", "small.gguf"))
    stories(text, TEXT_SEED)
    stories(calibration, CALIBRATION_SEED)
    run("clformer-imatrix", "--model", model, "--file", calibration, "--output", matrix)
    print("| type | MB | stories | change, % | chunks | change, % | KL divergence | 99.9 % below | same top, % |\n|---|---|---|---|---|---|---|---|---|", flush=True)
    row("as it is", model, text)
    for kind in sys.argv[2:] or TYPES:
        for name, extra in ((kind, []), (kind + ", importance", ["--importance", matrix])):
            run("clformer-quantize", model, small, "--quiet", *extra, "--type", *kind.split())
            row(name, small, text)
