"""Numbers that tell how well each sentence of a text answers a question. They are what the ranking is fitted on."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sala_core.finder.question import AnswerKind, QuestionWords
from sala_core.finder.related import SAME_WORD, RelatedWords
from sala_core.finder.text_index import TextIndex
from sala_core.finder.words import Inflections

Floats = NDArray[np.float32]

NAMES = (
    "own0", "own1", "own3", "own8", "own25", "relation0", "relation1", "relation3", "relation8",
    "near0", "near1", "near3", "near8", "near0_squared", "near1_squared", "near3_squared",
    "share_own0", "share_near1", "share_near3", "rarest0", "rarest3", "other0", "other1", "name3", "name12",
    "heading", "order", "person", "number", "reason", "place", "place_name", "category", "category_near",
    "is_question", "length", "is_short", "bm25", "meaning0", "meaning1", "meaning3", "definition",
    "similar0", "similar1", "similar3",
)  # fmt: skip
"""The features in their order. A digit is the number of sentences on both sides whose words count too."""

_MIN_COSINE = 0.45
"""Vectors below this similarity are unrelated."""
_NAME_SHARE = 0.3  # of the similarity of a vector that a name keeps: vectors of names say little
_RELATED_SHARE = 0.8
_BM25_K1, _BM25_B = 1.2, 0.75
_SENTENCES_AT_ONCE = 2048  # whose sums stay in the processor's cache
_MEANING_REACHES = (0, 1, 3)
_DEFINING = ("is", "are", "was", "were", "means", "refers", "describes", "ist", "sind", "est", "sont", "es", "son")
_REASONS = ("because", "for", "since", "therefore", "order", "reason", "weil", "denn", "car", "parce", "porque")
_PLACES = (
    "in",
    "at",
    "to",
    "from",
    "near",
    "into",
    "behind",
    "under",
    "on",
    "inside",
    "within",
    "beside",
    "nach",
    "dans",
)


@dataclass(frozen=True, kw_only=True)
class SearchedText:
    """An index with what is derived from it once for all questions."""

    index: TextIndex
    related: RelatedWords
    inflections: Inflections
    vectors: Floats
    """[V, D]"""
    meaning: NDArray[np.float16] = field(repr=False)
    """[S, D] sums of the vectors of each sentence's words, each word weighted by how rare it is."""
    meaning_norms: Floats = field(repr=False)
    """[len(_MEANING_REACHES), S] lengths of these sums over each sentence and as many neighbors on both sides."""
    rows: NDArray[np.int64] = field(repr=False)
    """Sentences that have words, ascending; the words of the i-th begin at `row_starts[i]`."""
    row_starts: NDArray[np.int64] = field(repr=False)

    @classmethod
    def of(cls, index: TextIndex, related: RelatedWords) -> "SearchedText":
        """Derive what the features need."""
        rows, starts = np.unique(index.sentence_of, return_index=True)
        vectors = related.vectors_of(index)
        meaning = _sentence_vectors(index, vectors, rows.astype(np.int64), starts.astype(np.int64))
        return cls(
            index=index,
            related=related,
            inflections=Inflections(index),
            vectors=vectors,
            meaning=meaning.astype(np.float16),
            meaning_norms=np.stack([_window_norms(meaning, reach) for reach in _MEANING_REACHES]),
            rows=rows.astype(np.int64),
            row_starts=starts.astype(np.int64),
        )

    def in_sentences(self, by_word: Floats) -> Floats:
        """The greatest value of any word of each sentence, [S]. by_word: [V], not negative."""
        found = np.zeros(self.index.num_sentences, dtype=np.float32)
        if len(self.rows):
            found[self.rows] = np.maximum.reduceat(by_word[self.index.ids], self.row_starts)
        return found

    def holds(self, words: NDArray[np.bool_]) -> Floats:
        """1 for each sentence with one of some places of words, [S]. words: [W]."""
        found = np.zeros(self.index.num_sentences, dtype=np.float32)
        found[self.index.sentence_of[words]] = 1
        return found


@dataclass(frozen=True, kw_only=True)
class _Term:
    """One word of the question in the text. Arrays: [V], 1 for the word itself."""

    weight: float
    own: Floats
    relation: Floats
    near: Floats
    similar: Floats
    """Cosine of the vectors, not below 0."""
    is_name: bool
    vector: Floats
    """[D]"""


def sentence_features(text: SearchedText, question: QuestionWords) -> Floats:
    """[S, len(NAMES)] float32, every feature of every sentence."""
    terms = [_term(text, word, question.sought) for word in question.sought]
    weights = np.array([term.weight for term in terms], dtype=np.float32)
    weights /= max(float(weights.sum()), 1e-9)
    own = np.stack([text.in_sentences(term.own) for term in terms])
    relation = np.stack([text.in_sentences(term.relation) for term in terms])
    near = np.stack([text.in_sentences(term.near) for term in terms])
    is_name = np.array([term.is_name for term in terms])
    features = _coverage(own, relation, near, weights, is_name)
    features |= _answer_kind(text, question, terms)
    features["category_near"] = features["category"] * features["other1"]
    index = text.index
    features["heading"] = _heading_coverage(text, own, weights)
    features["order"] = _word_order(text, question)
    features["is_question"] = index.is_question.astype(np.float32)
    features["length"] = np.log1p(index.lengths).astype(np.float32)
    features["is_short"] = (index.lengths < 5).astype(np.float32)
    features["definition"] = _definition(text, question)
    features["bm25"] = _bm25(text, terms)
    features |= _meaning(text, terms)
    similar = np.stack([text.in_sentences(term.similar) for term in terms])
    for reach in _MEANING_REACHES:
        features[f"similar{reach}"] = weights @ (_window_max(similar, reach) if reach else similar)
    return np.stack([features[name] for name in NAMES], axis=1)


def _sentence_vectors(index: TextIndex, vectors: Floats, rows: NDArray[np.int64], starts: NDArray[np.int64]) -> Floats:
    """[S, D], see `SearchedText.meaning`.

    The first words of many sentences are added at once, then their second ones, and so on.
    """
    found = np.zeros((index.num_sentences, vectors.shape[1]), np.float32)
    weighted = vectors * _rarity(index.frequency, len(rows))[:, None]
    for at in range(0, len(rows), _SENTENCES_AT_ONCE):
        block = rows[at : at + _SENTENCES_AT_ONCE]
        order = np.argsort(-index.lengths[block], kind="stable")  # those that have an n-th word come first
        lengths, first = index.lengths[block][order], starts[at : at + _SENTENCES_AT_ONCE][order]
        sums = weighted[index.ids[first]]
        for place in range(1, int(lengths[0])):
            many = int(np.searchsorted(-lengths, -place))
            sums[:many] += weighted[index.ids[first[:many] + place]]
        found[block[order]] = sums
    return found


def _rarity(frequency: NDArray[np.int32], count: int) -> Floats:
    """Inverse document frequency of words that stand in `frequency` of `count` sentences; 0 for very common ones."""
    return np.log1p(np.maximum(0.0, count - frequency + 0.5) / (frequency + 0.5)).clip(0).astype(np.float32)


def _meaning(text: SearchedText, terms: list["_Term"]) -> dict[str, Floats]:
    """Cosine between the sum of the question's vectors and that of each sentence, or of it and its neighbors."""
    sought = np.zeros(text.vectors.shape[1], np.float32)
    for term in terms:
        sought += term.weight * term.vector
    sought /= max(float(np.linalg.norm(sought)), 1e-9)
    dots = np.zeros(len(text.meaning), np.float32)
    for at in range(0, len(dots), _SENTENCES_AT_ONCE):
        dots[at : at + _SENTENCES_AT_ONCE] = text.meaning[at : at + _SENTENCES_AT_ONCE].astype(np.float32) @ sought
    return {
        f"meaning{reach}": (_window_sum(dots, reach) / norms).astype(np.float32)
        for reach, norms in zip(_MEANING_REACHES, text.meaning_norms, strict=True)
    }


def _window_norms(values: Floats, reach: int) -> Floats:
    """[S] lengths of the sums of the rows i - reach ... i + reach. values: [S, D].

    The square of a sum is the sum of the products of all pairs, and pairs at one distance are summed at once.
    """
    size = len(values)
    squares = _window_sum(np.einsum("ij,ij->i", values, values), reach)
    for distance in range(1, min(2 * reach, size - 1) + 1):
        pairs = np.einsum("ij,ij->i", values[:-distance], values[distance:])
        sums = np.concatenate([[0.0], np.cumsum(pairs, dtype=np.float64)])
        at = np.arange(size)
        first = np.clip(at - reach, 0, len(pairs))
        last = np.maximum(np.minimum(at + reach + 1, size) - distance, first)  # of the pairs, whose first rows they are
        squares += 2 * (sums[last] - sums[first])
    return np.sqrt(np.maximum(squares, 1e-12)).astype(np.float32)


def _window_sum(values: Floats, reach: int) -> NDArray[np.float64]:
    """[S] the sums of the values i - reach ... i + reach. values: [S]."""
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    at = np.arange(len(values))
    return sums[np.minimum(at + reach + 1, len(values))] - sums[np.maximum(at - reach, 0)]


def _term(text: SearchedText, word: str, sought: tuple[str, ...]) -> _Term:
    index, size = text.index, len(text.index.vocabulary)
    own, relation = np.zeros(size, np.float32), np.zeros(size, np.float32)
    own[text.inflections.of(word)] = 1
    for other, weight in text.related.relations(word):
        at = index.word_of.get(other)
        if at is not None and weight >= SAME_WORD:
            own[at] = 1
        elif at is not None and other not in sought:
            relation[at] = weight
    relation = np.maximum(own, relation)
    near = relation * _RELATED_SHARE
    cosines = np.zeros(size, np.float32)
    row = text.related.row_of.get(word)
    if row is not None:
        cosines = (text.vectors @ text.related.vector(row)).clip(0, 1)
        cosines[index.is_name] *= _NAME_SHARE
        near = np.maximum(near, ((cosines - _MIN_COSINE) / (1 - _MIN_COSINE)).clip(0) * _RELATED_SHARE)
    near = np.maximum(near, own)
    known = own > 0
    frequency = int(index.frequency[known].sum())
    count = max(1, len(text.rows))
    weight = float(np.log1p(max(0.0, count - frequency + 0.5) / (frequency + 0.5)))
    at = index.word_of.get(word)
    return _Term(
        weight=weight,
        own=own,
        relation=relation,
        near=near,
        similar=np.maximum(cosines, own),
        is_name=at is not None and bool(index.is_name[at]),
        vector=text.related.vector(row) if row is not None else np.zeros(text.vectors.shape[1], np.float32),
    )


def _window_max(values: Floats, reach: int) -> Floats:
    """The maximum over the columns i - reach ... i + reach. values: [..., S]."""
    found, width = values, 1
    total = 2 * reach + 1
    while width < total:  # found[i] is the maximum of values[i ... i + width - 1]
        step = min(width, total - width)
        shifted = np.zeros_like(found)
        shifted[..., :-step] = found[..., step:]
        found, width = np.maximum(found, shifted), width + step
    centered = np.zeros_like(found)
    if found.shape[-1] > reach:
        centered[..., reach:] = found[..., : found.shape[-1] - reach]
    for i in range(min(reach, found.shape[-1])):
        centered[..., i] = values[..., : i + reach + 1].max(-1)
    return centered


def _coverage(
    own: Floats, relation: Floats, near: Floats, weights: Floats, is_name: NDArray[np.bool_]
) -> dict[str, Floats]:
    """Shares of the question's words, by weight, that stand in each sentence or around it."""
    features: dict[str, Floats] = {"own25": weights @ _window_max(own, 25)}
    windows: dict[tuple[str, int], Floats] = {}
    for name, values in (("own", own), ("relation", relation), ("near", near)):
        for reach in (0, 1, 3, 8):
            windows[name, reach] = _window_max(values, reach) if reach else values
            features[f"{name}{reach}"] = weights @ windows[name, reach]
    for reach in (0, 1, 3):
        features[f"near{reach}_squared"] = features[f"near{reach}"] ** 2
    features["share_own0"] = (own > 0).mean(0, dtype=np.float32)
    for reach in (1, 3):
        features[f"share_near{reach}"] = (windows["near", reach] > 0.3).mean(0, dtype=np.float32)
    rarest = int(weights.argmax())
    features["rarest0"], features["rarest3"] = near[rarest], windows["near", 3][rarest]
    others, names = _normalized(weights * ~is_name), _normalized(weights * is_name)
    features["other0"], features["other1"] = others @ near, others @ windows["near", 1]
    features["name3"], features["name12"] = names @ windows["own", 3], names @ _window_max(own, 12)
    return features


def _normalized(weights: Floats) -> Floats:
    return (weights / max(float(weights.sum()), 1e-9)).astype(np.float32)


def _answer_kind(text: SearchedText, question: QuestionWords, terms: list[_Term]) -> dict[str, Floats]:
    """Whether each sentence holds what the question asks for: a name, a number, a reason, a place, a kind of thing."""
    index, kind = text.index, question.kind
    asked = np.zeros(len(index.vocabulary), bool)
    for term in terms:
        asked |= term.own > 0
    names = text.holds((index.is_name & ~asked)[index.ids] & index.capitalized)
    category = np.zeros(len(index.vocabulary), np.float32)
    if question.category:
        term = _term(text, question.category, ())
        category = np.where(term.own > 0, 0, term.near).astype(np.float32)
    return {
        "person": names * (kind is AnswerKind.PERSON),
        "number": text.holds(index.is_number[index.ids]) * (kind is AnswerKind.NUMBER),
        "reason": text.in_sentences(_listed(index, _REASONS)) * (kind is AnswerKind.REASON),
        "place": text.in_sentences(_listed(index, _PLACES)) * (kind is AnswerKind.PLACE),
        "place_name": names * (kind is AnswerKind.PLACE),
        "category": text.in_sentences(category),
    }


def _definition(text: SearchedText, question: QuestionWords) -> Floats:
    """1 for sentences that begin with a word of the question, or after an article, and say what it is; else 0."""
    index = text.index
    if question.kind is not AnswerKind.THING or not len(text.rows):
        return np.zeros(index.num_sentences, np.float32)
    asked = np.zeros(len(index.vocabulary), bool)
    for word in question.sought:
        asked[text.inflections.of(word)] = True
    first, last = text.row_starts, len(index.ids) - 1
    begins = asked[index.ids[first]] | asked[index.ids[np.minimum(first + 1, last)]]
    found = np.zeros(index.num_sentences, np.float32)
    found[text.rows[begins]] = 1
    return found * text.in_sentences(_listed(index, _DEFINING))


def _listed(index: TextIndex, words: tuple[str, ...]) -> Floats:
    found = np.zeros(len(index.vocabulary), np.float32)
    found[[index.word_of[word] for word in words if word in index.word_of]] = 1
    return found


def _heading_coverage(text: SearchedText, own: Floats, weights: Floats) -> Floats:
    """Share of the question's words that stand in the last heading above each sentence."""
    heading = text.index.heading
    return np.where(heading >= 0, (weights @ own)[np.maximum(heading, 0)], 0).astype(np.float32)


def _word_order(text: SearchedText, question: QuestionWords) -> Floats:
    """1 for two neighboring words of the question side by side in a sentence, less for one or two words between."""
    index = text.index
    found = np.zeros(index.num_sentences, np.float32)
    forms = {word: text.inflections.of(word) for word in question.sought}
    for a, b in zip(question.sequence, question.sequence[1:], strict=False):
        first = np.nonzero(np.isin(index.ids, forms[a]))[0] if a != b else np.zeros(0, np.int64)
        for distance in (1, 2, 3, -1, -2):
            at = first[(first + distance >= 0) & (first + distance < len(index.ids))]
            hits = at[np.isin(index.ids[at + distance], forms[b])]
            np.maximum.at(found, index.sentence_of[hits], np.float32(1 / abs(distance)))
    return found


def _bm25(text: SearchedText, terms: list[_Term]) -> Floats:
    """Okapi BM25 of each sentence with its two neighbors, divided by the greatest one."""
    index = text.index
    lengths = _sum3(index.lengths.astype(np.float32))
    mean = float(lengths[index.lengths > 0].mean()) if (index.lengths > 0).any() else 1.0
    norm = _BM25_K1 * (1 - _BM25_B + _BM25_B * lengths / mean)
    score = np.zeros(index.num_sentences, np.float32)
    for term in terms:
        hits = (term.own > 0)[index.ids]
        counts = _sum3(np.bincount(index.sentence_of[hits], minlength=index.num_sentences).astype(np.float32))
        score += term.weight * counts * (_BM25_K1 + 1) / (counts + norm)
    return score / max(float(score.max(initial=0.0)), 1e-9)


def _sum3(values: Floats) -> Floats:
    padded = np.pad(values, 1)
    return padded[:-2] + padded[1:-1] + padded[2:]
