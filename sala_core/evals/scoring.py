"""The rules that answers are scored by."""

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
    r"|(no|any) (mention|information|answer|record|reference)\b|nothing is said|not enough information|unknown",
    re.IGNORECASE,
)


def match_all(question: Question, answer: str) -> dict[str, float]:
    """RULER's string_match_all: the share of gold strings that the answer contains, whatever their case."""
    said = answer.lower()
    return {"score": sum(gold.lower() in said for gold in question.gold) / len(question.gold)}


def match_part(question: Question, answer: str) -> dict[str, float]:
    """RULER's string_match_part: 1 if the answer contains any gold string, whatever its case."""
    said = answer.lower()
    return {"score": float(any(gold.lower() in said for gold in question.gold))}


def match_name(question: Question, answer: str) -> dict[str, float]:
    """NoLiMa's "contains": the name stands in the answer, here as a whole word, and no other planted name does."""
    words = set(re.findall(r"\w+", answer.lower()))
    others = question.hidden["others"].lower().split()
    right = question.gold[0].lower() in words
    return {"score": float(right and words.isdisjoint(others)), "contains": float(right)}


def match_ratio(question: Question, answer: str) -> dict[str, float]:
    """MRCR's rule (OpenAI, openai/mrcr): 0 without the prefix; else SequenceMatcher's ratio of what follows it."""
    prefix = question.hidden["prefix"]
    if not answer.startswith(prefix):
        return {"score": 0.0, "prefix": 0.0}
    wanted, found = question.gold[0].removeprefix(prefix), answer.removeprefix(prefix)
    return {"score": SequenceMatcher(None, found, wanted).ratio(), "prefix": 1.0}


def match_quotation(question: Question, answer: str) -> dict[str, float]:
    """score: the answer begins with the sentence's first 8 tokens; whole: it is the sentence; both normalised."""
    said = normalised(answer)
    return {
        "score": float(said.startswith(normalised(question.hidden["start"]))),
        "whole": float(said.rstrip(".!?\"' ") == normalised(question.gold[0]).rstrip(".!?\"' ")),
        "somewhere": float(normalised(question.gold[0]).rstrip(".!?\"' ") in said),
    }


def match_presence(question: Question, answer: str) -> dict[str, float]:
    """Absent facts: 1 if the answer says that the text does not tell, again under their kind (near or far). Present
    ones: 1 if it does not say so (else a false alarm); right: it contains the value."""
    told_absent = bool(_ABSENT.search(answer))
    if not question.gold:
        return {"score": float(told_absent), question.hidden["kind"]: float(told_absent)}
    return {
        "score": float(not told_absent),
        "false_alarm": float(told_absent),
        "right": float(question.gold[0].lower() in answer.lower()),
    }


def normalised(text: str) -> str:
    """Lower case, single spaces, plain quotation marks and dashes; no quotation marks or spaces around."""
    return " ".join(text.translate(_QUOTES).lower().split()).strip("\"' ")


Scorer = Callable[[Question, str], dict[str, float]]
