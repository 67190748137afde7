"""What is minimised: next-token loss on weighted targets, and the choice of blocks in the sparse layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sala_core.train.embedded.data import Batch, window_targets
from sala_core.train.embedded.network import EmbeddedNetwork

_TARGET_SHARE = 0.4


def pooled_keys(k: Tensor, size: int, stride: int) -> Tensor:
    """k: [B, G, T, d] -> means over whole windows [B, G, W, d], as block selection compares them."""
    return F.avg_pool1d(k.flatten(0, 1).mT, size, stride).mT.unflatten(0, k.shape[:2])


def memory_loss(network: EmbeddedNetwork, given: Tensor, batch: Batch) -> Tensor:
    """Mean -log of the first tokens of the sentences that positions stand in. given: [B, T, D], of `hidden`."""
    D = given.shape[-1]
    held = given.gather(1, batch.held[..., None].expand(-1, -1, D))
    logits = torch.stack([F.linear(tell(held), network.vocabulary) for tell in network.memory], 2).float()
    return F.cross_entropy(logits.flatten(0, 2), batch.beginnings.flatten(), ignore_index=-1)


def block_loss(q: Tensor, pooled: Tensor, bank: Tensor, batch: Batch, stride: int, size: int) -> Tensor:
    """-log of the heads' share of attention over pooled keys that falls on windows of the answering sentence.

    q: [B, H, T, d]; pooled: [B, G, W, d]; bank: [G, N, d] pooled keys of earlier batches. Windows of all
    other rows and of the bank are wrong answers, so the choice is learnt against much text.
    """
    B, G, W, d = pooled.shape
    Q, H = batch.queries.shape[1], q.shape[1]
    chosen = q.gather(2, batch.queries[:, None, :, None].expand(B, H, Q, d))
    pool = torch.cat([pooled.transpose(0, 1).reshape(G, B * W, d), bank.to(pooled.dtype)], 1)
    scores = (chosen.unflatten(1, (G, -1)) @ pool[None, :, None].mT).flatten(1, 2).float() * d**-0.5
    ends = torch.arange(W) * stride + size
    hidden = ends[None, None, :] > batch.first[..., None]
    own = torch.eye(B, dtype=torch.bool)[:, None, :, None]
    blocked = F.pad((own & hidden[:, :, None, :]).reshape(B, Q, B * W), (0, bank.shape[1]))
    gold = own & window_targets(batch.gold, W, stride, size)[:, :, None, :]
    gold = F.pad(gold.reshape(B, Q, B * W), (0, bank.shape[1])) & ~blocked
    shares = F.log_softmax(scores.masked_fill(blocked[:, None], -1e4), -1)
    hit = torch.logsumexp(shares.masked_fill(~gold[:, None], -1e4), dim=(1, 3)) - torch.log(torch.tensor(float(H)))
    known = batch.known * gold.any(-1)
    return -(hit * known).sum() / known.sum().clamp(min=1)


def training_loss(
    network: EmbeddedNetwork,
    batch: Batch,
    targets: Tensor,
    bank: Tensor,
    block_factor: Tensor,
    memory_factor: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Total loss, next-token, block and memory loss, and this batch's pooled keys [layers, G, B * W, d] for the bank.

    targets: [M] flat positions whose next token is scored (see `choose_targets`).
    """
    config = network.config.sparse_config
    hidden, scored, given = network.hidden(batch.ids[:, :-1])
    logits = F.linear(hidden.flatten(0, 1)[targets], network.vocabulary).float()
    losses = F.cross_entropy(logits, batch.ids[:, 1:].flatten()[targets], reduction="none")
    weights = batch.weights.flatten()[targets]
    text = (losses * weights).sum() / weights.sum()
    pooled = [pooled_keys(k, config.kernel_size, config.kernel_stride) for _, k in scored]
    blocks = torch.stack(
        [
            block_loss(q, keys, bank[layer], batch, config.kernel_stride, config.kernel_size)
            for layer, ((q, _), keys) in enumerate(zip(scored, pooled, strict=True))
        ]
    ).mean()
    kept = torch.stack([keys.detach().transpose(0, 1).flatten(1, 2) for keys in pooled])
    memory = memory_loss(network, given, batch)
    total = text + block_factor * blocks + memory_factor * memory
    return total, text.detach(), blocks.detach(), memory.detach(), kept


def choose_targets(weights: Tensor, generator: torch.Generator) -> Tensor:
    """[M] flat positions: the answers first, then text at random."""
    flat = weights.flatten()
    order = (flat > 0).float() + 4 * (flat >= 0.5).float() + torch.rand(len(flat), generator=generator)
    return order.topk(int(len(flat) * _TARGET_SHARE)).indices.sort().values


@torch.no_grad()
def answer_accuracy(network: EmbeddedNetwork, batch: Batch) -> tuple[float, float, int]:
    """Share of answers that greedy decoding gives word for word, share of right answer tokens, their number.

    Greedy decoding gives exactly the wanted answer if, and only if, every token of it is the most likely one
    after those before it, so one pass decides.
    """
    hidden, *_ = network.hidden(batch.ids[:, :-1])
    right_answers = answers = right_tokens = tokens = 0
    for row in range(len(batch.ids)):
        best = F.linear(hidden[row], network.vocabulary).argmax(-1)
        right = (best == batch.ids[row, 1:]).tolist()
        scored = (batch.weights[row] >= 0.5).tolist()
        start = None
        for position, inside in enumerate([*scored, False]):
            if inside and start is None:
                start = position
            elif not inside and start is not None:
                if position < len(scored):
                    answers += 1
                    right_answers += all(right[start:position])
                    tokens += position - start
                    right_tokens += sum(right[start:position])
                start = None
    return right_answers / max(1, answers), right_tokens / max(1, tokens), answers
