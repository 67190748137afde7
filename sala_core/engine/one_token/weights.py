"""The weights of a decoding step in float32: matrices that read one vector are joined, factors are multiplied in.

A product with one vector costs what reading the matrix costs, and every call of torch about a microsecond. So q, k, v
and the output gate are one matrix, gate and up of the MLP another, and the weights of norms are factors of the columns
of the matrix that follows.
"""

import math
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from sala_core.model.forward import SalaModel

MAX_BYTES = 1 << 27
"""Largest float32 weights: 32 million parameters. Larger models wait for their matrices, and gain nothing."""

_FLOAT16_EXPONENT = 15  # the largest numbers of float16 are below 2^16


@dataclass(frozen=True, kw_only=True)
class LayerWeights:
    """One layer. All tensors are float32.

    Attributes:
        inward: [q + k + v + gate, D], of the normed hidden state; without a gate [q + k + v, D].
        sizes: rows of q, k, v and gate in it; 0 without a gate.
        heads: [query heads + kv heads, d], factors of the numbers of q and k: weights of their norms, and for q the
            attention's scale.
        eps: of the norms of q and k; None without norms.
        rope: whether q and k are rotated.
        outward: [D, query heads * d], of the gated output.
        eps_out: of the norm of all heads' output; None without it. Its weights are in `outward`.
        gate_up: [2 F, D], of the normed hidden state.
        down: [D, F].
    """

    inward: Tensor
    sizes: tuple[int, int, int, int]
    heads: Tensor
    eps: float | None
    rope: bool
    outward: Tensor
    eps_out: float | None
    gate_up: Tensor
    down: Tensor


class Head:
    """The product with the head's matrix [vocab, D], the largest of all.

    Where float16 holds its numbers exactly (those of a bfloat16 matrix, times a power of two, nearly always) and torch
    can multiply it so, it is read in half the bytes.
    """

    def __init__(self, matrix: Tensor, norm: Tensor) -> None:
        """matrix: [vocab, D] float32. norm: [D], factors of the hidden state: the last norm's, and the logits'."""
        self._packed = None
        self._norm, self._x = norm, torch.empty(1, len(norm))
        shift = 2.0 ** (_FLOAT16_EXPONENT - math.ceil(math.log2(max(float(matrix.abs().max()), 1e-30))))
        half = (matrix * shift).half()
        if torch.equal(half.float(), matrix * shift):
            try:
                self._packed = torch.ops.quantized.linear_prepack_fp16(half.float(), None)
            except (RuntimeError, AttributeError):  # a build of torch without FBGEMM
                self._packed = None
        if self._packed is None:
            self._matrix = matrix * norm
        else:
            self._norm = norm / shift

    def multiply(self, h: Tensor, factor: float, out: Tensor) -> None:
        """Write the logits of h [D] times `factor` to out [1, vocab]."""
        if self._packed is None:
            torch.addmv(out[0], self._matrix, h, beta=0, alpha=factor, out=out[0])
        else:
            x = torch.mul(h, self._norm, out=self._x[0]).mul_(factor)
            out.copy_(torch.ops.quantized.linear_dynamic_fp16(x[None], self._packed))


@dataclass(frozen=True, kw_only=True)
class StepWeights:
    """All layers, and the head."""

    layers: tuple[LayerWeights, ...]
    head: Head

    @classmethod
    def of(cls, model: SalaModel) -> "StepWeights":
        """The weights of a model that `supports` accepts. They are made once for each model."""
        if model not in _KNOWN:
            maker = _Maker(model)
            layers = tuple(maker.layer(i) for i in range(model.config.num_hidden_layers))
            _KNOWN[model] = cls(layers=layers, head=maker.head())
        return _KNOWN[model]


_KNOWN: WeakKeyDictionary[SalaModel, StepWeights] = WeakKeyDictionary()


def supports(model: SalaModel) -> bool:
    """Whether steps can be computed so: a small model of plain float32 or bfloat16 weights on a CPU.

    A backend that was asked for by name computes every operation itself.
    """
    if model.device.type != "cpu" or model.backend != "auto" or model.dtype == torch.float64:
        return False
    weights = model.weights.values()
    return all(isinstance(w, Tensor) for w in weights) and 4 * sum(_numel(w) for w in weights) <= MAX_BYTES


def _numel(weight: object) -> int:
    return weight.numel() if isinstance(weight, Tensor) else 0


class _Maker:
    """Joins the weights of a model."""

    def __init__(self, model: SalaModel) -> None:
        self._model, self._config = model, model.config

    def layer(self, i: int) -> LayerWeights:
        """The weights of layer i."""
        config, sparse = self._config, self._config.mixer_types[i] == "minicpm4"
        has_gate = config.attn_use_output_gate if sparse else config.use_output_gate
        names = ["q_proj", "k_proj", "v_proj", *(["o_gate" if sparse else "z_proj"] if has_gate else [])]
        parts = [self._matrix(i, f"self_attn.{name}") for name in names]
        rows = [len(part) for part in parts]
        outward = self._matrix(i, "self_attn.o_proj")
        normed_out = config.use_output_norm and not sparse
        if normed_out:
            outward = outward * self._matrix(i, "self_attn.o_norm")
        gate_up = torch.cat([self._matrix(i, f"mlp.{name}_proj") for name in ("gate", "up")])
        return LayerWeights(
            inward=(torch.cat(parts) * self._matrix(i, "input_layernorm")).contiguous(),
            sizes=(rows[0], rows[1], rows[2], rows[3] if has_gate else 0),
            heads=self._heads(i, rows[0], rows[1], sparse=sparse),
            eps=config.rms_norm_eps if (config.attn_qk_norm if sparse else config.qk_norm) else None,
            rope=config.attn_use_rope if sparse else config.lightning_use_rope,
            outward=outward.contiguous(),
            eps_out=config.rms_norm_eps if normed_out else None,
            gate_up=(gate_up * self._matrix(i, "post_attention_layernorm")).contiguous(),
            down=self._matrix(i, "mlp.down_proj").contiguous(),
        )

    def head(self) -> Head:
        """The head with its factors."""
        name = "model.embed_tokens.weight" if self._config.tie_word_embeddings else "lm_head.weight"
        return Head(self._float(name), self._float("model.norm.weight") * self._config.logit_scale)

    def _heads(self, i: int, q_rows: int, k_rows: int, *, sparse: bool) -> Tensor:
        config = self._config
        d = config.head_dim if sparse else config.lightning_head_dim
        factors = torch.ones((q_rows + k_rows) // d, d)
        queries = factors[: q_rows // d]
        if config.attn_qk_norm if sparse else config.qk_norm:
            queries *= self._matrix(i, "self_attn.q_norm")
            factors[q_rows // d :] *= self._matrix(i, "self_attn.k_norm")
        queries *= config.head_dim**-0.5 if sparse else config.lightning_query_scale
        return factors

    def _matrix(self, layer: int, name: str) -> Tensor:
        return self._float(f"model.layers.{layer}.{name}.weight")

    def _float(self, name: str) -> Tensor:
        weight = self._model.weights[name]
        assert isinstance(weight, Tensor)
        return weight.detach().float()
