"""What a question looks at in all that was read, if blocks are not chosen: what quotations are found by."""

import re
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from sala_core.chat import ChatLayout
from sala_core.model import AttentionTrace, SalaModel
from sala_core.state import SalaState
from sala_core.tokenizer import Tokenizer

LOOKED_TOKENS = 256
"""Longer questions look as they are read: by choosing blocks."""

_EMPTY_QUESTION = "Quote the sentence."
_AT_ONCE = 16  # bounds the attention to every key that a CPU holds at once
_MARK = re.compile(r"[\"“”„«»`]|(?<!\w)['‘]|['’](?!\w)")
_LINE_START = re.compile(r"\n(?=\w)")


class Looking:
    """Questions to a model that are asked of every key, and leave the state as it was."""

    def __init__(self, model: SalaModel, tokenizer: Tokenizer, chat: ChatLayout) -> None:
        self._model, self._tokenizer, self._chat = model, tokenizer, chat

    def look(self, state: SalaState, prompt: Tensor, trace: AttentionTrace) -> None:
        """Add to `trace` what a prompt [T] looks at, beyond what a question about nothing does.

        Pooled keys blur a single word, so that the choice of blocks misses some of what attention finds; and some keys
        draw every question. Words are spelt as within a text (`words_of_a_text`).
        """
        usual, found = AttentionTrace(), AttentionTrace()
        asked = words_of_a_text(self._tokenizer, prompt.cpu().numpy())
        here = state.mark()
        for ids, seen in ((self._empty_question, usual), (asked, found)):
            for piece in torch.from_numpy(ids).to(prompt).split(_AT_ONCE):
                self._model.advance(state, piece, dense=True, trace=seen)
            here.rewind()
        share = len(asked) / len(self._empty_question)
        for layer, mass in found.mass.items():
            beyond = mass[: state.position] - share * usual.mass[layer][: state.position]
            trace.buffer(layer, state.position, mass.device).add_(beyond.clamp_(min=0))

    @cached_property
    def _empty_question(self) -> np.ndarray:
        asked = self._chat.message("user", self._tokenizer.encode_content(_EMPTY_QUESTION))
        return words_of_a_text(self._tokenizer, np.concatenate([asked, self._chat.generation_prompt()]))


def words_of_a_text(tokenizer: Tokenizer, ids: np.ndarray) -> np.ndarray:
    """A prompt, int32 or int64 [T], with every word as it stands in the middle of a text: after a space.

    Byte-pair tokenizers spell a word after a quotation mark, or at the beginning of a line, with other tokens, and a
    key is known by its tokens. Quotation marks go; control tokens stay.
    """
    control = tokenizer.is_control(ids)
    parts = [
        run if is_control else tokenizer.encode_content(_LINE_START.sub("\n ", _MARK.sub("", tokenizer.decode(run))))
        for run, is_control in _runs(ids, control)
    ]
    return np.concatenate(parts).astype(np.int64)


def _runs(ids: np.ndarray, control: np.ndarray) -> list[tuple[np.ndarray, bool]]:
    """Neighbours that are all control tokens, or all none."""
    edges = np.flatnonzero(control[1:] != control[:-1]) + 1
    starts = [0, *edges.tolist()]
    return [(run, bool(control[start])) for run, start in zip(np.split(ids, edges), starts, strict=True)]
