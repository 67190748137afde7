"""The weights of a decoding step: matrices that read one vector are joined, and know the factors of their vectors.

A product with one vector costs what reading the matrix costs, and every call of torch about a microsecond. So q, k, v
and the output gate are one matrix, gate and up of the MLP another, and the weights of norms are factors of what the
matrix that follows multiplies.
"""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from sala_core.engine.one_token.matrix import Matrix
from sala_core.model.forward import SalaModel

MAX_BYTES = 1 << 27
"""Largest float32 weights: 32 million parameters. Larger models wait for their matrices, and gain nothing."""


@dataclass(frozen=True, kw_only=True)
class LayerWeights:
    """One layer.

    Attributes:
        inward: [q + k + v + gate, D], of the hidden state; without a gate [q + k + v, D].
        sizes: rows of q, k, v and gate in it; 0 without a gate.
        heads: [query heads + kv heads, d] fp32, factors of the numbers of q and k: weights of their norms, and for q
            the attention's scale.
        eps: of the norms of q and k; None without norms.
        rope: whether q and k are rotated.
        outward: [D, query heads * d], of the gated output.
        eps_out: of the norm of all heads' output; None without it.
        gate_up: [2 F, D], of the hidden state.
        down: [D, F].
    """

    inward: Matrix
    sizes: tuple[int, int, int, int]
    heads: Tensor
    eps: float | None
    rope: bool
    outward: Matrix
    eps_out: float | None
    gate_up: Matrix
    down: Matrix


@dataclass(frozen=True, kw_only=True)
class StepWeights:
    """All layers, and the head [vocab, D]."""

    layers: tuple[LayerWeights, ...]
    head: Matrix

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
        normed_out = config.use_output_norm and not sparse
        gate_up = torch.cat([self._matrix(i, f"mlp.{name}_proj") for name in ("gate", "up")])
        return LayerWeights(
            inward=Matrix(torch.cat(parts), self._matrix(i, "input_layernorm")),
            sizes=(rows[0], rows[1], rows[2], rows[3] if has_gate else 0),
            heads=self._heads(i, rows[0], rows[1], sparse=sparse),
            eps=config.rms_norm_eps if (config.attn_qk_norm if sparse else config.qk_norm) else None,
            rope=config.attn_use_rope if sparse else config.lightning_use_rope,
            outward=Matrix(
                self._matrix(i, "self_attn.o_proj"), self._matrix(i, "self_attn.o_norm") if normed_out else None
            ),
            eps_out=config.rms_norm_eps if normed_out else None,
            gate_up=Matrix(gate_up, self._matrix(i, "post_attention_layernorm")),
            down=Matrix(self._matrix(i, "mlp.down_proj")),
        )

    def head(self) -> Matrix:
        """The head with its factors."""
        name = "model.embed_tokens.weight" if self._config.tie_word_embeddings else "lm_head.weight"
        return Matrix(self._float(name), self._float("model.norm.weight") * self._config.logit_scale)

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
