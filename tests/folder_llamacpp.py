#!/usr/bin/env python3
"""Hugging Face folders that clformer-quantize turned into GGUF, in llama.cpp: python3 folder_llamacpp.py BIN [VOCAB]

- models: for each of golden/models the GGUF's logits are the folder's, ours and llama.cpp's alike
- tokenizers: vocabularies of GGUFs (golden/vocab, and VOCAB, a folder of more) are written as tokenizer.json or
  tokenizer.model beside a tiny model; from the GGUF both programs cut the texts of NAME.gguf.inp as from the original

Ends with 77 where the packages are missing."""
import glob, json, os, struct, subprocess, sys, tempfile

try:
    import gguf
    import llamacpp as peer
    import numpy as np
    from safetensors.numpy import save_file
except ImportError as e:
    print("skipped:", e)
    sys.exit(77)

binaries = sys.argv[1]
here = os.path.dirname(os.path.abspath(__file__))
work = tempfile.TemporaryDirectory()
failed = 0
PROMPT = [1, 5, 9, 60, 33, 17, 11, 44, 7, 50, 3, 81]
# where llama.cpp computes something else from the same keys
OTHERWISE = {"mistral": "no sliding window", "qwen2-window": "no sliding window",
             "gemma3": "scores ÷ √head_dim, not √query_pre_attn_scalar",
             "phi3-short": "its contexts begin at 256, where the long factors count"}


def quantize(source, out, kind="f32"):
    run = subprocess.run([os.path.join(binaries, "clformer-quantize"), "-q", "-t", kind, source, out], capture_output=True, text=True)
    return run.stderr.strip() if run.returncode else None


def models():
    global failed
    for folder in sorted(glob.glob(os.path.join(here, "golden/models/*"))):
        name, out = os.path.basename(folder), os.path.join(work.name, "model.gguf")
        if error := quantize(folder, out):
            failed += 1
            print(name, error)
            continue
        of_folder, ours = peer.our_logits(binaries, folder, PROMPT), peer.our_logits(binaries, out, PROMPT)
        theirs = peer.Model(out)
        error, peers = peer.rms_relative(ours, of_folder), peer.rms_relative(theirs.logits(PROMPT), of_folder)
        theirs.close()
        # GELU is a table of 16 bits there
        bad = not error <= 2e-6 or not (peers <= (5e-4 if "gemma" in name else 2e-6) or name in OTHERWISE)
        failed += bad
        print(f"{name:14s} folder and GGUF {error:.1e}, llama.cpp {peers:.1e} {OTHERWISE.get(name, '')}{'  TOO FAR' if bad else ''}")


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def message(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def sentencepiece(tokens, scores, kinds):
    """ModelProto: pieces, then trainer_spec with BPE and byte_fallback"""
    out = b""
    for t, s, k in zip(tokens, scores, kinds):
        out += message(1, message(1, t.encode()) + varint(2 << 3 | 5) + struct.pack("<f", s) + varint(3 << 3) + varint(k))
    trainer = varint(3 << 3) + varint(2) + varint(35 << 3) + varint(1)
    for number, token in ((40, "<unk>"), (41, "<s>"), (42, "</s>")):
        trainer += varint(number << 3) + varint(tokens.index(token))
    return out + message(2, trainer)


def byte_level(tokens, kinds, merges, pre):
    if pre not in ("gpt-2", "default"):
        return None
    added = [{"id": i, "content": t, "special": k == 3, "normalized": k != 3, "lstrip": False, "rstrip": False, "single_word": False}
             for i, (t, k) in enumerate(zip(tokens, kinds)) if k in (3, 4)]
    return {"added_tokens": added, "normalizer": None, "post_processor": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}, "decoder": {"type": "ByteLevel"},
            "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(tokens)}, "merges": merges}}


def tiny_model(folder, rows):
    r = np.random.default_rng(3)
    h, f = 32, 64
    config = {"model_type": "llama", "hidden_size": h, "intermediate_size": f, "num_hidden_layers": 1, "num_attention_heads": 2,
              "vocab_size": rows, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": True}
    json.dump(config, open(os.path.join(folder, "config.json"), "w"))
    p = "model.layers.0."
    shapes = {"model.embed_tokens.weight": (rows, h), "model.norm.weight": (h,), p + "input_layernorm.weight": (h,),
              p + "post_attention_layernorm.weight": (h,), p + "mlp.gate_proj.weight": (f, h), p + "mlp.up_proj.weight": (f, h),
              p + "mlp.down_proj.weight": (h, f)} | {p + f"self_attn.{x}_proj.weight": (h, h) for x in "qkvo"}
    save_file({n: r.standard_normal(s).astype(np.float32) for n, s in shapes.items()}, os.path.join(folder, "model.safetensors"))


def our_tokens(path, text):
    file = os.path.join(work.name, "text")
    open(file, "w", newline="").write(text)
    run = subprocess.run([os.path.join(binaries, "clformer-tokenize"), "--ids", "--model", path, "--file", file], check=True, capture_output=True, text=True)
    return [int(x) for x in run.stdout.split()]


def tokenizers(vocabularies):
    global failed
    for source in vocabularies:
        r = gguf.GGUFReader(source)
        value = lambda key: r.fields["tokenizer.ggml." + key].contents()
        tokens, kinds = value("tokens"), value("token_type")
        name = os.path.basename(source).removesuffix(".gguf")
        folder, out = os.path.join(work.name, name), os.path.join(work.name, name + ".gguf")
        os.makedirs(folder, exist_ok=True)
        tiny_model(folder, len(tokens) + 3)  # as many models have rows that no token uses
        if value("model") == "llama":
            open(os.path.join(folder, "tokenizer.model"), "wb").write(sentencepiece(tokens, value("scores"), kinds))
        else:
            pre = value("pre") if "tokenizer.ggml.pre" in r.fields else "gpt-2"
            config = byte_level(tokens, kinds, value("merges"), pre)
            if not config:
                print(f"{name:14s} left out: its tokenizer.json isn't known here")
                continue
            json.dump(config, open(os.path.join(folder, "tokenizer.json"), "w"))
        if error := quantize(folder, out):
            failed += 1
            print(name, error)
            continue
        texts = open(source + ".inp", newline="").read().split("\n__ggml_vocab_test__\n")
        theirs, original = peer.Model(out), peer.Model(source, vocab_only=True)
        wrong = sum(theirs.tokens(t) != original.tokens(t) for t in texts) + sum(our_tokens(out, t) != our_tokens(folder, t) for t in texts)
        failed += wrong != 0
        print(f"{name:14s} {len(texts)} texts, {wrong} cut otherwise")


models()
folders = [os.path.join(here, "golden/vocab")] + sys.argv[2:]
tokenizers({os.path.basename(p): p for f in folders for p in sorted(glob.glob(os.path.join(f, "*.gguf")))}.values())
sys.exit(failed != 0)
