"""The look-up: full attention from a question's tokens to every key that the state holds.

Its result ranks evidence and quotations, and names the blocks with which the question is then prefilled.
"""

import re
from functools import partial

import numpy as np
import torch
from sala_kernels import BlockLayout
from torch import Tensor

from sala_core.model.forward import AttentionTrace, SalaModel
from sala_core.model.state import SalaState
from sala_core.text.chat_template import ChatLayout
from sala_core.text.tokenizer import Tokenizer

MAX_LOOKUP_TOKENS = 256
"""Longer questions get no look-up. They choose blocks while they are prefilled, as any text does."""

_RELEVANCE_SCALE = 0.01
"""Attention probability, averaged over heads, from which on a key counts as relevant: one key in a hundred."""

_MIN_ATTENTION = 0.002
"""Lower attention is ignored, so a token is paired with at most 500 keys."""

QUERIES_AT_ONCE = 16
"""Question tokens per forward pass. Bounds the [queries, keys] attention that is held in memory."""

_QUOTATION_MARK = re.compile(r"[\"“”„«»`]|(?<!\w)['‘]|['’](?!\w)")
_WORD_AT_LINE_START = re.compile(r"(?:^|\n)(?=\w)")


def question_ids(tokenizer: Tokenizer, question: str) -> np.ndarray:
    """Token ids of a question, with every word spelled as inside a text: after a space. Returns int32 [T].

    Byte-pair tokenizers use other tokens for a word after a quotation mark or at the start of a line, and keys are
    found by their tokens. Quotation marks are removed.
    """
    return tokenizer.encode_content(_WORD_AT_LINE_START.sub(r"\g<0> ", _QUOTATION_MARK.sub("", question)))


@torch.inference_mode()
def attend_to_question(
    model: SalaModel, chat: ChatLayout, state: SalaState, question: np.ndarray, trace: AttentionTrace
) -> Tensor:
    """Measure how relevant each key is to a question, and add it to `trace`.

    The question is run as a user message, with full attention, through the layers up to the first sparse one. That
    layer matches words; later layers look for what an answer says next. Pooled keys would blur single words, so no
    blocks are chosen. The tokens that end the message count too, since they have attended to all of it. Those that
    open it do not: a role's name matches no key.

    Within a block, tokens and keys are paired one to one, strongest attention first. So a word counts once per block,
    although later tokens of the question attend to its key too, and although it may stand in the block twice. A pair
    adds log(1 + (attention / _RELEVANCE_SCALE)^2): a sentence with three words of the question outranks a sentence
    that has one of them strongly. The square root is added to `trace`, because `attention_by_token` squares it.

    Args:
        model: the model that computed the state.
        chat: the pieces that its chat template puts around a user message.
        state: all that was read. It is the same afterwards.
        question: [T] integer ids, as from `question_ids`.
        trace: the relevance of every key is added to its buffer of the first sparse layer.

    Returns the most relevant blocks that the question's own queries may choose, [slots] int64, as `SalaModel.prefill`
    takes them.
    """
    queries = np.concatenate([question, chat.message_suffix("user")])
    layer, heads = model.config.sparse_layers[0], model.config.num_attention_heads
    start_mark, relevance = state.mark(), trace.buffer(layer, state.position, model.device)
    pairs: list[tuple[Tensor, ...]] = []
    prefill = partial(model.prefill, state, dense=True, num_layers=layer + 1)
    prefill(_to_device(model, chat.message_prefix("user")))
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        ids = _to_device(model, queries[start : start + QUERIES_AT_ONCE])
        per_query = PerQueryTrace(len(ids))
        prefill(ids, trace=per_query)
        attention = per_query.mass[layer][:, : len(relevance)].div_(heads)
        tokens, keys = (attention >= _MIN_ATTENTION).nonzero(as_tuple=True)
        pairs.append((start + tokens, keys, attention[tokens, keys]))
    start_mark.rewind()
    tokens, keys, attention = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    paired = _pair_one_to_one(tokens, keys, attention, model.layout.block)
    points = torch.zeros_like(relevance)
    points[keys[paired]] = (attention[paired] / _RELEVANCE_SCALE).square().log1p()
    relevance += points.sqrt()
    return _best_blocks(points, model.layout)


def _pair_one_to_one(tokens: Tensor, keys: Tensor, attention: Tensor, block: int) -> Tensor:
    """Indices of the pairs that count, int64, strongest first. No key is in two pairs, and no token in two pairs of
    one block. tokens, keys, attention: [n], one entry a pair."""
    order = attention.argsort(descending=True, stable=True)
    accepted, paired_keys, paired_tokens = [], set(), set()
    for i, token, key in zip(order.tolist(), tokens[order].tolist(), keys[order].tolist(), strict=True):
        token_in_block = token, key // block
        if key not in paired_keys and token_in_block not in paired_tokens:
            accepted.append(i)
            paired_keys.add(key)
            paired_tokens.add(token_in_block)
    return torch.tensor(accepted, dtype=torch.int64, device=keys.device)


def _best_blocks(points: Tensor, layout: BlockLayout) -> Tensor:
    """The blocks with most points, ascending, then -1, among those that a query after these keys may choose.

    points: [n], not negative. Returns [slots] int64.
    """
    size, first = layout.block, layout.init
    end = first + layout.num_candidates(len(points) // size)
    by_block = points[first * size : end * size].view(-1, size).sum(1)
    best = by_block.argsort(descending=True, stable=True)[: min(layout.slots, int(by_block.count_nonzero()))]
    blocks = torch.full((layout.slots,), -1, device=points.device)
    blocks[: len(best)] = first + best.sort().values
    return blocks


class PerQueryTrace(AttentionTrace):
    """Keeps the attention of each query apart: mass [T, n] for every layer that runs."""

    def __init__(self, num_queries: int) -> None:
        super().__init__()
        self._num_queries = num_queries

    def buffer(self, layer: int, num_keys: int, device: torch.device) -> Tensor:
        self.mass[layer] = torch.zeros(self._num_queries, num_keys, device=device)
        return self.mass[layer]


def _to_device(model: SalaModel, ids: np.ndarray) -> Tensor:
    return torch.from_numpy(ids.astype(np.int64)).to(model.device)
