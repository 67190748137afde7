"""Fit the finder again: `python -m sala_core.train.finding words ...`, then `... fit ...`.

`sala_core/train/README.md` has the whole commands.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sala_core.finder.confidence import SIGNS
from sala_core.finder.features import NAMES
from sala_core.finder.ranking import FITTED, Linear
from sala_core.finder.related import FILE
from sala_core.train.finding.encoder import join_encoder
from sala_core.train.finding.examples import Example, load_examples
from sala_core.train.finding.fit import (
    Judged,
    cross_validated,
    fit_confidence,
    fit_ranking,
    fold_of,
    probability,
    threshold,
)
from sala_core.train.finding.word_vectors import build_words

_PRECISIONS = (0.9, 0.8, 0.7, 0.6, 0.5)
NOTED_PRECISION = 0.7
"""Share of the answers given that are noted with their questions. Others answer too, so that four of five are right."""


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    words = commands.add_parser("words", help="word vectors and relations")
    words.add_argument("--wordnet", type=Path, required=True, help="folder of WordNet's files")
    words.add_argument("--public-vectors", type=Path, required=True, help='JSON: {"vectors": {word: [100 numbers]}}')
    words.add_argument("--out", type=Path, default=FILE)
    encoder = commands.add_parser("encoder", help="better word vectors, by a sentence encoder")
    for command in (words, encoder):
        command.add_argument("--corpus", type=Path, required=True)
        command.add_argument("--skip", nargs="*", default=[], metavar="NAME", help="files to leave out, without suffix")
    encoder.add_argument("--encoder", type=Path, required=True, help="folder of the encoder, as transformers saves it")
    encoder.add_argument("--words", type=Path, default=FILE, help="file of words, as the command of this name makes it")
    encoder.add_argument("--out", type=Path, default=FILE)
    fit = commands.add_parser("fit", help="ranking and confidence")
    fit.add_argument("--questions", type=Path, nargs="+", required=True, metavar="FILE")
    fit.add_argument("--texts", type=Path, nargs="+", required=True, metavar="DIR", help="where the texts are")
    fit.add_argument("--out", type=Path, default=FITTED)
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.command == "words":
        count = build_words(options.corpus, options.skip, options.wordnet, options.public_vectors, options.out)
        print(f"{count:,} words in {options.out}")
    elif options.command == "encoder":
        count = join_encoder(options.words, options.corpus, options.skip, options.encoder, options.out)
        print(f"{count:,} words in {options.out}")
    else:
        examples = list(load_examples(options.questions, options.texts))
        table = fitted_table(examples)
        options.out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        print(f"fitted on {len(examples):,} questions: {options.out}")


def fitted_table(examples: Sequence[Example]) -> dict[str, object]:
    """Fit everything; the figures and the threshold in the table are of texts that were left out."""
    judged = cross_validated(examples)
    left_out = np.zeros(len(judged), np.float32)
    folds = np.array([fold_of(each.example) for each in judged])
    for fold in sorted(set(folds.tolist())):
        confidence = fit_confidence([each for each, of in zip(judged, folds, strict=True) if of != fold])
        left_out[folds == fold] = probability(
            confidence, [each for each, of in zip(judged, folds, strict=True) if of == fold]
        )
    asked = [i for i, each in enumerate(judged) if is_as_asked(each)]
    values, shown = left_out[asked], [judged[i] for i in asked]
    confidence, ranking = fit_confidence(judged), fit_ranking(examples)
    return {
        "figures": figures(values, shown),
        "threshold": threshold(values, shown, NOTED_PRECISION),
        "ranking": _table(ranking, NAMES),
        "confidence": _table(confidence, SIGNS),
        "confidence_bias": confidence.bias,
    }


def is_as_asked(judged: Judged) -> bool:
    """Whether the answers of the question were not hidden."""
    return judged.example.has_answer and not judged.are_answers_hidden and not judged.example.is_made


def figures(values: np.ndarray, judged: Sequence[Judged]) -> dict[str, object]:
    """Counts over questions that have an answer, and how many get one at each precision. values: their confidence."""
    order = np.argsort(-values, kind="stable")
    right = np.cumsum([judged[i].is_right for i in order])
    return {
        "questions": len(judged),
        "best sentence is right": sum(each.is_right for each in judged),
        "best place is right": sum(each.right_place for each in judged),
        "a place of five is right": sum(each.in_five for each in judged),
        "a place of five is right, BM25": sum(each.bm25_in_five for each in judged),
        "answers given at a precision": {
            str(share): int((values >= threshold(values, judged, share)).sum()) for share in _PRECISIONS
        },
        "right of the most confident tenth": float(right[len(right) // 10 - 1] / max(1, len(right) // 10)),
    }


def _table(fitted: Linear, names: Sequence[str]) -> dict[str, dict[str, float]]:
    rows = zip(names, fitted.mean, fitted.scale, fitted.weights, strict=True)
    return {name: {"mean": float(m), "scale": float(s), "weight": round(float(w), 6)} for name, m, s, w in rows}


if __name__ == "__main__":
    main()
