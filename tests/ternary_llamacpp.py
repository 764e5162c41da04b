#!/usr/bin/env python3
"""A ternary model that clformer trained and wrote, in llama.cpp: python3 ternary_llamacpp.py BIN DATA.jsonl [STEPS]

BIN has clformer-finetune and clformer-generate, whose embedded model is trained for STEPS steps and written in TQ2_0, and once more in F32. The matrices
of the first file must be γ·{-1, 0, 1}, one γ each, and those of the second the same numbers. llama.cpp must load both; its logits of the first, for which
it rounds activations to int8, are within 2e-2 (rms-relative) of those of the second, and there its greedy tokens are clformer's. Ends with 77 where the
packages are missing."""
import json, os, subprocess, sys, tempfile

try:
    import gguf
    import numpy as np
    from llama_cpp import Llama
except ImportError as e:
    print("skipped:", e)
    sys.exit(77)

binaries, data, steps = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "60"
PROMPT, TOKENS = "Once upon a time", 24
work = tempfile.TemporaryDirectory()
run = os.path.join(work.name, "run")


def program(name, *args):
    return subprocess.run([os.path.join(binaries, name), *args], check=True, capture_output=True, text=True).stdout


def logits(path):
    llm = Llama(path, n_ctx=256, n_threads=1, verbose=False, type_k=0, type_v=0, logits_all=True)
    ids = llm.tokenize((PROMPT + ", there was a little girl named Emma who lived in a village.").encode(), add_bos=True)
    llm.eval(ids)
    rows = np.array(llm.scores[: len(ids)], np.float64)
    out = []
    start = llm.tokenize(PROMPT.encode(), add_bos=True)
    llm.reset()
    for token in llm.generate(start, temp=0, top_k=1):
        if len(out) == TOKENS or token == llm.token_eos():
            break
        out.append(token)
    return rows, llm.detokenize(start + out).decode().removeprefix(PROMPT)


def of_clformer(path):
    return json.loads(program("clformer-generate", "--model", path, "--prompt", PROMPT, "--temperature", "0", "--tokens", str(TOKENS),
                              "--kv", "f32", "--json"))["text"]


common = ["--data", data, "--ternary", "--steps", steps, "--context", "128", "--batch", "2", "--accumulate", "1", "--learning-rate", "2e-3"]
program("clformer-finetune", *common, "--output", run)
ternary = os.path.join(run, "model.gguf")
program("clformer-finetune", *common, "--output", run, "--resume", "--merge=f32")  # the run is over: it writes the same weights once more
plain = os.path.join(work.name, "f32.gguf")
os.rename(ternary, plain)
program("clformer-finetune", *common, "--output", run, "--resume", "--merge")

bad = 0
f32 = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(plain).tensors}
for t in gguf.GGUFReader(ternary).tensors:
    if not t.name.startswith("blk.") or len(t.shape) < 2:
        continue
    values = gguf.dequantize(t.data, t.tensor_type)
    levels = np.unique(np.abs(values))
    right = t.tensor_type == gguf.GGMLQuantizationType.TQ2_0 and len(levels) <= 2 and levels[0] == 0 and np.array_equal(values, f32[t.name])
    bad += not right
    print(f"{t.name}: {t.tensor_type.name}, {(values == 0).mean():.1%} zeros, γ {levels[-1]:.6g}" + ("" if right else "  WRONG"))
(got, said), (want, said_plain) = logits(ternary), logits(plain)
error = np.sqrt(((got - want) ** 2).sum() / (want**2).sum())
print(f"logits of llama.cpp, TQ2_0 against F32 of the same weights: rms-relative {error:.2e}")
texts = {"llama.cpp, TQ2_0": said, "llama.cpp, F32": said_plain, "clformer, TQ2_0": of_clformer(ternary), "clformer, F32": of_clformer(plain)}
for name, text in texts.items():
    print(f"{name:18s} {text!r}")
bad += error > 2e-2
bad += texts["clformer, F32"].strip() != said_plain.strip()  # both in float: the same tokens
print("failed" if bad else "passed")
sys.exit(bool(bad))
