"""Auxiliary losses, besides next-token cross-entropy: they supervise block selection, attention and sentence memory.

A small model that is trained on whole answers alone learns late, or never, where in a document to attend. The modules
that these losses add are used in training only and are no part of the trained model.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sala_core.errors import TrainError
from sala_core.train.data.batches import AnswerPositions
from sala_core.train.data.tasks import MEMORY_TOKENS
from sala_core.train.network.network import Network, SoftmaxMixer
from sala_core.train.objectives import NextToken
from sala_core.train.recipe import AUXILIARY_LOSSES, Phase

_BANK_WINDOWS, _WINDOWS_PER_STEP = 8192, 512
_BANK_KEYS, _KEY_COPIES = 8192, 8  # each key of the bank stands for 8 tokens: as if the context had 65,536 tokens more
_MIN_OVERLAP_TOKENS = 12


class AuxiliaryLosses(NextToken):
    """Cross-entropy of the next token plus three losses, each with its factor in the phase.

    - `block_loss` supervises block selection: the pooled keys of the answering sentence are to be selected.
    - `look_loss` supervises attention: the question's tokens are to attend to the answering spans.
    - `memory_loss`: the input of the first softmax layer at a token is to predict how the token's sentence begins. A
      key needs this information for a sentence to be quoted from its beginning.

    memory: one matrix for each of a sentence's first `MEMORY_TOKENS` tokens, for `memory_loss`.
    window_bank: [softmax layers, Hk, N, d] fp32, pooled keys of earlier steps: negatives for `block_loss`.
    key_bank: [softmax layers, Hk, N, d] fp32, keys of document tokens of earlier steps: negatives for `look_loss`.
    """

    needs_positions = True
    window_bank: Tensor
    key_bank: Tensor

    def __init__(self, network: Network, target_share: float = 1.0, seed: int = 0) -> None:
        """seed: of the matrices and of the initial banks. Raises TrainError for a model without softmax layers."""
        super().__init__(network, target_share)
        config, generator = network.config, torch.Generator().manual_seed(seed)
        if not config.sparse_layers:
            raise TrainError(f"{', '.join(AUXILIARY_LOSSES)} need a softmax layer; the model has none")
        self.softmax_layers, D = config.sparse_layers, config.hidden_size
        self.memory = nn.ModuleList(nn.Linear(D, D, bias=False) for _ in range(MEMORY_TOKENS))
        for parameter in self.memory.parameters():
            nn.init.normal_(parameter, std=D**-0.5, generator=generator)
        for name, size in (("window_bank", _BANK_WINDOWS), ("key_bank", _BANK_KEYS)):
            shape = (len(self.softmax_layers), config.num_key_value_heads, size, config.head_dim)
            self.register_buffer(name, torch.randn(shape, generator=generator) * 0.01)
        self.block_factor = self.memory_factor = self.look_factor = 0.0

    def trained_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield from super().trained_parameters()
        yield from self.memory.named_parameters(prefix="memory")

    def saved_buffers(self) -> dict[str, Tensor]:
        return {"bank": self.window_bank, "keys": self.key_bank}

    def prepare(self, phase: Phase, sparse: bool) -> None:
        super().prepare(phase, sparse)
        size = self.config.sparse_config.kernel_size
        if phase.block_loss and phase.length < size:
            raise TrainError(f"block_loss needs rows of {size} tokens or more, found length {phase.length}")
        self.block_factor, self.memory_factor, self.look_factor = phase.block_loss, phase.memory_loss, phase.look_loss

    def forward(
        self, ids: Tensor, weights: Tensor, positions: AnswerPositions | None = None, *, measure: bool = False
    ) -> Tensor:
        """As `Objective.forward`, with the auxiliary losses added unless `measure` is set.

        Args:
            ids, weights, measure: as for `Objective.forward`.
            positions: required unless `measure` is set.
        """
        if measure:
            return super().forward(ids, weights, measure=True)
        assert positions is not None
        inputs: list[Tensor] = []

        def record(layer: int, x: Tensor, mixed: Tensor) -> None:
            if layer in self.softmax_layers:
                inputs.append(x)

        total = self.next_token(self.network(ids[:, :-1], record), ids, weights)
        auxiliary = weights.new_zeros(())
        layers = self._queries_keys(inputs, ids) if self.block_factor or self.look_factor else []
        if self.block_factor:
            auxiliary = auxiliary + self.block_factor * self._block_loss(layers, positions)
        if self.look_factor:
            auxiliary = auxiliary + self.look_factor * self._look_loss(layers, positions)
        if self.memory_factor:
            auxiliary = auxiliary + self.memory_factor * self._memory_loss(inputs[0], positions)
        return total + auxiliary * weights.sum()  # a mean added to a sum: the loop divides by the sum of the weights

    def _queries_keys(self, inputs: list[Tensor], ids: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Queries and keys of every softmax layer. inputs: of the layers' mixers, each [B, T, D]."""
        layers = []
        for layer, x in zip(self.softmax_layers, inputs, strict=True):
            mixer = self.network.layers[layer].self_attn
            assert isinstance(mixer, SoftmaxMixer)
            d = mixer.head_dim
            layers.append(mixer.queries_keys(x, self.network.cos_sin(ids[:, :-1], {d})[d] if mixer.rotary else None))
        return layers

    def _block_loss(self, layers: list[tuple[Tensor, Tensor]], positions: AnswerPositions) -> Tensor:
        """Mean of `block_loss` over the softmax layers. Their pooled keys replace the oldest ones of the bank."""
        sparse, losses, new = self.config.sparse_config, [], []
        size, stride = sparse.kernel_size, sparse.kernel_stride
        for index, (q, k) in enumerate(layers):
            pooled = pooled_keys(k, size, stride)
            losses.append(block_loss(q, pooled, self.window_bank[index], positions, stride, size))
            new.append(pooled.detach().transpose(0, 1).flatten(1, 2).float())
        windows = torch.stack(new)
        _push(self.window_bank, windows[:, :, :: -(-windows.shape[2] // _WINDOWS_PER_STEP)])
        return torch.stack(losses).mean()

    def _look_loss(self, layers: list[tuple[Tensor, Tensor]], positions: AnswerPositions) -> Tensor:
        """`look_loss` of the attention summed over the softmax layers. New keys replace the oldest ones of the bank."""
        parts = [question_attention(q, k, bank, positions) for (q, k), bank in zip(layers, self.key_bank, strict=True)]
        attention, bank_attention = (torch.stack(part).sum(0) for part in zip(*parts, strict=True))
        tokens = positions.memory.flatten()
        rows = torch.arange(len(positions.memory), device=tokens.device).repeat_interleave(positions.memory.shape[1])
        new = torch.stack([k[rows, tokens].detach().transpose(0, 1).float() for _, k in layers])
        is_document = (positions.beginnings[..., 0] >= 0).flatten()[:, None]
        new = torch.where(is_document, new, self.key_bank[:, :, : new.shape[2]])  # unused slots: the oldest keys stay
        _push(self.key_bank, new)
        return look_loss(attention, bank_attention, positions)

    def _memory_loss(self, inputs: Tensor, positions: AnswerPositions) -> Tensor:
        """Mean -log probability of the first tokens of the sentences at `positions.memory`. inputs: [B, T, D]."""
        chosen = inputs.gather(1, positions.memory[..., None].expand(-1, -1, inputs.shape[-1]))
        logits = torch.stack([F.linear(head(chosen), self.network.vocabulary) for head in self.memory], 2).float()
        targets = positions.beginnings.flatten()
        total = F.cross_entropy(logits.flatten(0, 2), targets, ignore_index=-1, reduction="sum")
        return total / (targets >= 0).sum().clamp(min=1)


def _push(bank: Tensor, new: Tensor) -> None:
    """Append new keys [layers, Hk, n, d] to a bank and drop its oldest n. In place."""
    bank.copy_(torch.cat([bank, new], 2)[:, :, -bank.shape[2] :])


def pooled_keys(k: Tensor, size: int, stride: int) -> Tensor:
    """Means of k [B, T, Hk, d] over full windows -> [B, Hk, W, d], as block selection scores them."""
    B, _, Hk, _ = k.shape
    return F.avg_pool1d(k.permute(0, 2, 3, 1).flatten(0, 1), size, stride).mT.unflatten(0, (B, Hk))


def block_loss(q: Tensor, pooled: Tensor, bank: Tensor, positions: AnswerPositions, stride: int, size: int) -> Tensor:
    """-log of the attention over pooled keys that falls on the windows of the answering sentence, averaged over heads.

    The windows of all other rows and of the bank are negatives, so a query learns to select among much text. Returns
    the mean over the valid queries that have a window with the answer.

    Args:
        q: [B, T, H, d].
        pooled: [B, Hk, W, d], of `pooled_keys`.
        bank: [Hk, N, d], pooled keys of earlier steps.
        positions: the queries and the spans that answer them.
        stride, size: tokens between the starts of two windows, and of a window.
    """
    B, Hk, W, d = pooled.shape
    Q, H = positions.queries.shape[1], q.shape[2]
    queries = q.gather(1, positions.queries[..., None, None].expand(B, Q, H, d)).transpose(1, 2)
    pool = torch.cat([pooled.transpose(0, 1).reshape(Hk, B * W, d), bank.to(pooled.dtype)], 1)
    scores = (queries.unflatten(1, (Hk, -1)) @ pool[None, :, None].mT).flatten(1, 2).float() * d**-0.5
    ends = torch.arange(W, device=q.device) * stride + size
    own = torch.eye(B, dtype=torch.bool, device=q.device)[:, None, :, None]
    masked = own & (ends > positions.turn_starts[..., None])[:, :, None]  # in the question's own turn
    answers = own & window_targets(positions.gold, W, stride, size)[:, :, None]
    mask, gold = (F.pad(where.reshape(B, Q, B * W), (0, bank.shape[1])) for where in (masked, answers & ~masked))
    log_weights = F.log_softmax(scores.masked_fill(mask[:, None], -1e4), -1)  # [B, H, Q, B * W + N]
    log_mean = torch.logsumexp(log_weights.masked_fill(~gold[:, None], -1e4), dim=(1, 3)) - torch.tensor(float(H)).log()
    valid = positions.valid * gold.any(-1)
    return -(log_mean * valid).sum() / valid.sum().clamp(min=1)


def question_attention(q: Tensor, k: Tensor, bank: Tensor, positions: AnswerPositions) -> tuple[Tensor, Tensor]:
    """Attention probability from the questions' tokens in one layer, summed over these tokens and over heads.

    Returns [B, S, T] for the row's own tokens and [B, S, N] for the bank, the copies of a key summed.

    Args:
        q: [B, T, H, d].
        k: [B, T, Hk, d].
        bank: [Hk, N, d], keys of other texts; each stands for `_KEY_COPIES` tokens.
        positions: the questions' tokens.
    """
    B, T, Hk, d = k.shape
    S, Q = positions.questions.shape[1:]
    tokens = positions.questions.clamp(min=0).flatten(1)
    queries = q.gather(1, tokens[..., None, None].expand(B, S * Q, *q.shape[2:])).transpose(1, 2).unflatten(1, (Hk, -1))
    own = (queries @ k.permute(0, 2, 3, 1)[:, :, None]).float() * d**-0.5  # [B, Hk, G, S * Q, T]
    own = own.masked_fill((torch.arange(T, device=q.device) > tokens[..., None])[:, None, None], -torch.inf)
    other = (queries @ bank.to(q.dtype).mT[None, :, None]).float() * d**-0.5 + torch.tensor(float(_KEY_COPIES)).log()
    weights = torch.cat([own, other], -1).softmax(-1).sum((1, 2)).unflatten(1, (S, Q))
    attention = (weights * (positions.questions >= 0)[..., None]).sum(2)
    return attention[..., :T], attention[..., T:]


def look_loss(attention: Tensor, bank_attention: Tensor, positions: AnswerPositions) -> Tensor:
    """-log of an answering span's share of the squared attention to documents, averaged over the spans.

    Attention is squared as in `evidence.places.attention_by_token`. Attention to the question's other answering spans
    does not count.

    Args:
        attention: [B, S, T].
        bank_attention: [B, S, N]; both of `question_attention`, summed over layers.
        positions: the document tokens and the answering spans.
    """
    T = attention.shape[-1]
    squared = attention.square() * positions.documents[:, None]
    sums = F.pad(squared.cumsum(-1), (1, 0))
    edges = sums.gather(2, positions.answers.clamp(max=T).flatten(2)).unflatten(2, (-1, 2))
    right = edges[..., 1] - edges[..., 0]  # [B, S, A]
    wrong = squared.sum(-1) - right.sum(-1) + bank_attention.square().sum(-1) / _KEY_COPIES
    losses = torch.log1p(wrong.clamp(min=0)[..., None] / right.clamp(min=1e-12))
    valid = (positions.answers[..., 1] > positions.answers[..., 0]) & (positions.questions[..., :1] >= 0)
    return (losses * valid).sum() / valid.sum().clamp(min=1)


def window_targets(gold: Tensor, num_windows: int, stride: int, size: int) -> Tensor:
    """[B, Q, W] bool: the windows of pooled keys that overlap a span enough to count as the answer.

    Args:
        gold: [B, Q, 2], the token spans.
        num_windows: W.
        stride, size: tokens between the starts of two windows, and of a window.
    """
    starts = torch.arange(num_windows, device=gold.device) * stride
    overlap = torch.minimum(gold[..., 1:], starts + size) - torch.maximum(gold[..., :1], starts)
    needed = (gold[..., 1:] - gold[..., :1]).clamp(max=_MIN_OVERLAP_TOKENS)
    return (overlap >= needed) & (needed > 0)
