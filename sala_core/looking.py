"""What a question looks at in all that was read, if blocks are not chosen: what quotations are found by."""

import re

import numpy as np
import torch
from torch import Tensor

from sala_core.model import AttentionTrace, SalaModel
from sala_core.state import SalaState
from sala_core.tokenizer import Tokenizer

LOOKED_TOKENS = 256
"""Longer questions look as they are read: by choosing blocks."""

_MEANT = 0.125  # of a head's attention: what a key draws that is one of a few
_AT_ONCE = 16  # tokens of a question; bounds the attention to every key that is held at once
_MARK = re.compile(r"[\"“”„«»`]|(?<!\w)['‘]|['’](?!\w)")
_LINE_START = re.compile(r"\n(?=\w)")


@torch.inference_mode()
def look(model: SalaModel, tokenizer: Tokenizer, state: SalaState, prompt: Tensor, trace: AttentionTrace) -> None:
    """Add to `trace` how much every key was meant by a prompt [T]. The state is afterwards as it was.

    The attention of each of its tokens counts by itself, and the less the more there is of it: a sentence with
    three words of a question is meant more than one with any of them alone. What is added is the root of the sum
    of log(1 + (attention / _MEANT)^2), for what a key draws is squared (`document_mass`). The first sparse layer
    alone is asked, which looks for words; later ones look for what an answer says next. Pooled keys blur a single
    word, so that the choice of blocks would miss some. Words are spelt as within a text (`words_of_a_text`).
    """
    asked = torch.from_numpy(words_of_a_text(tokenizer, prompt.cpu().numpy())).to(prompt)
    layer, heads = model.config.sparse_layers[0], model.config.num_attention_heads
    here, meant = state.mark(), trace.buffer(layer, state.position, prompt.device)
    points = torch.zeros_like(meant)
    for piece in asked.split(_AT_ONCE):
        seen = _ByQuery(len(piece))
        model.advance(state, piece, dense=True, trace=seen, num_layers=layer + 1)
        points += seen.mass[layer][:, : len(points)].div_(heads * _MEANT).square_().log1p_().sum(0)
    here.rewind()
    meant += points.sqrt_()


class _ByQuery(AttentionTrace):
    """The attention of every layer computed, each query's own: mass [T, n]."""

    def __init__(self, num_queries: int) -> None:
        super().__init__()
        self._num_queries = num_queries

    def buffer(self, layer: int, num_keys: int, device: torch.device) -> Tensor:
        self.mass[layer] = torch.zeros(self._num_queries, num_keys, device=device)
        return self.mass[layer]


def words_of_a_text(tokenizer: Tokenizer, ids: np.ndarray) -> np.ndarray:
    """A prompt, int32 or int64 [T], with every word as it stands in the middle of a text: after a space.

    Byte-pair tokenizers spell a word after a quotation mark, or at the beginning of a line, with other tokens, and a
    key is known by its tokens. Quotation marks go; control tokens stay.
    """
    control = tokenizer.is_control(ids)
    runs = np.split(ids, np.flatnonzero(control[1:] != control[:-1]) + 1)
    return np.concatenate([run if tokenizer.is_control(run).all() else _spelt(tokenizer, run) for run in runs])


def _spelt(tokenizer: Tokenizer, ids: np.ndarray) -> np.ndarray:
    return tokenizer.encode_content(_LINE_START.sub("\n ", _MARK.sub("", tokenizer.decode(ids))))
