"""Words that mean nearly the same: learned word vectors, and relations from WordNet. Both are in `assets/finder/`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from sala_core.assets import ASSETS
from sala_core.finder.text_index import TextIndex

FILE = ASSETS / "finder" / "words.safetensors"
SAME_WORD = 1.0
"""Weight of a relation between two forms of one word."""


@dataclass(frozen=True, kw_only=True)
class RelatedWords:
    """A vocabulary of N words with their vectors and relations."""

    words: tuple[str, ...]
    row_of: dict[str, int]
    steps: NDArray[np.int8]
    """[N, D] the vectors in whole steps: a quarter of the memory of float32."""
    lengths: NDArray[np.float32]
    """[N] lengths of `steps`."""
    relation_starts: NDArray[np.int64]
    """[N + 1] range of each word's relations."""
    relation_words: NDArray[np.int64]
    relation_weights: NDArray[np.float32]
    """0 ... 1; SAME_WORD for another form of the same word."""

    def relations(self, word: str) -> list[tuple[str, float]]:
        """The words that WordNet relates to `word`, with the weight of the relation; [] for an unknown word."""
        row = self.row_of.get(word)
        if row is None:
            return []
        rows = slice(int(self.relation_starts[row]), int(self.relation_starts[row + 1]))
        found = zip(self.relation_words[rows].tolist(), self.relation_weights[rows].tolist(), strict=True)
        return [(self.words[i], weight) for i, weight in found]

    def vectors_of(self, index: TextIndex) -> NDArray[np.float32]:
        """The vectors of a text's vocabulary, [V, D]; 0 for words without one."""
        rows = np.array([self.row_of.get(word, -1) for word in index.vocabulary], dtype=np.int64)
        known = rows[rows >= 0]
        vectors = np.zeros((len(rows), self.steps.shape[1]), dtype=np.float32)
        vectors[rows >= 0] = self.steps[known]
        vectors[rows >= 0] /= self.lengths[known, None]
        return vectors

    def vector(self, row: int) -> NDArray[np.float32]:
        """[D] the vector of a word, of length 1. row: as `row_of` has it."""
        return np.asarray(self.steps[row] / self.lengths[row], np.float32)


@lru_cache(1)
def related_words(file: Path = FILE) -> RelatedWords:
    """Load the vocabulary, its vectors and its relations."""
    tensors = load_file(file)
    words = tuple(bytes(tensors["words"]).decode().split("\n"))
    steps = tensors["vectors"]
    squares = np.einsum("ij,ij->i", steps, steps, dtype=np.float32)
    return RelatedWords(
        words=words,
        row_of={word: i for i, word in enumerate(words)},
        steps=steps,
        lengths=np.maximum(np.sqrt(squares), np.float32(1e-9)),
        relation_starts=np.concatenate([[0], np.cumsum(tensors["relation_counts"].astype(np.int64))]),
        relation_words=tensors["relation_words"].astype(np.int64),
        relation_weights=tensors["relation_weights"].astype(np.float32) / np.float32(255),
    )


def save_related_words(
    file: Path, words: Sequence[str], vectors: NDArray[np.float32], relations: Sequence[Sequence[tuple[int, float]]]
) -> None:
    """Write the file that `related_words` loads: vectors as int8, weights of relations in steps of 1/255.

    Args:
        file: where to.
        words: at most 65,536, as `fold` gives them.
        vectors: [len(words), D].
        relations: for each word the indices of others with weights 0 ... 1, at most 255.
    """
    largest = np.maximum(np.abs(vectors).max(1, keepdims=True), 1e-9)
    pairs = [pair for row in relations for pair in row]
    tensors = {
        "words": np.frombuffer("\n".join(words).encode(), np.uint8),
        "vectors": np.clip(np.round(vectors / largest * 127), -127, 127).astype(np.int8),
        "relation_counts": np.array([len(row) for row in relations], np.uint8),
        "relation_words": np.array([other for other, _ in pairs], np.uint16),
        "relation_weights": np.array([round(weight * 255) for _, weight in pairs], np.uint8),
    }
    save_file(tensors, file)
