#!/usr/bin/env python3
"""Reads with PEFT and transformers what clformer-merge wrote: python3 read_adapters.py CLFORMER-MERGE

Adapters saved from a folder's model and from a GGUF's, and merged folders, against the golden logits; folders made of
every golden GGUF against the folder that it was made from; the default model's tokenizer. Ends with 77 where the
packages are missing."""
import glob, os, subprocess, sys, tempfile

try:
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
except ImportError as e:
    print("skipped:", e)
    sys.exit(77)

TOLERANCE = 1e-5
golden = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden")
work = tempfile.TemporaryDirectory()
failed = 0


def gguf_of(name):
    return os.path.join(golden, "gguf", name + ".gguf")


def merge(*args):
    subprocess.run([sys.argv[1], *args], check=True)


def check(what, model, expect):
    global failed
    with torch.no_grad():
        got = model.eval()(input_ids=expect["input_ids"]).logits.double()
    want = expect["logits"].double()
    error = ((got - want).square().sum() / want.square().sum()).sqrt().item()
    failed += not error <= TOLERANCE
    print(f"{what:40s} {error:.2e}", "" if error <= TOLERANCE else "FAILED")


for name in ("llama", "phi3"):
    base, adapter = (os.path.join(golden, d, name) for d in ("models", "adapters"))
    gguf = os.path.join(golden, "gguf", name)
    expect = load_file(os.path.join(adapter, "expect.safetensors"))
    for kind, model, source in (("folder", base, adapter), ("gguf", gguf + ".gguf", gguf + "-adapter.gguf")):
        out = os.path.join(work.name, f"{name}-{kind}")
        merge("--adapter", model, source, out)
        plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        check(f"{name}, adapter from {kind}", PeftModel.from_pretrained(plain, out), expect)
    out = os.path.join(work.name, f"{name}-merged")
    merge(base, adapter, out)
    check(f"{name}, merged", AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32), expect)

# GGUFs that become folders, merged or as they are: an adapter of zeros changes nothing
merge(gguf_of("llama"), os.path.join(golden, "gguf", "llama-adapter.gguf"), out := os.path.join(work.name, "merged-of-gguf"))
check("llama, merged from a GGUF into a folder", AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32),
      load_file(os.path.join(golden, "adapters/llama/expect.safetensors")))
for name in sorted(os.path.basename(path)[:-5] for path in glob.glob(os.path.join(golden, "gguf", "*.gguf")) if "adapter" not in path):
    zeros, out = (os.path.join(work.name, f"{name}-{kind}") for kind in ("zeros", "of-gguf"))
    load = lambda path: AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    original = load(os.path.join(golden, "models", name))
    expect = {"input_ids": load_file(os.path.join(golden, "models", name, "expect.safetensors"))["input_ids"]}
    with torch.no_grad():
        expect["logits"] = original.eval()(input_ids=expect["input_ids"]).logits
    target = "qkv_proj" if "phi3" in name else "q_proj"
    get_peft_model(original, LoraConfig(r=1, target_modules=[target])).save_pretrained(zeros)
    merge(gguf_of(name), zeros, out)
    check(f"{name}, GGUF into a folder", load(out), expect)

# a tokenizer of a GGUF, in transformers
gguf = os.path.join(os.path.dirname(golden), "../examples/default_model/default.gguf")
zeros, out = os.path.join(work.name, "default-zeros"), os.path.join(work.name, "default")
shape = LlamaForCausalLM(LlamaConfig(vocab_size=832, hidden_size=256, intermediate_size=512, num_hidden_layers=3, num_attention_heads=4,
                                     num_key_value_heads=2, tie_word_embeddings=True))
get_peft_model(shape, LoraConfig(r=1, target_modules=["q_proj"])).save_pretrained(zeros)
merge(gguf, zeros, out)
tokenizer = AutoTokenizer.from_pretrained(out)
texts = open(os.path.join(golden, "vocab/gpt-2.gguf.inp"), encoding="utf-8", newline="").read().split("\n__ggml_vocab_test__\n")
tokenize = [os.path.join(os.path.dirname(sys.argv[1]), "clformer-tokenize"), "--special", "--ids", "--model", gguf]
ours = [[int(i) for i in subprocess.run(tokenize, input=t, capture_output=True, text=True, check=True).stdout.split()] for t in texts]
differ = sum(tokenizer(t).input_ids != ids for t, ids in zip(texts, ours))
failed += differ > 0
print(f"{len(texts)} texts by the default model's tokenizer, {differ} otherwise", "FAILED" if differ else "")

# embedding and output matrix trained as a whole
for name in ("llama", "gemma2"):
    base = os.path.join(golden, "models", name)
    expect = {"input_ids": load_file(os.path.join(base, "expect.safetensors"))["input_ids"]}
    source, out, merged = (os.path.join(work.name, f"{name}-{kind}") for kind in ("whole", "whole-again", "whole-merged"))
    load = lambda path: AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    torch.manual_seed(1)
    model = get_peft_model(load(base), LoraConfig(r=3, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"],
                                                  init_lora_weights=False))
    change = None
    for key, weight in model.named_parameters():
        if "modules_to_save" in key:  # a tied matrix takes the same change in both places
            change = torch.randn_like(weight) * 0.1 if change is None or not model.config.tie_word_embeddings else change
            weight.data = weight.data + change
    model.save_pretrained(source)
    with torch.no_grad():
        expect["logits"] = model.eval()(input_ids=expect["input_ids"]).logits
    merge("--adapter", base, source, out)
    check(f"{name}, whole matrices, adapter", PeftModel.from_pretrained(load(base), out), expect)
    merge(base, source, merged)
    check(f"{name}, whole matrices, merged", load(merged), expect)
sys.exit(failed != 0)
