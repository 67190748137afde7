"""Word vectors whose sums are near each other where a sentence encoder finds texts near each other.

They begin with what the encoder makes of each word alone, and are fitted on sentences of a corpus (as in Model2Vec,
Tulkens and van Dongen 2024). No encoder is needed afterwards. The one in use was all-MiniLM-L6-v2 (Wang and others
2020, Reimers and Gurevych 2019).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from sala_core.finder.related import related_words, save_related_words
from sala_core.finder.text_index import build_index
from sala_core.train.finding.word_vectors import DIMENSIONS, corpus_texts, unit

_PRESENT_SHARE = 0.5
"""Weight of the vectors that a file has already, against those of the encoder."""
_NUM_SENTENCES = 80_000
_SENTENCE_WORDS, _SPAN_WORDS, _SPAN_SHARE = (6, 32), (3, 8), 0.5
"""Lengths of sentences, and of the parts of some of them: these are as short as questions."""
_AT_ONCE, _MAX_TOKENS = 32, 128
_BATCH, _PASSES, _RATE, _SCALE_RATE = 512, 6, 2e-3, 0.02
_TEMPERATURE, _LOG_SCALE = 0.06, 2.5
_KEPT = 0.2
"""Weight of the squared distance of each vector from where it began."""

Floats = NDArray[np.float32]


class Encoder:
    """A sentence encoder with mean pooling."""

    def __init__(self, folder: Path) -> None:
        """folder: as `transformers` saves it. Raises OSError."""
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder).eval()

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> Floats:
        """[len(texts), D] the mean of the last states of each text, without what all have in common, of length 1."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors = np.zeros((len(texts), self._model.config.hidden_size), np.float32)
        for at in range(0, len(texts), _AT_ONCE):
            rows = order[at : at + _AT_ONCE]
            batch = self._tokenizer(
                [texts[i] for i in rows], padding=True, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt"
            )
            states, mask = self._model(**batch).last_hidden_state, batch["attention_mask"][..., None]
            vectors[rows] = ((states * mask).sum(1) / mask.sum(1)).numpy()
        vectors = unit(vectors)
        return unit(vectors - vectors.mean(0))


def join_encoder(words_file: Path, corpus: Path, skipped: Sequence[str], encoder: Path, out: Path) -> int:
    """Put better vectors into a file of words; return the number of words.

    Args:
        words_file: as `build_words` writes it.
        corpus: folder of texts, as `build_words` takes it.
        skipped: names without suffix of files that are left out.
        encoder: folder of the encoder.
        out: the file to write, with the same words and relations; may be `words_file`.

    Raises OSError.
    """
    known, encode = related_words(words_file), Encoder(encoder)
    vectors = joined((known.steps / known.lengths[:, None]).astype(np.float32), encode(known.words))
    sentences = sample_sentences(corpus, skipped, Random(0))
    taught = Taught.of(sentences, known.row_of, encode)
    vectors = fitted_vectors(vectors, taught)
    ranges = zip(known.relation_starts.tolist(), known.relation_starts[1:].tolist(), strict=False)
    relations = [
        list(zip(known.relation_words[a:b].tolist(), known.relation_weights[a:b].tolist(), strict=True))
        for a, b in ranges
    ]
    save_related_words(out, known.words, vectors, relations)
    return len(known.words)


def joined(present: Floats, encoded: Floats) -> Floats:
    """[V, DIMENSIONS] of length 1: the main directions of both side by side. Both: [V, D] of length 1."""
    both = np.concatenate([_PRESENT_SHARE * present, encoded], axis=1)
    both -= both.mean(0)
    directions = np.linalg.eigh(both.T @ both)[1][:, ::-1]
    return unit(both @ directions[:, :DIMENSIONS])


def sample_sentences(corpus: Path, skipped: Sequence[str], rng: Random) -> list[str]:
    """Sentences of a corpus, and parts of some, in any order. The longer a text, the more of it."""
    texts = list(corpus_texts(corpus, skipped))
    total, found = sum(map(len, texts)), []
    low, high = _SENTENCE_WORDS
    for text in texts:
        index = build_index([text])
        rows = np.flatnonzero((index.lengths >= low) & (index.lengths <= high)).tolist()
        for row in rng.sample(rows, min(len(rows), round(_NUM_SENTENCES * len(text) / total))):
            words = text[index.starts[row] : index.ends[row]].split()
            found.append(" ".join(words))
            size = rng.randint(*_SPAN_WORDS)
            if rng.random() < _SPAN_SHARE and size < len(words):
                first = rng.randrange(len(words) - size + 1)
                found.append(" ".join(words[first : first + size]))
    found = list(dict.fromkeys(found))
    rng.shuffle(found)
    return found


@dataclass(frozen=True, kw_only=True)
class Taught:
    """Sentences as rows of word vectors, with the vectors that an encoder gives them."""

    rows: tuple[NDArray[np.int64], ...]
    """Of each sentence, those of its words that are known."""
    rarity: Floats
    """[V] inverse document frequency over the sentences."""
    targets: Floats
    """[sentences, D] of length 1."""

    @classmethod
    def of(cls, sentences: Sequence[str], row_of: dict[str, int], encode: Encoder) -> "Taught":
        """Encode the sentences that have a known word."""
        rows, kept = [], []
        for sentence in sentences:
            index = build_index([sentence])
            known = np.array([row_of.get(word, -1) for word in index.vocabulary], np.int64)[index.ids]
            if (known >= 0).any():
                rows.append(known[known >= 0])
                kept.append(sentence)
        holders = np.bincount(np.concatenate([np.unique(each) for each in rows]), minlength=len(row_of))
        rarity = np.log1p((len(rows) - holders + 0.5) / (holders + 0.5)).astype(np.float32)
        return cls(rows=tuple(rows), rarity=rarity, targets=encode(kept))


def fitted_vectors(start: Floats, taught: Taught) -> Floats:
    """[V, D] word vectors of length 1, fitted so that the sums of sentences have the neighbors that the encoder gives.

    For each sentence of a batch, the softmax over its similarities to the others is fitted to that of the encoder.
    start: [V, D] of length 1.
    """
    begin, rarity, targets = (torch.from_numpy(each) for each in (start, taught.rarity, taught.targets))
    vectors = torch.nn.Parameter(begin.clone())
    log_scale = torch.nn.Parameter(torch.tensor(_LOG_SCALE))
    groups = [{"params": [vectors], "lr": _RATE}, {"params": [log_scale], "lr": _SCALE_RATE}]
    optimizer, rng = torch.optim.Adam(groups), np.random.default_rng(0)
    size = min(_BATCH, len(taught.rows))
    for _ in range(_PASSES):
        order = rng.permutation(len(taught.rows))
        for at in range(0, len(order) - size + 1, size):
            batch = order[at : at + size]
            words = torch.from_numpy(np.concatenate([taught.rows[i] for i in batch]))
            offsets = torch.from_numpy(np.cumsum([0, *(len(taught.rows[i]) for i in batch[:-1])]))
            sums = torch.nn.functional.embedding_bag(
                words, vectors, offsets, mode="sum", per_sample_weights=rarity[words]
            )
            sums = torch.nn.functional.normalize(sums, dim=1, eps=1e-6)
            itself, wanted = torch.eye(size) * -1e4, targets[torch.from_numpy(batch)]
            shares = torch.softmax(wanted @ wanted.T / _TEMPERATURE + itself, 1)
            found = torch.log_softmax(sums @ sums.T * log_scale.exp() + itself, 1)
            moved = (vectors[words] - begin[words]).square().sum(1).mean()
            optimizer.zero_grad()
            (-(shares * found).sum(1).mean() + _KEPT * moved).backward()
            optimizer.step()
    return unit(vectors.detach().numpy())
