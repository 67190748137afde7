"""Decoding of one token by a small model on a CPU.

A step of a small model takes as long as its calls of torch. This one makes a fifth of those of the general forward
pass, on tensors allocated before, and it uses one thread: waking another costs more than the work that could be shared.
It computes in float32, with bfloat16 weights too (`matrix.py`): what it appends to the state is rounded once. Results
agree with the general pass up to rounding.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sala_core.engine.one_token.heads import Angles, Heads
from sala_core.engine.one_token.sparse import SparseStep
from sala_core.engine.one_token.weights import LayerWeights, StepWeights, supports
from sala_core.engine.sampling import Chooser
from sala_core.model.forward import SalaModel
from sala_core.model.state import SalaState

__all__ = ["OneTokenPass"]


class OneTokenPass:
    """Steps over a state's buffers. Valid until they move. Interchangeable with a `Pass` over one token."""

    @staticmethod
    def supports(model: SalaModel) -> bool:
        """Whether the model's steps can be computed so (`weights.supports`)."""
        return supports(model)

    def __init__(
        self, model: SalaModel, state: SalaState, chooser: Chooser, seen_tokens: Tensor, mass: Tensor | None
    ) -> None:
        """Allocate all buffers.

        Args:
            model: one that `supports` accepts.
            state: supplies the buffers.
            chooser: chooses a token from the logits.
            seen_tokens: [vocab + 1] bool, tokens that the repetition penalty applies to.
            mass: [sparse layers, capacity] fp32, the attention of every key is added to it. None: untraced.
        """
        config, weights = model.config, StepWeights.of(model)
        self._chooser, self._seen_tokens = chooser, seen_tokens
        embedding = model.weights["model.embed_tokens.weight"]
        assert isinstance(embedding, Tensor)
        self._embedding, self._factor = embedding, config.scale_emb
        self._h = torch.empty(1, config.hidden_size)
        self._h_row = self._h[0]
        self._eps, self._residual = config.rms_norm_eps, config.residual_scale
        dims = {config.lightning_head_dim} if config.lightning_use_rope and state.linear else set()
        dims |= {config.head_dim} if config.attn_use_rope and state.sparse else set()
        self._angles = {dim: Angles(dim, config.rope_theta) for dim in dims}
        self._decay = torch.exp(model.log_decay)[:, None, None]
        masses = dict(zip(state.sparse, mass, strict=True)) if mass is not None else {}
        self._layers: list[_Layer] = []
        for i, layer in enumerate(weights.layers):
            if i in state.sparse:
                sparse = SparseStep(state.sparse[i], model.layout, config.num_attention_heads, masses.get(i))
                self._layers.append(_SparseLayer(layer, self._h, config.head_dim, self._angles, sparse))
            else:
                dim = config.lightning_head_dim
                self._layers.append(_LightningLayer(layer, self._h, dim, self._angles, state.linear[i], self._decay))
        self._head, self._logits = weights.head, torch.empty(1, config.vocab_size)
        self._logits_row = self._logits[0].numpy()
        self._drafts = torch.empty(0, dtype=torch.int64)

    def compute(self, position: int, tokens: Sequence[int], uniforms: Sequence[float]) -> list[int]:
        """Advance the state by one token. Returns the token chosen after it, [1], as `Pass.compute` does."""
        (token,) = tokens
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            self._forward(position, token)
            return [self._choose(uniforms)]
        finally:
            torch.set_num_threads(threads)

    def confirm(self, count: int) -> None:
        """Nothing is left to do: the step has advanced the state."""
        assert count == 1, "a pass over one token has advanced the state"

    def _forward(self, position: int, token: int) -> None:
        """Write the logits after `token`, and advance the state's buffers."""
        h = self._h_row
        torch.mul(self._embedding[token], self._factor, out=h)
        for angles in self._angles.values():
            angles.set(position)
        for layer in self._layers:
            layer.mix(self._inverse_rms(h), self._residual, position)
            layer.mlp(self._inverse_rms(h), self._residual)
        self._logits.copy_(self._head.multiply(h, self._inverse_rms(h)))

    def _choose(self, uniforms: Sequence[float]) -> int:
        """The token after the logits; -1 where the highest is not finite."""
        chooser = self._chooser
        if chooser.temperature == 0 and chooser.repetition_penalty == 1:
            best = int(self._logits_row.argmax())
            return best if math.isfinite(self._logits_row[best]) else -1
        random = torch.tensor(uniforms, dtype=torch.float64)
        return int(chooser(self._logits, self._seen_tokens, self._drafts, random)[0])

    def _inverse_rms(self, x: Tensor) -> float:
        return _inverse_rms(x, self._eps)


def _inverse_rms(x: Tensor, eps: float) -> float:
    """1 / sqrt(mean(x^2) + eps), the factor of RMSNorm. NaN where x is not finite: a factor of 0 would hide it."""
    squares = float(torch.dot(x, x))
    return (squares / len(x) + eps) ** -0.5 if math.isfinite(squares) else math.nan


class _Layer:
    """One layer over one token: the mixer, then the MLP. Both add to the hidden state in place."""

    def __init__(self, weights: LayerWeights, hidden: Tensor, dim: int, angles: dict[int, Angles]) -> None:
        """hidden: [1, D], the hidden state. dim: numbers of a head. angles: by numbers of a head."""
        self.weights = weights
        self._hidden, self._hidden_row = hidden, hidden[0]
        self._projected = torch.empty(1, weights.inward.rows)
        q, k, v, gate = self._projected[0].split(weights.sizes)
        rows = self._projected[0, : len(q) + len(k)].view(-1, dim)
        self.heads = Heads(rows, weights, angles[dim] if weights.rope else None)
        self.num_queries = len(q) // dim
        self.v, self.gate = v.view(len(k) // dim, -1), gate
        self._gate_up = torch.empty(1, weights.gate_up.rows)
        self._gate, self._up = self._gate_up[0].chunk(2)

    def mix(self, factor: float, residual: float, position: int) -> None:
        """Add the mixer's output. factor: of RMSNorm. residual: factor of the output."""
        weights = self.weights
        self._projected.copy_(weights.inward.multiply(self._hidden_row, factor))
        rows = self.heads.compute()
        o = self.attend(rows[: self.num_queries], rows[self.num_queries :], position).view(-1)
        if weights.eps_out is not None:
            residual *= _inverse_rms(o, weights.eps_out)
        if weights.sizes[3]:
            o.mul_(self.gate.sigmoid_())
        self._hidden.add_(weights.outward.multiply(o, residual))

    def attend(self, q: Tensor, k: Tensor, position: int) -> Tensor:
        """Advance the state, and return the heads' outputs."""
        raise NotImplementedError

    def mlp(self, factor: float, residual: float) -> None:
        """Add the MLP's output."""
        self._gate_up.copy_(self.weights.gate_up.multiply(self._hidden_row, factor))
        torch.nn.functional.silu(self._gate, inplace=True)
        self._hidden.add_(self.weights.down.multiply(self._gate.mul_(self._up), residual))


class _SparseLayer(_Layer):
    def __init__(
        self, weights: LayerWeights, hidden: Tensor, dim: int, angles: dict[int, Angles], step: SparseStep
    ) -> None:
        super().__init__(weights, hidden, dim, angles)
        self._step = step

    def attend(self, q: Tensor, k: Tensor, position: int) -> Tensor:
        return self._step.attend(q, k, self.v, position)


class _LightningLayer(_Layer):
    """S <- decay S + k^T v, o = q S, for the heads at once."""

    def __init__(
        self,
        weights: LayerWeights,
        hidden: Tensor,
        dim: int,
        angles: dict[int, Angles],
        state: Tensor,
        decay: Tensor,
    ) -> None:
        super().__init__(weights, hidden, dim, angles)
        self._state, self._decay = state, decay
        kv_heads = len(self.v)
        self._grouped = state.view(kv_heads, -1, *state.shape[1:])  # heads of one group share k and v
        self._k = self.heads.out[self.num_queries :].view(kv_heads, 1, -1, 1)
        self._values = self.v.view(kv_heads, 1, 1, -1)
        self._q = self.heads.out[: self.num_queries].view(self.num_queries, 1, -1)
        self._o = torch.empty(len(state), 1, state.shape[2])

    def attend(self, q: Tensor, k: Tensor, position: int) -> Tensor:
        self._state.mul_(self._decay)
        self._grouped.addcmul_(self._k, self._values)
        return torch.bmm(self._q, self._state, out=self._o)
