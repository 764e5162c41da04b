#!/usr/bin/env python3
"""Greedy tokens of llama.cpp and of clformer, with an adapter beside the model and merged into it, both written by
clformer: python3 greedy_llamacpp.py BIN MODEL.gguf [TOKENS]

BIN has clformer-merge and clformer-generate. The adapter is random. Ends with 77 where the packages are missing."""
import json, os, subprocess, sys, tempfile

try:
    import gguf
    import numpy as np
    from llama_cpp import Llama
    from safetensors.numpy import save_file
except ImportError as e:
    print("skipped:", e)
    sys.exit(77)

binaries, model, tokens = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 48
PROMPT, RANK = "Once upon a time", 8
MODULES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
           "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
work = tempfile.TemporaryDirectory()
random = np.random.default_rng(1)


def run(program, *args):
    return subprocess.run([os.path.join(binaries, program), *args], check=True, capture_output=True, text=True).stdout


def of_clformer(path, *adapter):
    out = json.loads(run("clformer-generate", "--model", path, "--prompt", PROMPT, "--temperature", "0", "--tokens", str(tokens),
                         "--kv", "f32", "--json", *adapter))
    return out["text"]


def of_llamacpp(path, adapter=None):
    # f32 cache: rounding of keys and values must not decide between near ties
    llm = Llama(path, lora_path=adapter, n_ctx=256, n_threads=1, verbose=False, type_k=0, type_v=0)
    ids = llm.tokenize(PROMPT.encode(), add_bos=True)
    out = []
    for token in llm.generate(ids, temp=0, top_k=1):
        if len(out) == tokens or token == llm.token_eos():
            break
        out.append(token)
    return llm.detokenize(ids + out).decode().removeprefix(PROMPT)


peft, alone, merged = (os.path.join(work.name, n) for n in ("peft", "adapter.gguf", "merged.gguf"))
os.mkdir(peft)
tensors, leaves = {}, set()
for t in gguf.GGUFReader(model).tensors:
    part = t.name.split(".")
    if part[0] != "blk" or part[2] not in MODULES or part[3] != "weight":
        continue
    k, n = (int(x) for x in t.shape)
    name = f"base_model.model.model.layers.{part[1]}.{MODULES[part[2]]}"
    tensors[name + ".lora_A.weight"] = (random.standard_normal((RANK, k)) / k**0.5).astype(np.float32)
    tensors[name + ".lora_B.weight"] = (random.standard_normal((n, RANK)) * 0.02).astype(np.float32)
    leaves.add(MODULES[part[2]].split(".")[1])
save_file(tensors, os.path.join(peft, "adapter_model.safetensors"))
json.dump({"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "target_modules": sorted(leaves)},
          open(os.path.join(peft, "adapter_config.json"), "w"))
run("clformer-merge", "--adapter", model, peft, alone)
run("clformer-merge", "--dtype", "f32", model, peft, merged)
texts = {"clformer, plain": of_clformer(model), "llama.cpp, plain": of_llamacpp(model),
         "clformer, PEFT adapter": of_clformer(model, "--adapter", peft),
         "clformer, GGUF adapter": of_clformer(model, "--adapter", alone), "llama.cpp, GGUF adapter": of_llamacpp(model, alone),
         "clformer, merged": of_clformer(merged), "llama.cpp, merged": of_llamacpp(merged)}
for name, text in texts.items():
    print(f"{name:24s} {text!r}")
adapted = [t.strip() for n, t in texts.items() if "plain" not in n]
sys.exit(len(set(adapted)) != 1 or adapted[0] == texts["clformer, plain"].strip())
