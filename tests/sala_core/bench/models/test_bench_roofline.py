"""Counted bytes and FLOPs, against counting one token at a time."""

from dataclasses import replace

import pytest
import torch
from sala_kernels.key_compression import num_windows

from sala_core.bench.models.roofline import (
    full_decoding,
    full_prefill,
    matrix_work,
    sala_decoding,
    sala_prefill,
)
from sala_core.bench.random_weights import RandomWeights, full_shapes, full_weights, sala_weights, weight_bytes
from sala_core.bench.sizes import QWEN3_8B, SALA_9B, FullConfig, full_config, sala_config
from sala_core.model.checkpoint import expected_shapes
from sala_core.model.config import SalaConfig, SparseConfig
from sala_core.text.lengths import length_name

META = torch.device("meta")
TINY = SalaConfig(
    vocab_size=97,
    hidden_size=48,
    intermediate_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    lightning_nh=6,
    lightning_nkv=3,
    lightning_head_dim=8,
    mixer_types=("minicpm4", "lightning-attn", "minicpm4"),
    sparse_config=SparseConfig(kernel_size=8, kernel_stride=4, block_size=16, window_size=32, init_blocks=1, topk=4),
)


def meta_weights(config):
    return {name: torch.empty(shape, dtype=torch.bfloat16, device=META) for name, shape in config.items()}


def brute_mixer_flops(config, position, num_layers=None):
    """FLOPs of the mixers of the first `num_layers` layers for one query."""
    sparse, d = config.sparse_config, config.head_dim
    own = position // sparse.block_size
    blocks = range(own + 1)
    if len(blocks) > sparse.num_selected_blocks:
        blocks = [own, *range(sparse.num_selected_blocks - 1)]  # any blocks: all but its own are whole
    keys = sum(position - own * sparse.block_size + 1 if b == own else sparse.block_size for b in blocks)
    windows = 0
    if own + 1 > sparse.num_selected_blocks:
        windows = num_windows(position + 1, sparse.kernel_size, sparse.kernel_stride)
        windows += num_windows(position + 1, sparse.coarse_size, sparse.coarse_stride)
    one = config.num_attention_heads * d * (4 * keys + 2 * windows)
    lightning = config.lightning_nh * config.lightning_head_dim * (4 * config.lightning_head_dim + 128)
    return sum(one if kind == "minicpm4" else lightning for kind in config.mixer_types[:num_layers])


@pytest.mark.parametrize("last", ["minicpm4", "lightning-attn"])
def test_prefill_is_the_sum_over_its_tokens(last):
    """In the last layer, all tokens but the last one only need keys and values, or their update of the linear state."""
    config = replace(TINY, mixer_types=(*TINY.mixer_types[:2], last))
    shapes = expected_shapes(config)
    matrices = matrix_work(meta_weights(shapes), tied=False)
    work = sala_prefill(config, matrices, 400, state_bytes=1000)
    kept = sum(2 * a * b for name in "kv" for a, b in [shapes[f"model.layers.2.self_attn.{name}_proj.weight"]])
    kept += matrices.layer_flops - matrices.last_layer_flops + (0 if last == "minicpm4" else 6 * 2 * 8 * 8)
    expected = matrices.layer_flops + brute_mixer_flops(config, 399) + matrices.head_flops
    expected += sum(kept + brute_mixer_flops(config, position, 2) for position in range(399))
    assert work.num_flops == expected
    assert work.num_bytes == matrices.layer_bytes + matrices.head_bytes + 1000


def test_a_decoded_token_moves_weights_selected_keys_pooled_keys_and_states_twice():
    matrices = matrix_work(meta_weights(expected_shapes(TINY)), tied=False)
    position = 399
    work = sala_decoding(TINY, matrices, position, kv_row_bytes=16, itemsize=2)
    windows = num_windows(400, 8, 4) + num_windows(400, 32, 16)
    keys = 6 * 16  # whole blocks: 399 is the last of its own
    rows = 2 * 2 * (2 * keys * 16 + windows * 8 * 2)  # layers, kv heads
    states = 6 * 8 * 8 * 4 * 2
    assert work.num_bytes == matrices.layer_bytes + matrices.head_bytes + rows + states
    assert work.num_flops == matrices.layer_flops + matrices.head_flops + brute_mixer_flops(TINY, position)


def test_without_block_selection_no_pooled_key_counts():
    matrices = matrix_work(meta_weights(expected_shapes(TINY)), tied=False)
    work = sala_decoding(TINY, matrices, 95, kv_row_bytes=16, itemsize=2)
    assert work.num_bytes == matrices.layer_bytes + matrices.head_bytes + 2 * 2 * 2 * 96 * 16 + 6 * 8 * 8 * 4 * 2


def test_full_attention_counts_every_key():
    config = FullConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8,
    )  # fmt: skip
    matrices = matrix_work(meta_weights(full_shapes(config)), tied=False)
    prefill = full_prefill(config, matrices, 10, state_bytes=5)
    skipped = matrices.last_layer_flops - 2 * 2 * 16 * 32
    assert matrices.last_layer_flops == matrices.layer_flops // 2
    assert prefill.num_flops == 10 * matrices.layer_flops - 9 * skipped + matrices.head_flops + 4 * 32 * (55 + 10)
    decoding = full_decoding(config, matrices, 9, itemsize=2)
    assert decoding.num_bytes == matrices.layer_bytes + matrices.head_bytes + 10 * 2 * 2 * 2 * 8 * 2
    assert decoding.num_flops == matrices.layer_flops + matrices.head_flops + 4 * 2 * 32 * 10


def test_the_models_have_their_published_sizes():
    sala = matrix_work(meta_weights(expected_shapes(SALA_9B)), tied=False)
    assert sala.layer_flops == pytest.approx(17.7e9, rel=0.01)
    parameters = weight_bytes(meta_weights(expected_shapes(SALA_9B))) / 2
    assert parameters == pytest.approx(9.48e9, rel=0.005)
    assert weight_bytes(meta_weights(full_shapes(QWEN3_8B))) / 2 == pytest.approx(8.19e9, rel=0.005)
    assert QWEN3_8B.kv_bytes_per_token == 147_456


def test_the_baseline_at_embedded_size_has_the_dimensions_of_the_embedded_model():
    ours, full = sala_config("embedded"), full_config("embedded")
    for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
        assert getattr(full, name) == getattr(ours, name)


def test_the_limit_is_the_larger_of_memory_and_compute_time():
    matrices = matrix_work(meta_weights(expected_shapes(TINY)), tied=False)
    work = sala_prefill(TINY, matrices, 64, state_bytes=0)
    assert work.limit_s(bytes_per_s=1.0, flops_per_s=1e30) == work.num_bytes
    assert work.limit_s(bytes_per_s=1e30, flops_per_s=1.0) == work.num_flops


def test_packed_weights_are_those_that_quantize_packs():
    config = sala_config("embedded")
    weights = sala_weights(config, torch.bfloat16, torch.device("cpu"), packed=True)
    plain = {name for name, weight in weights.items() if isinstance(weight, torch.Tensor) and weight.ndim == 2}
    assert all(part in " ".join(plain) for part in ("embed_tokens", "o_gate", "z_proj"))
    assert not any(part in " ".join(plain) for part in ("q_proj", "down_proj", "gate_proj"))
    assert set(weights) == set(expected_shapes(config))
    assert {name: tuple(weight.shape) for name, weight in weights.items()} == expected_shapes(config)


def test_products_with_random_matrices_have_the_magnitude_of_their_input():
    from sala_kernels import int4_linear

    random = RandomWeights(torch.float32, torch.device("cpu"), packed=True)
    matrix = random.int4(512, 1024)
    x = torch.randn(64, 1024)
    assert int4_linear(x, matrix).std() == pytest.approx(1.0, rel=0.1)
    assert set((matrix.packed >> 4).unique().tolist()) == set(range(16))  # the highest nibble takes all values
    plain = random.weight("layers.0.z_proj.weight", (512, 1024))
    assert (x @ plain.T).std() == pytest.approx(1.0, rel=0.1)


def test_the_same_seed_gives_the_same_baseline():
    config = full_config("embedded")
    one, two = (full_weights(config, torch.float32, torch.device("cpu"), packed=False) for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_lengths_have_short_names():
    assert [length_name(n) for n in (65_536, 1_048_576, 3_145_728, 1000)] == ["64K", "1M", "3M", "1000"]
