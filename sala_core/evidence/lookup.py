"""What a question looks at in all that was read, if blocks are not chosen: what quotations are found by."""

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
"""Longer questions look as they are read: by choosing blocks."""

_MEANT = 0.01  # of a head's attention: what a key draws that is one of a hundred
_LEAST = 0.002  # what is less is left out, so that no token has more than 500 keys
_AT_ONCE = 16  # tokens of a question; bounds the attention to every key that is held at once
_MARK = re.compile(r"[\"“”„«»`]|(?<!\w)['‘]|['’](?!\w)")
_WORD_START = re.compile(r"(?:^|\n)(?=\w)")


@torch.inference_mode()
def attend_to_question(
    model: SalaModel,
    tokenizer: Tokenizer,
    chat: ChatLayout,
    state: SalaState,
    question: np.ndarray,
    trace: AttentionTrace,
) -> Tensor:
    """Add to `trace` how much every key was meant by a question, the content of a user message, int [T]. The state is
    afterwards as it was. Returns the blocks with most of it for the question to be read with, [slots] int64 as
    `SalaModel.prefill` takes them.

    Within a block each of its tokens is paired with one key at most and each key with one token, the most attention
    first: a word counts once, although the tokens after it look for it too and it may stand there twice. A pair counts
    the less the more attention there is: a sentence with three words of a question is meant more than one with any of
    them alone. What is added is the root of log(1 + (attention / _MEANT)^2), for what a key draws is squared
    (`attention_by_token`).

    The first sparse layer alone is asked, which looks for words; later ones look for what an answer says next. Pooled
    keys blur a single word, so that the choice of blocks would miss some. Words are spelt as within a text
    (`words_of_a_text`). The message's end counts too, which has read all of it; not what opens it: a role's name means
    no key.
    """
    opening, ending = chat.message_prefix("user"), chat.message_suffix("user")
    asked = np.concatenate([words_of_a_text(tokenizer, question), ending])
    layer, heads = model.config.sparse_layers[0], model.config.num_attention_heads
    here, meant = state.mark(), trace.buffer(layer, state.position, model.device)
    pairs: list[tuple[Tensor, ...]] = []
    prefill = partial(model.prefill, state, dense=True, num_layers=layer + 1)
    prefill(_ids(model, opening))
    for start in range(0, len(asked), _AT_ONCE):
        piece = _ids(model, asked[start : start + _AT_ONCE])
        seen = _ByQuery(len(piece))
        prefill(piece, trace=seen)
        attention = seen.mass[layer][:, : len(meant)].div_(heads)
        tokens, keys = (attention >= _LEAST).nonzero(as_tuple=True)
        pairs.append((start + tokens, keys, attention[tokens, keys]))
    here.rewind()
    tokens, keys, attention = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    kept = _one_to_one(tokens, keys, attention, model.layout.block)
    points = torch.zeros_like(meant)
    points[keys[kept]] = (attention[kept] / _MEANT).square().log1p()
    meant += points.sqrt()
    return _most_meant(points, model.layout)


def _one_to_one(tokens: Tensor, keys: Tensor, attention: Tensor, block: int) -> Tensor:
    """Which pairs count, int64: no key in two of them, no token in two of one block. All [n]; the strongest first."""
    order = attention.argsort(descending=True, stable=True)
    kept, taken, paired = [], set(), set()
    for i, token, key in zip(order.tolist(), tokens[order].tolist(), keys[order].tolist(), strict=True):
        within = token, key // block
        if key not in taken and within not in paired:
            kept.append(i)
            taken.add(key)
            paired.add(within)
    return torch.tensor(kept, dtype=torch.int64, device=keys.device)


def _most_meant(points: Tensor, layout: BlockLayout) -> Tensor:
    """Of the blocks that a query after these keys may choose from, those with most points: ascending, then -1.

    points: [n], none negative.
    """
    size, first = layout.block, layout.init
    after = first + layout.num_candidates(len(points) // size)
    by_block = points[first * size : after * size].view(-1, size).sum(1)
    best = by_block.argsort(descending=True, stable=True)[: min(layout.slots, int(by_block.count_nonzero()))]
    found = torch.full((layout.slots,), -1, device=points.device)
    found[: len(best)] = first + best.sort().values
    return found


class _ByQuery(AttentionTrace):
    """The attention of every layer computed, each query's own: mass [T, n]."""

    def __init__(self, num_queries: int) -> None:
        super().__init__()
        self._num_queries = num_queries

    def buffer(self, layer: int, num_keys: int, device: torch.device) -> Tensor:
        self.mass[layer] = torch.zeros(self._num_queries, num_keys, device=device)
        return self.mass[layer]


def words_of_a_text(tokenizer: Tokenizer, ids: np.ndarray) -> np.ndarray:
    """Content, int [T], with every word as it stands in the middle of a text: after a space. int32.

    Byte-pair tokenizers spell a word after a quotation mark, or at the beginning of a line, with other tokens, and a
    key is known by its tokens. Quotation marks go.
    """
    return tokenizer.encode_content(_WORD_START.sub(r"\g<0> ", _MARK.sub("", tokenizer.decode(ids))))


def _ids(model: SalaModel, ids: np.ndarray) -> Tensor:
    return torch.from_numpy(ids.astype(np.int64)).to(model.device)
