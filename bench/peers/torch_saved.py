#!/usr/bin/env python3
"""torch_saved.py: bytes that PyTorch keeps of a LLaMA block for its backward pass, and of its gated MLP alone: every storage that
autograd saves, once, parameters apart. The block's weights are trained, as in full fine-tuning. One JSON object."""
import argparse
import json
import os

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding


def saved_bytes(run, parameters, given):
    known = {p.untyped_storage().data_ptr() for p in parameters} | {t.untyped_storage().data_ptr() for t in given}
    storages = {}

    def pack(t):
        s = t.untyped_storage()
        if s.data_ptr() not in known:
            storages[s.data_ptr()] = s.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = run()
    return sum(storages.values()), out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    config = LlamaConfig(vocab_size=32000, hidden_size=1024, intermediate_size=2816, num_hidden_layers=1, num_attention_heads=16,
                         num_key_value_heads=4, attn_implementation="sdpa")
    dtype = getattr(torch, args.dtype)
    layer = LlamaDecoderLayer(config, 0).to(dtype)
    x = torch.randn(1, args.tokens, config.hidden_size, dtype=dtype, requires_grad=True)
    positions = torch.arange(args.tokens)[None]
    rope = LlamaRotaryEmbedding(config)(x, positions)
    block, _ = saved_bytes(lambda: layer(x, position_embeddings=rope, position_ids=positions), layer.parameters(), rope)
    mlp, _ = saved_bytes(lambda: layer.mlp(x), layer.mlp.parameters(), [])
    print(json.dumps({"block_bytes": block, "mlp_bytes": mlp}))


if __name__ == "__main__":
    main()
