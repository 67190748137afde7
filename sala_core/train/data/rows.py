"""Rows by number. Recipe, stage and sample number determine a row, whatever the number of processes or restarts."""

from __future__ import annotations

import random
from functools import cached_property

from tokenizers import Tokenizer as PlainTokenizer

from sala_core.errors import TrainError
from sala_core.text.tokenizer import Tokenizer
from sala_core.train.data.batches import Batch, answer_positions, collate, subsample_targets
from sala_core.train.data.corpus import read_texts
from sala_core.train.data.recall import RECALL_KINDS
from sala_core.train.data.tasks import Row, TaskMaker
from sala_core.train.data.token_cache import TokenCache, window
from sala_core.train.data.tokenizer_training import TURN_END, TURN_START
from sala_core.train.recipe import Recipe

TEXT = "text"
_TASKS = ("random_copy", "text_copy", "plain_text", "conversation")
ROW_KINDS = (TEXT, *RECALL_KINDS, *_TASKS)
"""The kinds of rows that a phase's `mix` can name: packed text, recall rows, and the rows of `TaskMaker`."""


class Rows:
    """The rows of one stage, for training or held out."""

    def __init__(
        self, recipe: Recipe, stage: str, tokenizer: Tokenizer, cache: TokenCache, *, held_out: bool = False
    ) -> None:
        """
        Args:
            recipe: seed, texts, tokenizer and share of targets.
            stage: name that the random numbers depend on.
            tokenizer: of the recipe.
            cache: token ids of the texts.
            held_out: make rows from the held-out texts.
        """
        self.recipe, self.held_out = recipe, held_out
        self.seed = f"{recipe.seed}/{stage}/{'held out' if held_out else 'train'}"
        self.tokens = cache.held_out if held_out else cache.train
        self.replaced = cache.replaced
        self.target_share = 1.0 if held_out else recipe.training.target_share
        control, size = sorted(tokenizer.control_ids), tokenizer.vocab_size
        at_end = bool(control) and control[0] >= size // 2  # control tokens are at the end of the vocabulary
        self.symbols = range(0, control[0]) if at_end else range(1 + max(control, default=-1), size)

    def batch(
        self, samples: range | list[int], length: int, mix: dict[str, float], *, with_positions: bool = False
    ) -> Batch:
        """Return the rows with these numbers. Raises TrainError.

        Args:
            samples: numbers of the rows.
            length: tokens of a row.
            mix: kind of rows -> weight with which it is drawn.
            with_positions: add the positions of answers.
        """
        rows = [self._row(sample, length, mix) for sample in samples]
        batch = collate(rows, length)
        if self.target_share < 1:
            for weights, seed in zip(batch.weights, self._seeds(samples, "targets"), strict=True):
                subsample_targets(weights, self.target_share, seed)
        if with_positions:
            seeds = self._seeds(samples, "notes")  # the words of seeds are fixed: other words give other rows
            batch = batch._replace(positions=answer_positions(rows, length, seeds))
        return batch

    def _seeds(self, samples: range | list[int], purpose: str) -> list[int]:
        return [random.Random(f"{self.seed}/{sample}/{purpose}").getrandbits(64) for sample in samples]

    def _row(self, sample: int, length: int, mix: dict[str, float]) -> Row:
        rng = random.Random(f"{self.seed}/{sample}")
        kind = rng.choices(list(mix), weights=list(mix.values()))[0]
        if kind == TEXT:
            row = Row()
            row.add(window(self.tokens, length, sample, self.seed).tolist(), 1.0)
            return row
        if kind in RECALL_KINDS:
            text = window(self.tokens, length, sample, self.seed)
            return RECALL_KINDS[kind](rng, length, self.symbols, text)
        row = getattr(self._task_maker, kind)(rng, length)
        assert isinstance(row, Row)
        return row

    @cached_property
    def _task_maker(self) -> TaskMaker:
        data = self.recipe.data
        file = self.recipe.tokenizer / "tokenizer.json"
        tokenizer = PlainTokenizer.from_file(str(file))
        missing = [token for token in (TURN_START, TURN_END) if tokenizer.token_to_id(token) is None]
        if missing:
            raise TrainError(f"{file} has no token {missing[0]}, which rows of the kinds {', '.join(_TASKS)} need")
        texts = read_texts(data.texts, data.held_out, only_held_out=self.held_out, library=data.python_library)
        return TaskMaker(tokenizer, list(texts))


def check_mix(mix: dict[str, float], where: str) -> None:
    """Raise TrainError for an unknown kind of rows. where: name of the table in the error."""
    unknown = sorted(set(mix) - set(ROW_KINDS))
    if unknown:
        raise TrainError(f"{where} has the unknown kind of rows {unknown[0]!r}; choose from {', '.join(ROW_KINDS)}")
