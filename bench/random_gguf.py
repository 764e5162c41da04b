#!/usr/bin/env python3
"""random_gguf.py OUT.gguf [--type T] [--empty SHARE] [--layers N] [--seed N]: a LLaMA of TinyLlama-1.1B's shape with random weights
and a made-up vocabulary, for speed runs. Nothing it says means anything.

With tq1_0 or tq2_0 the blocks' matrices are ternary with one scale a row, and a share of their tiles of 16 rows by 16 columns
is empty; embedding and output matrix are Q6_K, unless --type is bf16: then all is, and the ternary values are the same."""
import argparse

import gguf
import numpy as np

HIDDEN, FFN, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 2048, 5632, 32, 4, 64, 32000


def vocabulary(writer):
    """SentencePiece's kind: three control tokens, all bytes, then words."""
    control, byte, normal = 3, 6, 1
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    types = [2, control, control] + [byte] * 256
    scores = [0.0] * len(tokens)
    for i in range(VOCAB - len(tokens)):
        tokens.append(f"▁w{i}")
        types.append(normal)
        scores.append(-float(i))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def ternary(rng, rows, columns, empty):
    """Codes 0, 1, 2 [rows, columns], and a half for each row."""
    codes = rng.integers(0, 3, (rows, columns), dtype=np.uint8)
    tiles = rng.random((rows // 16, 1, columns // 16, 1)) < empty
    np.place(codes.reshape(rows // 16, 16, columns // 16, 16), np.broadcast_to(tiles, (rows // 16, 16, columns // 16, 16)), 1)
    kept = max(1 - empty, 1e-3)
    scale = rng.uniform(0.5, 1.5, (rows, 1)) * (columns * kept * 2 / 3) ** -0.5
    return codes, scale.astype(np.float16)


def packed(codes, scale, digits):
    """Rows of TQ2_0 (4 digits of base 4) or TQ1_0 (5 of base 3)."""
    rows, columns = codes.shape
    blocks = codes.reshape(rows, columns // 256, 256)
    if digits == 4:
        shifts = np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 1, 4, 1)
        data = np.bitwise_or.reduce(blocks.reshape(rows, -1, 2, 4, 32) << shifts, axis=3).reshape(rows, -1, 64)
    else:
        parts = []
        for begin, end, n in ((0, 160, 32), (160, 240, 16), (240, 256, 4)):
            part = blocks[:, :, begin:end].reshape(rows, columns // 256, -1, n).astype(np.uint16)
            number = np.zeros((rows, columns // 256, n), np.uint16)
            for i in range(5):
                number = number * 3 + (part[:, :, i] if i < part.shape[2] else 0)
            parts.append(((number * 256 + 242) // 243).astype(np.uint8))
        data = np.concatenate(parts, axis=2)
    scales = np.broadcast_to(scale.view(np.uint8)[:, None, :], (rows, columns // 256, 2))
    return np.concatenate([data, scales], axis=2).reshape(rows, -1)


def q6_k(rng, rows, columns):
    """Random blocks, of values about columns^-0.5 large."""
    blocks = rng.integers(0, 256, (rows, columns // 256, 210), dtype=np.uint8)
    blocks[:, :, 192:208] = 100
    blocks[:, :, 208:] = np.array([columns**-0.5 / (100 * 18.5)], np.float16).view(np.uint8)
    return blocks.reshape(rows, -1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("--type", choices=("f16", "bf16", "tq1_0", "tq2_0"), default="f16")
    parser.add_argument("--empty", type=float, default=0, help="share of the ternary matrices' 16 x 16 tiles that are zero")
    parser.add_argument("--layers", type=int, default=22)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    w = gguf.GGUFWriter(args.out, "llama")
    vocabulary(w)
    kinds = {"f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "tq1_0": "MOSTLY_TQ1_0", "tq2_0": "MOSTLY_TQ2_0"}
    w.add_file_type(gguf.LlamaFileType[kinds[args.type]])
    w.add_context_length(4096)
    w.add_embedding_length(HIDDEN)
    w.add_block_count(args.layers)
    w.add_feed_forward_length(FFN)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KV_HEADS)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(HEAD_DIM)
    w.add_vocab_size(VOCAB)

    types = gguf.GGMLQuantizationType

    def bf16(name, values):
        bits = values.astype(np.float32).view(np.uint32)
        half = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
        w.add_tensor(name, half.view(np.uint8), raw_dtype=types.BF16)

    def matrix(name, rows, columns):
        """One of a block's."""
        if args.type == "f16":
            return end(name, rows, columns)
        codes, scale = ternary(rng, rows, columns, args.empty)
        if args.type == "bf16":
            return bf16(name, (codes.astype(np.float32) - 1) * scale.astype(np.float32))
        data = packed(codes, scale, 5 if args.type == "tq1_0" else 4)
        w.add_tensor(name, data, raw_dtype=types.TQ1_0 if args.type == "tq1_0" else types.TQ2_0)

    def end(name, rows, columns):
        """Embedding and output."""
        if args.type.startswith("tq"):
            return w.add_tensor(name, q6_k(rng, rows, columns), raw_dtype=types.Q6_K)
        values = rng.standard_normal((rows, columns), dtype=np.float32) * columns**-0.5
        if args.type == "bf16":
            return bf16(name, values)
        w.add_tensor(name, values.astype(np.float16))

    def ones(name):
        w.add_tensor(name, np.ones(HIDDEN, np.float32))

    end("token_embd.weight", VOCAB, HIDDEN)
    end("output.weight", VOCAB, HIDDEN)
    ones("output_norm.weight")
    for i in range(args.layers):
        block = f"blk.{i}."
        ones(block + "attn_norm.weight")
        ones(block + "ffn_norm.weight")
        matrix(block + "attn_q.weight", HIDDEN, HIDDEN)
        matrix(block + "attn_k.weight", KV_HEADS * HEAD_DIM, HIDDEN)
        matrix(block + "attn_v.weight", KV_HEADS * HEAD_DIM, HIDDEN)
        matrix(block + "attn_output.weight", HIDDEN, HIDDEN)
        matrix(block + "ffn_gate.weight", FFN, HIDDEN)
        matrix(block + "ffn_up.weight", FFN, HIDDEN)
        matrix(block + "ffn_down.weight", HIDDEN, FFN)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    main()
