"""What the scripts that compare with llama.cpp share: its logits, its tokens, and ours."""
import ctypes, os, subprocess

import llama_cpp as L
import numpy as np


@L.llama_log_callback
def quiet(level, text, user):
    pass


L.llama_log_set(quiet, ctypes.c_void_p(0))
L.llama_backend_init()


class Model:
    def __init__(self, path, vocab_only=False):
        params = L.llama_model_default_params()
        params.n_gpu_layers, params.vocab_only = 0, vocab_only
        self.model = L.llama_model_load_from_file(os.fsencode(path), params)
        if not self.model:
            raise SystemExit(f"llama.cpp doesn't load {path}")
        self.vocab = L.llama_model_get_vocab(self.model)

    def logits(self, ids):
        """[ids, vocabulary], with an F32 cache and without flash attention, which would round to 16 bits"""
        params = L.llama_context_default_params()
        params.n_ctx, params.n_threads, params.n_threads_batch = 256, 1, 1
        params.type_k = params.type_v = 0
        params.flash_attn_type = 0
        context = L.llama_init_from_model(self.model, params)
        batch = L.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, id in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = id, i, 1, 0, 1
        assert L.llama_decode(context, batch) == 0
        n = L.llama_vocab_n_tokens(self.vocab)
        out = np.array([np.ctypeslib.as_array(L.llama_get_logits_ith(context, i), (n,)) for i in range(len(ids))])
        L.llama_batch_free(batch)
        L.llama_free(context)
        return out

    def tokens(self, text, special=True):
        data = text.encode()
        ids = (L.llama_token * (len(data) + 16))()
        n = L.llama_tokenize(self.vocab, data, len(data), ids, len(ids), special, False)
        assert n >= 0
        return list(ids[:n])

    def close(self):
        L.llama_model_free(self.model)


def quantize(source, out, file_type, pure=False):
    params = L.llama_model_quantize_default_params()
    params.ftype, params.nthread, params.allow_requantize, params.pure = file_type, 1, True, pure
    assert L.llama_model_quantize(os.fsencode(source), os.fsencode(out), ctypes.byref(params)) == 0


def our_logits(binaries, path, ids):
    out = subprocess.run([os.path.join(binaries, "test-print_logits"), path, *map(str, ids)], check=True, capture_output=True)
    return np.frombuffer(out.stdout, np.float32).reshape(len(ids), -1)


def rms_relative(got, want):
    return float(np.sqrt(((got - want) ** 2).sum() / (want ** 2).sum()))
