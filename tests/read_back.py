#!/usr/bin/env python3
"""Reads with gguf-py and safetensors-py what test-model_write wrote: python3 read_back.py TEST-MODEL_WRITE

Ends with 77 where the two packages are missing."""
import os, subprocess, sys, tempfile

try:
    import gguf
    import numpy as np
    from safetensors import safe_open
except ImportError as e:
    print("skipped:", e)
    sys.exit(77)

folder = tempfile.TemporaryDirectory()
kept = os.path.join(folder.name, "kept")
subprocess.run([sys.argv[1], "--keep", kept], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
count = 0



def value(key):
    return r.fields[key].contents()


r = gguf.GGUFReader(os.path.join(kept, "all.gguf"))
assert value("a.u32") == 4000000000 and value("a.bool") is True and value("a.empty") == ""
assert value("a.floats") == [0.5, -1.0, float(np.float32(1e30))] and value("a.ints") == [-2**31, 0, 7]
assert bytes(r.fields["a.strings"].parts[r.fields["a.strings"].data[2]]) == b"a\0b"
dtype_ids = {"f32": 0, "f16": 1, "bf16": 2, "i32": 3, "f64": 5, "i64": 6, "i16": 7, "i8": 8}  # clf_dtype
for t in r.tensors:
    name = t.name.removeprefix("t.")
    assert t.tensor_type.name.lower() == name, (t.name, t.tensor_type)
    assert list(t.shape) == [256, 2]
    data = t.data.tobytes()
    assert len(data) == t.n_bytes == 512 // gguf.GGML_QUANT_SIZES[t.tensor_type][0] * gguf.GGML_QUANT_SIZES[t.tensor_type][1]
    first = data[0]
    assert data == bytes((i * 7 + first) & 255 for i in range(len(data))), t.name
    assert name not in dtype_ids or first == dtype_ids[name]
    count += 1

with safe_open(os.path.join(kept, "all.safetensors"), framework="numpy") as f:
    assert f.metadata() == {"format": "pt"}
    for name in f.keys():
        s = f.get_slice(name)
        if name.startswith("t."):
            assert s.get_shape() == [2, 256] and s.get_dtype().lower() == name[2:]
        elif name == "scalar":
            assert s.get_shape() == [] and f.get_tensor(name).tobytes() == b"\1\2"
        else:
            assert name == 'empty "é"' and s.get_shape() == [3, 0]
        if name in ("t.f32", "t.i64"):
            data = f.get_tensor(name).tobytes()
            assert data == bytes((i * 7 + dtype_ids[name[2:]]) & 255 for i in range(len(data)))
        count += 1
print(count, "tensors read back")
