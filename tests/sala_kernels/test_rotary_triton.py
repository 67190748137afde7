"""The fused normalization and rotation of q and k, in cases that `cases.py` does not cover."""

import pytest
import torch
from sala_kernels import apply_rotary, qk_norm_rotary, rms_norm, rotary_cos_sin

pytestmark = pytest.mark.usefixtures("poisoned")


def test_the_reference_is_both_operations_one_after_the_other():
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(5, heads, 16, generator=generator).bfloat16() for heads in (6, 2))
    w, u = torch.randn(2, 16, generator=generator).bfloat16()
    cos_sin = rotary_cos_sin(9, 5, 16, 1e4, "cpu")
    found = qk_norm_rotary(q, k, w, u, cos_sin, eps=1e-5, backend="reference")
    for x, weight, out in zip((q, k), (w, u), found, strict=True):
        expected = apply_rotary(rms_norm(x, weight, 1e-5, backend="reference"), cos_sin, backend="reference")
        assert torch.equal(out, expected)


@pytest.mark.parametrize("norms", [(True, False), (False, True)])
def test_one_of_q_and_k_may_have_no_norm(device, norms):
    generator = torch.Generator().manual_seed(1)
    q, k = (torch.randn(3, heads, 24, generator=generator).to(device) for heads in (3, 5))
    weights = [torch.randn(24, generator=generator).to(device) if given else None for given in norms]
    cos_sin = rotary_cos_sin(1 << 21, 1, 24, 1e4, device)  # one angle for every row
    found, expected = (qk_norm_rotary(q, k, *weights, cos_sin, eps=1e-6, backend=b) for b in ("triton", "reference"))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_float16_is_rounded_where_the_separate_operations_round(device):
    generator = torch.Generator().manual_seed(2)
    q, k = (torch.randn(4, 4, 64, generator=generator).to(device, torch.float16) for _ in range(2))
    weights = torch.randn(2, 64, generator=generator).to(device, torch.float16)
    cos_sin = rotary_cos_sin(77, 4, 64, 1e4, device)
    found, expected = (qk_norm_rotary(q, k, *weights, cos_sin, eps=1e-6, backend=b) for b in ("triton", "reference"))
    for f, e in zip(found, expected, strict=True):
        assert float((f == e).float().mean()) > 0.99  # the last bit of a float32 sum may decide a rounding


def test_any_strides(device):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(16, 4, 6, generator=generator).to(device)
    q = x.permute(2, 1, 0)  # [6, 4, 16], the last dimension not contiguous
    k = x.permute(1, 2, 0)[:, :3].transpose(0, 1).contiguous().repeat(2, 1, 1)  # [6, 4, 16]
    cos_sin = rotary_cos_sin(0, 8, 16, 1e4, device)[:, 1:7]
    found, expected = (qk_norm_rotary(q, k, None, None, cos_sin, eps=0.0, backend=b) for b in ("triton", "reference"))
    torch.testing.assert_close(found, expected)


def test_tokens_beyond_two_to_the_31_elements(device):
    torch.utils.deterministic.fill_uninitialized_memory = False
    vast = torch.empty(2**31 + 64, dtype=torch.float16, device=device)  # a CPU allocates only pages that are touched
    torch.utils.deterministic.fill_uninitialized_memory = True
    far = vast.as_strided((3, 2, 16), (2**30, 16, 1))
    near = torch.arange(96, dtype=torch.float16, device=device).view(3, 2, 16) / 64
    far.copy_(near)
    cos_sin = rotary_cos_sin(5, 3, 16, 1e4, device)
    found = qk_norm_rotary(far, far, None, None, cos_sin, eps=0.0, backend="triton")
    expected = qk_norm_rotary(near, near, None, None, cos_sin, eps=0.0, backend="triton")
    assert all(torch.equal(f, e) for f, e in zip(found, expected, strict=True))


def test_arguments_that_do_not_fit_are_refused():
    q, k = torch.randn(3, 4, 16), torch.randn(3, 2, 16)
    cos_sin = rotary_cos_sin(0, 3, 16, 1e4, "cpu")
    with pytest.raises(ValueError, match="must be"):
        qk_norm_rotary(q, k[:2], None, None, None, eps=0.0)
    with pytest.raises(ValueError, match="weight"):
        qk_norm_rotary(q, k, torch.ones(8), None, None, eps=0.0)
    with pytest.raises(ValueError, match="cos_sin"):
        qk_norm_rotary(q, k, None, None, cos_sin[:, :2], eps=0.0)
    with pytest.raises(ValueError, match="cos_sin"):
        apply_rotary(q[..., :14], cos_sin)
    with pytest.raises(ValueError, match="cos_sin"):
        apply_rotary(torch.randn(3, 4, 15), cos_sin)
