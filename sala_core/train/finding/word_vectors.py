"""Word vectors from how often words stand near each other in a corpus (positive pointwise mutual information, truncated
singular value decomposition: Levy and Goldberg 2014), joined with public vectors (GloVe, in the public domain)."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sala_core.finder.related import save_related_words
from sala_core.finder.text_index import build_index, fold
from sala_core.train.finding.wordnet import WordNet

NUM_WORDS = 40_000
DIMENSIONS = 128
_OWN_DIMENSIONS = 96
_MIN_COUNT = 8
_REACH = 6  # words on each side
_CONTEXT_POWER = 0.75
_COMMON_DIRECTIONS = 3  # of the public vectors, which all words share
_PUBLIC_SHARE, _OWN_SHARE = 0.8, 0.6
_MAX_RELATIONS = 80

Floats = NDArray[np.float32]


def build_words(corpus: Path, skipped: Sequence[str], wordnet: Path, public: Path, out: Path) -> int:
    """Make the file of words, vectors and relations; return the number of words.

    Args:
        corpus: folder of texts, and of .jsonl files with the fields question and answer.
        skipped: names without suffix of files that are left out.
        wordnet: folder of the files of WordNet.
        public: JSON of word vectors: {"vectors": {word: numbers}}, the first 100 of each list.
        out: the file to write.

    Raises OSError.
    """
    texts = list(_texts(corpus, skipped))
    words = _most_common(texts)
    row_of = {word: i for i, word in enumerate(words)}
    vectors = _joined(_public_vectors(public, row_of), _own_vectors(texts, row_of))
    net = WordNet(wordnet)
    relations = []
    for word in words:
        related = {row_of[f]: g for each, g in net.related(word).items() if (f := fold(each)) in row_of}
        related.pop(row_of[word], None)
        relations.append(sorted(related.items(), key=lambda item: -item[1])[:_MAX_RELATIONS])
    save_related_words(out, words, vectors, relations)
    return len(words)


def _texts(corpus: Path, skipped: Sequence[str]) -> Iterable[tuple[tuple[str, ...], NDArray[np.int32]]]:
    """(vocabulary, ids) of every text."""
    for text in corpus_texts(corpus, skipped):
        index = build_index([text])
        yield index.vocabulary, index.ids


def corpus_texts(corpus: Path, skipped: Sequence[str]) -> Iterable[str]:
    """Every text of a folder, of .jsonl files the fields question and answer. Raises OSError.

    skipped: names without suffix of files that are left out.
    """
    for file in sorted(corpus.rglob("*")):
        if not file.is_file() or file.stem in skipped or file.name == "SOURCES.md":
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        if file.suffix == ".jsonl":
            text = "\n\n".join(f"{row['question']} {row['answer']}" for row in map(json.loads, text.splitlines()))
        yield text


def _most_common(texts: Sequence[tuple[tuple[str, ...], NDArray[np.int32]]]) -> list[str]:
    counts: Counter[str] = Counter()
    for vocabulary, ids in texts:
        numbers = np.bincount(ids, minlength=len(vocabulary)).tolist()
        counts.update(dict(zip(vocabulary, numbers, strict=True)))
    return [word for word, count in counts.most_common(NUM_WORDS) if count >= _MIN_COUNT]


def _own_vectors(texts: Sequence[tuple[tuple[str, ...], NDArray[np.int32]]], row_of: dict[str, int]) -> Floats:
    """[V, _OWN_DIMENSIONS] of length 1."""
    size, gap = len(row_of), np.full(_REACH + 2, -1, np.int64)
    pieces: list[NDArray[np.int64]] = []
    for vocabulary, ids in texts:
        pieces += [np.array([row_of.get(word, -1) for word in vocabulary], np.int64)[ids], gap]
    ids = np.concatenate(pieces)
    pairs = torch.sparse_coo_tensor(torch.zeros((2, 0), dtype=torch.int64), torch.zeros(0), (size, size))
    for distance in range(1, _REACH + 1):
        first, second = ids[:-distance], ids[distance:]
        known = (first >= 0) & (second >= 0)
        codes, counts = np.unique(first[known] * size + second[known], return_counts=True)
        where = torch.from_numpy(np.stack([codes // size, codes % size]))
        weights = torch.from_numpy(counts.astype(np.float32) / distance)
        pairs = (pairs + torch.sparse_coo_tensor(where, weights, (size, size))).coalesce()
    pairs = (pairs + pairs.t()).coalesce()
    return _truncated(_positive_information(pairs))


def _positive_information(pairs: torch.Tensor) -> torch.Tensor:
    """Positive pointwise mutual information of counted pairs, [V, V] sparse."""
    sums = torch.sparse.sum(pairs, 1).to_dense()
    context = sums**_CONTEXT_POWER / (sums**_CONTEXT_POWER).sum()
    rows, columns = pairs.indices()
    information = torch.log(pairs.values() / (sums[rows] * context[columns]) + 1e-12)
    kept = information > 0
    return torch.sparse_coo_tensor(pairs.indices()[:, kept], information[kept], pairs.shape).coalesce().to_sparse_csr()


def _truncated(matrix: torch.Tensor) -> Floats:
    """Left singular vectors times the roots of the singular values, by a randomized decomposition; rows of length 1."""
    generator = torch.Generator().manual_seed(0)
    transposed = matrix.to_sparse_coo().t().coalesce().to_sparse_csr()
    basis = matrix @ torch.randn(matrix.shape[1], _OWN_DIMENSIONS + 24, generator=generator)
    for _ in range(4):
        basis = matrix @ (transposed @ torch.linalg.qr(basis).Q)
    basis = torch.linalg.qr(basis).Q
    left, values, _ = torch.linalg.svd((transposed @ basis).T, full_matrices=False)
    vectors = (basis @ left)[:, :_OWN_DIMENSIONS] * values[:_OWN_DIMENSIONS].sqrt()
    return unit(vectors.numpy())


def _public_vectors(file: Path, row_of: dict[str, int]) -> Floats:
    """[V, 100] of length 1, without what all words share; 0 for words that have none."""
    known = json.loads(file.read_text(encoding="utf-8"))["vectors"]
    folded: dict[str, str] = {}
    for word in known:
        key = fold(word)
        if key not in folded or word == key:
            folded[key] = word
    vectors = np.zeros((len(row_of), 100), np.float32)
    for word, row in row_of.items():
        if word in folded:
            vectors[row] = known[folded[word]][:100]
    has = np.abs(vectors).sum(1) > 0
    vectors[has] -= vectors[has].mean(0)
    common = np.linalg.svd(vectors[has][:8000], full_matrices=False)[2][:_COMMON_DIRECTIONS]
    vectors[has] -= vectors[has] @ common.T @ common
    return unit(vectors)


def _joined(public: Floats, own: Floats) -> Floats:
    """[V, DIMENSIONS] of length 1: the main directions of both side by side."""
    both = unit(np.concatenate([public * _PUBLIC_SHARE, own * _OWN_SHARE], axis=1))
    left, values, _ = np.linalg.svd(both, full_matrices=False)
    return unit(left[:, :DIMENSIONS] * values[:DIMENSIONS])


def unit(vectors: Floats) -> Floats:
    """The rows of [V, D] with length 1; rows of zeros stay."""
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)).astype(np.float32)
