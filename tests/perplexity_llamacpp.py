#!/usr/bin/env python3
"""Perplexity by clformer-perplexity and from llama.cpp's logits, cut and judged as llama.cpp's own tool does it, in F32
with an F32 cache: python3 perplexity_llamacpp.py BIN MODEL.gguf TEXT [CONTEXT [CHUNKS]]

BIN has clformer-perplexity. The model's float matrices are brought to F32 first, for llama.cpp rounds activations to
the dtype of the weights. Ends with 77 where the packages are missing."""
import json, os, subprocess, sys, tempfile

try:
    import gguf
    import numpy as np
    from llama_cpp import Llama
except ImportError as e:
    print("skipped:", e)
    sys.exit(77)

binaries, model, text = sys.argv[1:4]
context = int(sys.argv[4]) if len(sys.argv) > 4 else 512
most = int(sys.argv[5]) if len(sys.argv) > 5 else 8
TOLERANCE = 1e-4  # of the mean nll


def to_f32(source, target):
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.get_field("general.architecture").contents())
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        writer.add_key_value(key, field.contents(), kind, sub_type=field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    for t in reader.tensors:
        writer.add_tensor(t.name, gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()


def of_llamacpp(path):
    llm = Llama(path, n_ctx=context, n_batch=context, n_ubatch=min(context, 512), n_threads=1, logits_all=True, verbose=False, type_k=0, type_v=0)
    # the tool leaves it to the vocabulary whether a text begins with BOS; Llama.tokenize() does so too
    ids = llm.tokenize(open(text, "rb").read(), add_bos=True, special=False)
    begins = ids and ids[0] == llm.token_bos()
    first, nll = context // 2, []
    for start in range(0, min(len(ids) // context, most) * context, context):
        chunk = list(ids[start:start + context])
        if begins:
            chunk[0] = llm.token_bos()
        llm.reset()
        llm.eval(chunk)
        rows = np.asarray(llm.scores[first:context - 1], dtype=np.float64)
        top = rows.max(-1)
        sums = top + np.log(np.exp(rows - top[:, None]).sum(-1))
        nll.extend(sums - rows[np.arange(len(rows)), ids[start + first + 1:start + context]])
    return np.array(nll)


with tempfile.TemporaryDirectory() as work:
    plain = os.path.join(work, "f32.gguf")
    to_f32(model, plain)
    nll = of_llamacpp(plain)
    ours = json.loads(subprocess.run([os.path.join(binaries, "clformer-perplexity"), "--model", plain, "--file", text, "--context", str(context), "--chunks",
                                      str(most), "--kv-dtype", "f32", "--json", "--device", "cpu"], check=True, capture_output=True, text=True).stdout)
error = nll.std() / np.sqrt(len(nll) - 1)
print(f"llama.cpp  nll {nll.mean():.8f} ± {error:.8f}, perplexity {np.exp(nll.mean()):.6f}, {len(nll)} tokens")
print(f"clformer   nll {ours['nll']['mean']:.8f} ± {ours['nll']['error']:.8f}, perplexity {ours['perplexity']:.6f}, {ours['tokens']} tokens")
apart = abs(ours["nll"]["mean"] / nll.mean() - 1), abs(ours["nll"]["error"] / error - 1)
print(f"apart: mean {apart[0]:.1e}, error {apart[1]:.1e}")
sys.exit(int(ours["tokens"] != len(nll) or max(apart) > TOLERANCE))
