"""Losses beside the next token: which blocks and keys a question should find, and how the sentence of a key began.

Training on whole answers alone teaches a small model late, or never, where to look. Nothing of this is in the result.
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
from sala_core.train.recipe import GUIDING, Phase

_BANK_WINDOWS, _WINDOWS_A_STEP = 8192, 512
_BANK_KEYS, _KEY_COPIES = 8192, 8  # each key of the bank counts as so many: as if 65,536 more tokens had been read
_MIN_OVERLAP_TOKENS = 12


class AuxiliaryLosses(NextToken):
    """Cross-entropy of the next token, and by a phase's factors: `block_loss` of the choice of blocks, `look_loss` of
    what questions look at, and `memory_loss` of what `memory` tells.

    memory: one matrix for each of a sentence's first tokens. From what the first softmax layer is given at a token,
    they tell how its sentence began: a key must know that, for the sentence to be quoted from its beginning.
    bank: [softmax layers, Hk, N, d] fp32, pooled keys of earlier steps, all of them wrong choices. keys: the same of
    single tokens of documents.
    """

    wants_notes = True
    bank: Tensor
    keys: Tensor

    def __init__(self, network: Network, target_share: float = 1.0, seed: int = 0) -> None:
        """Raises TrainError for a model without softmax layers."""
        super().__init__(network, target_share)
        config, generator = network.config, torch.Generator().manual_seed(seed)
        if not config.sparse_layers:
            raise TrainError(f"{', '.join(GUIDING)} need a softmax layer; the model has none")
        self.softmax, D = config.sparse_layers, config.hidden_size
        self.memory = nn.ModuleList(nn.Linear(D, D, bias=False) for _ in range(MEMORY_TOKENS))
        for parameter in self.memory.parameters():
            nn.init.normal_(parameter, std=D**-0.5, generator=generator)
        for name, size in (("bank", _BANK_WINDOWS), ("keys", _BANK_KEYS)):
            shape = (len(self.softmax), config.num_key_value_heads, size, config.head_dim)
            self.register_buffer(name, torch.randn(shape, generator=generator) * 0.01)
        self.block_factor = self.memory_factor = self.look_factor = 0.0

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield from super().trained()
        yield from self.memory.named_parameters(prefix="memory")

    def remembered(self) -> dict[str, Tensor]:
        return {"bank": self.bank, "keys": self.keys}

    def prepare(self, phase: Phase, sparse: bool) -> None:
        super().prepare(phase, sparse)
        size = self.config.sparse_config.kernel_size
        if phase.block_loss and phase.length < size:
            raise TrainError(f"block_loss needs rows of {size} tokens or more, found length {phase.length}")
        self.block_factor, self.memory_factor, self.look_factor = phase.block_loss, phase.memory_loss, phase.look_loss

    def forward(
        self, ids: Tensor, weights: Tensor, notes: AnswerPositions | None = None, *, measure: bool = False
    ) -> Tensor:
        if measure:
            return super().forward(ids, weights, measure=True)
        assert notes is not None
        given: list[Tensor] = []

        def note(layer: int, x: Tensor, mixed: Tensor) -> None:
            if layer in self.softmax:
                given.append(x)

        total = self.next_token(self.network(ids[:, :-1], note), ids, weights)
        beside = weights.new_zeros(())
        compared = self._compared(given, ids) if self.block_factor or self.look_factor else []
        if self.block_factor:
            beside = beside + self.block_factor * self._blocks(compared, notes)
        if self.look_factor:
            beside = beside + self.look_factor * self._look(compared, notes)
        if self.memory_factor:
            beside = beside + self.memory_factor * self._memory(given[0], notes)
        return total + beside * weights.sum()  # means among sums: the loop divides by the weight

    def _compared(self, given: list[Tensor], ids: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Queries and keys of every softmax layer."""
        compared = []
        for layer, x in zip(self.softmax, given, strict=True):
            mixer = self.network.layers[layer].self_attn
            assert isinstance(mixer, SoftmaxMixer)
            turn = self.network.turns(ids[:, :-1], {mixer.head_dim})[mixer.head_dim] if mixer.rotary else None
            compared.append(mixer.queries_keys(x, turn))
        return compared

    def _blocks(self, compared: list[tuple[Tensor, Tensor]], notes: AnswerPositions) -> Tensor:
        """The mean of the softmax layers' `block_loss`; their pooled keys push the oldest out of the bank."""
        sparse, losses, kept = self.config.sparse_config, [], []
        for index, (q, k) in enumerate(compared):
            pooled = pooled_keys(k, sparse.kernel_size, sparse.kernel_stride)
            losses.append(block_loss(q, pooled, self.bank[index], notes, sparse.kernel_stride, sparse.kernel_size))
            kept.append(pooled.detach().transpose(0, 1).flatten(1, 2).float())
        new = torch.stack(kept)
        new = new[:, :, :: -(-new.shape[2] // _WINDOWS_A_STEP)]
        _push(self.bank, new)
        return torch.stack(losses).mean()

    def _look(self, compared: list[tuple[Tensor, Tensor]], notes: AnswerPositions) -> Tensor:
        """`look_loss` of all softmax layers together; keys of documents push the oldest out."""
        drawn = [attention_drawn(q, k, bank, notes) for (q, k), bank in zip(compared, self.keys, strict=True)]
        mass, beside = (torch.stack(part).sum(0) for part in zip(*drawn, strict=True))
        held = notes.held.flatten()
        rows = torch.arange(len(notes.held), device=held.device).repeat_interleave(notes.held.shape[1])
        new = torch.stack([k[rows, held].detach().transpose(0, 1).float() for _, k in compared])
        is_text = (notes.beginnings[..., 0] >= 0).flatten()[:, None]
        new = torch.where(is_text, new, self.keys[:, :, : new.shape[2]])  # where there is none, the oldest stays
        _push(self.keys, new)
        return look_loss(mass, beside, notes)

    def _memory(self, given: Tensor, notes: AnswerPositions) -> Tensor:
        """Mean -log of the sentences' first tokens at the positions noted. given: [B, T, D]."""
        held = given.gather(1, notes.held[..., None].expand(-1, -1, given.shape[-1]))
        logits = torch.stack([F.linear(tell(held), self.network.vocabulary) for tell in self.memory], 2).float()
        wanted = notes.beginnings.flatten()
        lost = F.cross_entropy(logits.flatten(0, 2), wanted, ignore_index=-1, reduction="sum")
        return lost / (wanted >= 0).sum().clamp(min=1)


def _push(bank: Tensor, new: Tensor) -> None:
    """Add new keys [layers, Hk, n, d] to a bank, from which the oldest go. In place."""
    bank.copy_(torch.cat([bank, new], 2)[:, :, -bank.shape[2] :])


def pooled_keys(k: Tensor, size: int, stride: int) -> Tensor:
    """k: [B, T, Hk, d] -> means over whole windows [B, Hk, W, d], as block selection compares them."""
    B, _, Hk, _ = k.shape
    return F.avg_pool1d(k.permute(0, 2, 3, 1).flatten(0, 1), size, stride).mT.unflatten(0, (B, Hk))


def block_loss(q: Tensor, pooled: Tensor, bank: Tensor, notes: AnswerPositions, stride: int, size: int) -> Tensor:
    """-log of the heads' share of attention over pooled keys that falls on windows of the answering sentence.

    q: [B, T, H, d]; pooled: [B, Hk, W, d]; bank: [Hk, N, d]. Windows of all other rows and of the bank are wrong
    answers, so that the choice is learnt against much text. Means over the known queries that have a right window.
    """
    B, Hk, W, d = pooled.shape
    Q, H = notes.queries.shape[1], q.shape[2]
    asking = q.gather(1, notes.queries[..., None, None].expand(B, Q, H, d)).transpose(1, 2)
    pool = torch.cat([pooled.transpose(0, 1).reshape(Hk, B * W, d), bank.to(pooled.dtype)], 1)
    scores = (asking.unflatten(1, (Hk, -1)) @ pool[None, :, None].mT).flatten(1, 2).float() * d**-0.5
    ends = torch.arange(W, device=q.device) * stride + size
    own = torch.eye(B, dtype=torch.bool, device=q.device)[:, None, :, None]
    late = own & (ends > notes.first[..., None])[:, :, None]  # in the question's own turn
    right = own & window_targets(notes.gold, W, stride, size)[:, :, None]
    blocked, gold = (F.pad(where.reshape(B, Q, B * W), (0, bank.shape[1])) for where in (late, right & ~late))
    shares = F.log_softmax(scores.masked_fill(blocked[:, None], -1e4), -1)  # [B, H, Q, B * W + N]
    hit = torch.logsumexp(shares.masked_fill(~gold[:, None], -1e4), dim=(1, 3)) - torch.tensor(float(H)).log()
    known = notes.known * gold.any(-1)
    return -(hit * known).sum() / known.sum().clamp(min=1)


def attention_drawn(q: Tensor, k: Tensor, bank: Tensor, notes: AnswerPositions) -> tuple[Tensor, Tensor]:
    """What the questions' tokens look at in one layer: attention probability, summed over tokens and heads.

    q: [B, T, H, d]; k: [B, T, Hk, d]; bank: [Hk, N, d], keys of other texts, each of which stands for `_KEY_COPIES`
    tokens. Returns [B, S, T] of the row's tokens and [B, S, N] of the bank's, all copies of a key together.
    """
    B, T, Hk, d = k.shape
    S, Q = notes.asking.shape[1:]
    at = notes.asking.clamp(min=0).flatten(1)
    asking = q.gather(1, at[..., None, None].expand(B, S * Q, *q.shape[2:])).transpose(1, 2).unflatten(1, (Hk, -1))
    own = (asking @ k.permute(0, 2, 3, 1)[:, :, None]).float() * d**-0.5  # [B, Hk, G, S * Q, T]
    own = own.masked_fill((torch.arange(T, device=q.device) > at[..., None])[:, None, None], -torch.inf)
    other = (asking @ bank.to(q.dtype).mT[None, :, None]).float() * d**-0.5 + torch.tensor(float(_KEY_COPIES)).log()
    shares = torch.cat([own, other], -1).softmax(-1).sum((1, 2)).unflatten(1, (S, Q))
    drawn = (shares * (notes.asking >= 0)[..., None]).sum(2)
    return drawn[..., :T], drawn[..., T:]


def look_loss(mass: Tensor, beside: Tensor, notes: AnswerPositions) -> Tensor:
    """-log of an answering span's part of what documents drew, attention squared as `attention_by_token` has it.

    mass: [B, S, T]; beside: [B, S, N], of `attention_drawn`, summed over layers. What other answering spans of the
    question drew is no error. The mean over the spans.
    """
    T = mass.shape[-1]
    squared = mass.square() * notes.documents[:, None]
    sums = F.pad(squared.cumsum(-1), (1, 0))
    spans = notes.answers.clamp(max=T).flatten(2)
    edges = sums.gather(2, spans).unflatten(2, (-1, 2))
    right = edges[..., 1] - edges[..., 0]  # [B, S, A]
    wrong = squared.sum(-1) - right.sum(-1) + beside.square().sum(-1) / _KEY_COPIES
    lost = torch.log1p(wrong.clamp(min=0)[..., None] / right.clamp(min=1e-12))
    known = (notes.answers[..., 1] > notes.answers[..., 0]) & (notes.asking[..., :1] >= 0)
    return (lost * known).sum() / known.sum().clamp(min=1)


def window_targets(gold: Tensor, num_windows: int, stride: int, size: int) -> Tensor:
    """[B, Q, W] bool: pooled key windows that hold enough of the span gold [B, Q, 2] to count as right."""
    starts = torch.arange(num_windows, device=gold.device) * stride
    overlap = torch.minimum(gold[..., 1:], starts + size) - torch.maximum(gold[..., :1], starts)
    needed = (gold[..., 1:] - gold[..., :1]).clamp(max=_MIN_OVERLAP_TOKENS)
    return (overlap >= needed) & (needed > 0)
