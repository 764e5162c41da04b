#!/usr/bin/env python3
"""Makes blocks.safetensors: rows of floats and the blocks that gguf-py's quantisers make of them. Needs numpy, gguf.

Two things are left out, for their results are no one's intention: a block whose scale's inverse overflows (below about
1e-38; gguf-py converts infinities to integers) and, for Q4_1 and Q5_1, minima of zeros of both signs (numpy's minimum is either)."""
import json
import os
import struct
import numpy as np
from gguf import GGMLQuantizationType as T, quants

g = np.random.default_rng(6)
n = 256
rows = [
    g.standard_normal(n), 0.02 * g.standard_normal(n), 1e3 * g.standard_normal(n), np.zeros(n), np.ones(n), -np.ones(n),
    np.linspace(-1, 1, n), np.linspace(0, 3, n), g.uniform(-7, -5, n), 1e-7 * g.standard_normal(n), 1e-30 * g.standard_normal(n),
    g.integers(-8, 8, n), g.integers(-127, 128, n) / 2, g.integers(-1, 2, n) * 0.37, g.choice([-1, 1], n) * 1.5,
    g.standard_normal(n).astype(np.float16), np.where(np.arange(n) % 32 == 5, -60000.0, g.standard_normal(n)),
    g.integers(-15, 16, n) / 16, g.standard_t(2, n), 0.5 + g.integers(-127, 127, n),
]
x = np.array(rows, dtype=np.float32) + np.float32(0)  # no negative zeros
tensors = {"x": x}
for t in (T.Q8_0, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.TQ1_0, T.TQ2_0):
    tensors[t.name.lower()] = quants.quantize(x, t)

header, data = {}, b""
for name, a in tensors.items():
    header[name] = {"dtype": "F32" if a.dtype == np.float32 else "U8", "shape": list(a.shape),
                    "data_offsets": [len(data), len(data) + a.nbytes]}
    data += np.ascontiguousarray(a).tobytes()
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "blocks.safetensors"), "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + data)
