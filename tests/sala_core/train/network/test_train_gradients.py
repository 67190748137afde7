"""The gradients of both kinds of attention are exact, and saved tensors grow linearly with the number of tokens."""

import pytest
import torch
from sala_kernels import BlockLayout, lightning_attention, lightning_log_decay
from torch.autograd import gradcheck

from sala_core.train.network import lightning, sparse
from sala_core.train.network.lightning import differentiable_lightning, differentiable_lightning_from
from sala_core.train.network.sparse import differentiable_blocks, is_dense, select_blocks

LAYOUT = BlockLayout(stride=2, block=4, init=1, local=2, slots=2)


def numbers(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(("tokens", "segment", "chunk"), [(13, 4096, 64), (13, 8, 3), (1, 4, 4), (16, 4, 4)])
def test_lightning_gradients_are_exact(monkeypatch, tokens, segment, chunk):
    torch.manual_seed(tokens)
    monkeypatch.setattr(lightning, "_SEGMENT_TOKENS", segment)
    monkeypatch.setattr(lightning, "_CHUNK_TOKENS", chunk)
    q, k, v, state = numbers(1, tokens, 2, 3), numbers(1, tokens, 2, 3), numbers(1, tokens, 2, 4), numbers(1, 2, 3, 4)
    decay = lightning_log_decay(2).double()
    assert gradcheck(lambda *x: differentiable_lightning_from(*x, decay, 0.5), (q, k, v, state), fast_mode=True)


def test_lightning_gradients_equal_those_of_the_reference_with_shared_heads():
    torch.manual_seed(0)
    q, k, v = numbers(2, 40, 4, 3), numbers(2, 40, 2, 3), numbers(2, 40, 2, 5)
    decay, weight = lightning_log_decay(4).double(), torch.randn(2, 40, 4, 5, dtype=torch.float64)
    empty = torch.zeros(2, 4, 3, 5, dtype=torch.float64)
    ours = differentiable_lightning(q, k, v, decay, scale=0.7)
    theirs, _ = lightning_attention(q, k, v, empty, decay, scale=0.7, backend="reference")
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(
        torch.autograd.grad((ours * weight).sum(), (q, k, v)),
        torch.autograd.grad((theirs * weight).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("gathered", [1 << 25, 300])
def test_block_sparse_gradients_are_exact(monkeypatch, gathered):
    torch.manual_seed(1)
    monkeypatch.setattr(sparse, "_GATHERED_ELEMENTS", gathered)
    q, k, v = numbers(1, 37, 4, 6), numbers(1, 37, 2, 6), numbers(1, 37, 2, 5)
    assert not is_dense(37, LAYOUT)
    chosen = select_blocks(q[0], k[0], scale=0.4, layout=LAYOUT)
    assert gradcheck(
        lambda *x: sparse._Blocks.apply(*(y[0] for y in x), chosen, 0.4, LAYOUT), (q, k, v), fast_mode=True
    )


def test_block_sparse_attention_and_its_gradients_equal_full_attention_if_all_blocks_are_selected():
    torch.manual_seed(2)
    layout = BlockLayout(stride=2, block=4, init=1, local=2, slots=20)
    q, k, v = numbers(2, 50, 4, 6), numbers(2, 50, 2, 6), numbers(2, 50, 2, 6)
    ours = differentiable_blocks(q, k, v, scale=0.4, layout=layout)
    heads = (x.transpose(1, 2) for x in (q, k, v))
    dense = torch.nn.functional.scaled_dot_product_attention(
        *heads, is_causal=True, scale=0.4, enable_gqa=True
    ).transpose(1, 2)
    torch.testing.assert_close(ours, dense)
    weight = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad((ours * weight).sum(), (q, k, v)),
        torch.autograd.grad((dense * weight).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_keys_outside_the_selected_blocks_get_no_gradient():
    torch.manual_seed(3)
    q, k, v = numbers(1, 60, 2, 4), numbers(1, 60, 1, 4), numbers(1, 60, 1, 4)
    chosen = select_blocks(q[0], k[0], scale=0.5, layout=LAYOUT)
    last = differentiable_blocks(q, k, v, scale=0.5, layout=LAYOUT)[0, -1].sum()
    has_gradient = torch.autograd.grad(last, v)[0][0, :, 0].abs().sum(-1).view(15, 4).sum(-1) > 0
    expected = sorted({0, 13, 14, *chosen[0, -1].tolist()})
    assert has_gradient.nonzero().flatten().tolist() == expected


@pytest.mark.parametrize("kind", ["lightning", "blocks"])
def test_tensors_saved_for_the_backward_pass_are_linear_in_the_tokens(kind):
    def saved_elements(tokens):
        total = 0

        def pack(x):
            nonlocal total
            total += x.numel()
            return x

        q, k, v = (torch.randn(1, tokens, 2, 8, requires_grad=True) for _ in range(3))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            if kind == "lightning":
                differentiable_lightning(q, k, v, lightning_log_decay(2), scale=1.0)
            else:
                differentiable_blocks(q, k, v, scale=1.0, layout=LAYOUT)
        return total

    assert saved_elements(512) < 1.1 * 2 * saved_elements(256)
