#!/usr/bin/env python3
"""random_gguf.py OUT.gguf [--layers N] [--seed N]: a LLaMA of TinyLlama-1.1B's shape with random F16 weights and a made-up
vocabulary, for speed runs. Nothing it says means anything."""
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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("--layers", type=int, default=22)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    w = gguf.GGUFWriter(args.out, "llama")
    vocabulary(w)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    w.add_context_length(4096)
    w.add_embedding_length(HIDDEN)
    w.add_block_count(args.layers)
    w.add_feed_forward_length(FFN)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KV_HEADS)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(HEAD_DIM)
    w.add_vocab_size(VOCAB)

    def matrix(name, rows, columns):
        values = rng.standard_normal((rows, columns), dtype=np.float32) * columns**-0.5
        w.add_tensor(name, values.astype(np.float16))

    def ones(name):
        w.add_tensor(name, np.ones(HIDDEN, np.float32))

    matrix("token_embd.weight", VOCAB, HIDDEN)
    matrix("output.weight", VOCAB, HIDDEN)
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
