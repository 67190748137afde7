"""The baseline computes full attention: compared with the definition in float64, and with itself token by token."""

import pytest
import torch
from sala_kernels import Int4Matrix
from sala_kernels.launch import recorded

from sala_core.bench.models.full_attention import FullAttentionDecoder, FullAttentionModel, FullCache
from sala_core.bench.models.torch_attention import TorchAttention
from sala_core.bench.random_weights import full_weights
from sala_core.bench.sizes import QWEN3_8B, FullConfig

CPU = torch.device("cpu")
TINY = FullConfig(
    vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16,
)  # fmt: skip


@pytest.fixture
def model(one_thread):
    weights = full_weights(TINY, torch.float32, CPU, packed=False)
    generator = torch.Generator().manual_seed(3)
    for name, weight in weights.items():  # norms of ones would hide a missing norm
        if weight.ndim == 1:
            weights[name] = 1 + 0.2 * torch.randn(weight.shape, generator=generator)
    return FullAttentionModel(TINY, weights, TorchAttention(CPU, torch.float32, num_heads=4, kv_heads=2, d=16))


def reference_logits(model, ids):
    """[T, vocab], the whole forward pass written out in float64."""
    w = {name: weight.double() for name, weight in model.weights.items()}
    d, T = TINY.head_dim, len(ids)
    angle = torch.arange(T)[:, None].double() * TINY.rope_theta ** -(torch.arange(0, d, 2).double() / d)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    causal = torch.full((T, T), -torch.inf).triu(1).double()

    def norm(x, weight):
        return x * (x.square().mean(-1, keepdim=True) + TINY.rms_norm_eps).rsqrt() * weight

    def rotate(x):
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    h = w["model.embed_tokens.weight"][ids]
    for i in range(TINY.num_hidden_layers):
        p = f"model.layers.{i}."
        qkv = norm(h, w[p + "input_layernorm.weight"]) @ w[p + "self_attn.qkv_proj.weight"].T
        q, k, v = (x.view(T, -1, d) for x in qkv.split([4 * d, 2 * d, 2 * d], -1))
        q, k = rotate(norm(q, w[p + "self_attn.q_norm.weight"])), rotate(norm(k, w[p + "self_attn.k_norm.weight"]))
        k, v = (x.repeat_interleave(2, 1) for x in (k, v))
        mix = (torch.einsum("thd,nhd->htn", q, k) * d**-0.5 + causal).softmax(-1)
        o = torch.einsum("htn,nhd->thd", mix, v).reshape(T, -1)
        h = h + o @ w[p + "self_attn.o_proj.weight"].T
        x = norm(h, w[p + "post_attention_layernorm.weight"])
        gated = torch.nn.functional.silu(x @ w[p + "mlp.gate_proj.weight"].T) * (x @ w[p + "mlp.up_proj.weight"].T)
        h = h + gated @ w[p + "mlp.down_proj.weight"].T
    return norm(h, w["model.norm.weight"]) @ w["lm_head.weight"].T


def ids_of(n):
    return torch.randint(TINY.vocab_size, (n,), generator=torch.Generator().manual_seed(n))


@pytest.mark.parametrize("slice_tokens", [7, 8192])
def test_prefill_and_decoding_match_the_reference(model, slice_tokens, monkeypatch):
    monkeypatch.setattr("sala_core.bench.models.full_attention._SLICE_TOKENS", slice_tokens)
    ids = ids_of(40)
    cache = FullCache(TINY, 60, torch.float32, CPU)
    cache.keys.fill_(torch.nan)
    cache.values.fill_(torch.nan)
    decoder = FullAttentionDecoder(model, cache, 15)
    first = model.prefill(ids, cache)
    tokens = [int(first), *decoder.run(first, 15).tolist()]
    assert cache.length == 40
    for n, token in enumerate(tokens):
        logits = reference_logits(model, torch.cat([ids, torch.tensor(tokens[:n], dtype=torch.int64)]))[-1]
        assert logits[token] >= logits.max() - 1e-4


def test_a_decoder_can_run_again(model):
    cache = FullCache(TINY, 60, torch.float32, CPU)
    decoder = FullAttentionDecoder(model, cache, 10)
    runs = []
    for _ in range(2):
        cache.length = 0
        runs.append(decoder.run(model.prefill(ids_of(30), cache), 10).tolist())
    assert runs[0] == runs[1]


def test_a_cache_counts_its_reserved_bytes():
    cache = FullCache(TINY, 60, torch.float32, CPU)
    assert cache.num_bytes == 60 * 2 * TINY.kv_bytes_per_token


@pytest.mark.parametrize("packed", [False, True])
def test_at_full_shape_every_kernel_is_launched_as_on_a_card(packed):
    """On the meta device: shapes, dtypes and views fit the launchers. Attention itself is torch's."""
    device = torch.device("meta")
    weights = full_weights(QWEN3_8B, torch.bfloat16, device, packed=packed)
    assert sum(isinstance(weight, Int4Matrix) for weight in weights.values()) == (5 * 36 if packed else 0)
    attention = TorchAttention(CPU, torch.bfloat16, num_heads=32, kv_heads=8, d=128)
    attention.decode = lambda q, k, v, num_keys: torch.empty_like(q)
    model = FullAttentionModel(QWEN3_8B, weights, attention)
    with recorded(90) as launches:
        cache = FullCache(QWEN3_8B, 20_000, torch.bfloat16, device)
        model.prefill(torch.empty(17_000, dtype=torch.int64, device=device), cache)
        token, position = (torch.empty(1, dtype=torch.int64, device=device) for _ in range(2))
        assert model.decode(token, position, cache).shape == (1,)
    names = {launch.kernel.__name__ for launch in launches}
    assert {"_norm_rows", "_norm_and_rotate"} <= names
    assert len(names) >= (6 if packed else 4)
