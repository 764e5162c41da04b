#!/usr/bin/env python3
"""Every type that clformer-quantize writes, in llama.cpp: python3 quantized_llamacpp.py BIN MODEL.gguf [TYPE...]

llama.cpp loads the file and its logits are ours: rms-relative 2e-2 where activations are quantised, and 1e-3 once both
programs have turned the file into F32, each by itself. Its own mix of the same name has the same dtypes, or the
difference is listed. BIN has clformer-quantize and test-print_logits. Ends with 77 where the packages are missing."""
import os, re, subprocess, sys, tempfile

try:
    import gguf
    import llamacpp as peer
except ImportError as e:
    print("skipped:", e)
    sys.exit(77)

TYPES = {"f16": 1, "bf16": 32, "q8_0": 7, "q4_0": 2, "q4_1": 3, "q5_0": 8, "q5_1": 9, "q2_k": 10, "q2_k_s": None, "q3_k_s": 11,
         "q3_k_m": 12, "q3_k_l": 13, "q4_k_s": 14, "q4_k_m": 15, "q5_k_s": 16, "q5_k_m": 17, "q6_k": 18, "iq4_nl": 25,
         "iq4_xs": 30, "mxfp4": None, "tq1_0": 36, "tq2_0": 37, "q2_0": None}
binaries, model = sys.argv[1], sys.argv[2]
chosen = sys.argv[3:] or list(TYPES)
work = tempfile.TemporaryDirectory()
failed = 0
TEXT = "Once upon a time there was a little girl who lived in a small house near the forest. One day she"


def ours(source, out, kind):
    run = subprocess.run([os.path.join(binaries, "clformer-quantize"), "--force", "-q", "-t", kind, source, out],
                         capture_output=True, text=True)
    if run.returncode:
        print(run.stderr, end="")
    return run.returncode == 0


def dtypes(path):
    try:
        return {t.name: t.tensor_type.name for t in gguf.GGUFReader(path).tensors}
    except ValueError:  # gguf-py knows fewer types than llama.cpp
        return None


def path(name):
    return os.path.join(work.name, name + ".gguf")


original = peer.Model(model)
PROMPT = original.tokens(TEXT)
original.close()
for kind in chosen:
    if not ours(model, path("q"), kind):
        failed += 1
        continue
    theirs = peer.Model(path("q"))
    mine, other = peer.our_logits(binaries, path("q"), PROMPT), theirs.logits(PROMPT)
    theirs.close()
    quantised = peer.rms_relative(mine, other)
    assert ours(path("q"), path("f"), "f32")
    peer.quantize(path("q"), path("p"), 0)
    theirs = peer.Model(path("p"))
    exact = theirs.logits(PROMPT)
    theirs.close()
    decoded = peer.rms_relative(peer.our_logits(binaries, path("f"), PROMPT), exact)
    same = ""
    if TYPES[kind] is not None:
        peer.quantize(model, path("m"), TYPES[kind])
        a, b = dtypes(path("q")), dtypes(path("m"))
        same = "same dtypes" if a == b else "differs: " + ", ".join(f"{n} {a[n]}, there {b[n]}" for n in a if a[n] != b[n])
    bad = not quantised <= 2e-2 or not decoded <= 1e-3
    failed += bad
    print(f"{kind:8s} logits {quantised:.2e}, as f32 {decoded:.2e}; from there {peer.rms_relative(mine, exact):.2e}, llama.cpp {peer.rms_relative(other, exact):.2e}  {same}{'  TOO FAR' if bad else ''}")
sys.exit(failed != 0)
