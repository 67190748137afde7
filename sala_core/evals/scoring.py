"""Scoring rules. Each one maps a question and an answer to metrics by name; "score" is the main one."""

import re
from collections.abc import Callable
from difflib import SequenceMatcher

from sala_core.evals.records import Question

_QUOTES = str.maketrans({"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‘": "'", "’": "'", "–": "-", "—": "-"})
_ABSENT = re.compile(
    r"(text|document|passage|it|source|excerpt)s? (does|do|did) ?(not|n't) "
    r"(say|tell|mention|state|contain|specify|give|provide|include|indicate|name|reveal)"
    r"|(is|are|was|were) ?(not|n't|never) "
    r"(in the|said|mentioned|given|stated|specified|provided|found|named|told|included|present)"
    r"|(can ?not|can't|could not) be (found|determined|answered|known)"
    r"|(no|any) (mention|information|answer|record|reference)\b|nothing is said|not enough information|unknown"
    r"|did not find",
    re.IGNORECASE,
)


def match_all(question: Question, answer: str) -> dict[str, float]:
    """RULER's string_match_all: the share of gold strings that the answer contains. Case is ignored."""
    text = answer.lower()
    return {"score": sum(gold.lower() in text for gold in question.gold) / len(question.gold)}


def match_part(question: Question, answer: str) -> dict[str, float]:
    """RULER's string_match_part: 1 if the answer contains any gold string. Case is ignored."""
    text = answer.lower()
    return {"score": float(any(gold.lower() in text for gold in question.gold))}


def match_name(question: Question, answer: str) -> dict[str, float]:
    """1 if the answer contains the gold name as a whole word and no other planted name.

    "contains" is NoLiMa's own rule, the gold name alone.
    """
    words = set(re.findall(r"\w+", answer.lower()))
    others = question.hidden["others"].lower().split()
    right = question.gold[0].lower() in words
    return {"score": float(right and words.isdisjoint(others)), "contains": float(right)}


def match_ratio(question: Question, answer: str) -> dict[str, float]:
    """MRCR's rule (openai/mrcr): 0 without the prefix, else SequenceMatcher's ratio of the text after it."""
    prefix = question.hidden["prefix"]
    if not answer.startswith(prefix):
        return {"score": 0.0, "prefix": 0.0}
    expected, text = question.gold[0].removeprefix(prefix), answer.removeprefix(prefix)
    return {"score": SequenceMatcher(None, text, expected).ratio(), "prefix": 1.0}


def match_quotation(question: Question, answer: str) -> dict[str, float]:
    """Compare an answer with the sentence asked for, both normalized.

    score: the answer begins with the sentence's first 8 tokens; whole: it is the sentence; somewhere: it contains it.
    """
    text = normalize(answer)
    return {
        "score": float(text.startswith(normalize(question.hidden["start"]))),
        "whole": float(text.rstrip(".!?\"' ") == normalize(question.gold[0]).rstrip(".!?\"' ")),
        "somewhere": float(normalize(question.gold[0]).rstrip(".!?\"' ") in text),
    }


def match_presence(question: Question, answer: str) -> dict[str, float]:
    """Score whether an answer says that the text does not give the fact.

    Absent facts: score 1 if it says so, repeated under the fact's kind (near or far). Present facts: score 1 if it does
    not say so, else false_alarm 1; right: the answer contains the value.
    """
    denies = bool(_ABSENT.search(answer))
    if not question.gold:
        return {"score": float(denies), question.hidden["kind"]: float(denies)}
    return {
        "score": float(not denies),
        "false_alarm": float(denies),
        "right": float(question.gold[0].lower() in answer.lower()),
    }


def normalize(text: str) -> str:
    """Lower case, single spaces, plain quotation marks and dashes; no spaces or quotation marks at the ends."""
    return " ".join(text.translate(_QUOTES).lower().split()).strip("\"' ")


Scorer = Callable[[Question, str], dict[str, float]]
