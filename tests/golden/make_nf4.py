#!/usr/bin/env python3
"""Makes nf4.safetensors: values, and the codes and magnitudes that bitsandbytes' 4-bit NormalFloat with double
quantisation gives them. Needs torch, bitsandbytes, safetensors."""
import os
import torch
from bitsandbytes.functional import dequantize_blockwise, quantize_4bit
from safetensors.torch import save_file

torch.manual_seed(5)
x = torch.cat([torch.randn(64 * 270), 1e-3 * torch.randn(64 * 20), torch.zeros(64), torch.rand(64 * 9) * 40])
packed, state = quantize_4bit(x, blocksize=64, compress_statistics=True, quant_type="nf4")
packed = packed.flatten().int()
codes = torch.stack([packed >> 4, packed & 15], 1).flatten()
absmax = dequantize_blockwise(state.absmax, state.state2) + state.offset
save_file({"x": x, "codes": codes.int().contiguous(), "absmax": absmax.float().contiguous()},
          os.path.join(os.path.dirname(os.path.abspath(__file__)), "nf4.safetensors"))
