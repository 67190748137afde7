"""RULER's eight needle tasks (arXiv:2404.06654, section 3, appendix B): values of keys, in noise, prose or needles."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

from sala_core.evals.haystack import Haystack, Needle, PlantedText, chars_for, haystack_reading
from sala_core.evals.records import Question, Reading, SampleSpec, Task
from sala_core.evals.scoring import match_all
from sala_core.evals.words import keys, number, split_list, uuid_text

_NOISE = "The lamp is lit. The street is empty. The rain has stopped. Here we stand. On and on it goes.\n"
_MAX_TOKENS = 128
# a kind of value for each needle of a reading, so that every needle is the only one of its kind
_KINDS = split_list(
    "secret number, ticket number, locker number, garden number, cabin number, ledger number, harbour number, "
    "parcel number, licence number, pension number, archive number, telephone number, order number, seat number, "
    "account number, register number"
)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One of the eight tasks.

    haystack: what surrounds the needles; "needles" is a haystack of distractor needles alone.
    num_keys: the least number of planted keys. values_per_key: needles per key. keys_per_question: keys asked for.
    """

    haystack: Literal["noise", "prose", "needles"]
    uuid_keys: bool = False
    uuid_values: bool = False
    num_keys: int = 1
    values_per_key: int = 1
    keys_per_question: int = 1


VARIANTS = {
    "niah_single_1": Variant(haystack="noise"),
    "niah_single_2": Variant(haystack="prose"),
    "niah_single_3": Variant(haystack="prose", uuid_values=True),
    "niah_multikey_1": Variant(haystack="prose", num_keys=4),
    "niah_multikey_2": Variant(haystack="needles"),
    "niah_multikey_3": Variant(haystack="needles", uuid_keys=True, uuid_values=True),
    "niah_multivalue": Variant(haystack="prose", values_per_key=4),
    "niah_multiquery": Variant(haystack="prose", keys_per_question=4),
}


@dataclass(frozen=True, kw_only=True)
class _NeedleQuestion:
    """A question's kind of value and keys, the values that answer it, and the indices of their needles."""

    kind: str
    keys: tuple[str, ...]
    values: tuple[str, ...]
    needles: tuple[int, ...]


def needle_task(name: str) -> Task:
    """The task of this name in `VARIANTS`."""
    return Task(name=name, make=_maker(VARIANTS[name]), score=match_all)


def noise_text(length: int) -> str:
    """RULER's noise, repeated sentences, enough for `length` tokens."""
    return _NOISE * (chars_for(length) // len(_NOISE) + 1)


def _maker(variant: Variant) -> Callable[[SampleSpec], Reading]:
    def make(spec: SampleSpec) -> Reading:
        rng = spec.rng
        num_keys = max(variant.num_keys, spec.num_questions * variant.keys_per_question)
        num_distractors = spec.length // 12 if variant.haystack == "needles" else 0
        count = num_keys + num_distractors
        all_keys = [uuid_text(rng) for _ in range(count)] if variant.uuid_keys else keys(rng, count)
        needles, asked = _needles(spec, variant, all_keys[:num_keys])
        haystack = Haystack(_haystack_text(spec, variant, all_keys[num_keys:]))
        one_needle_each = variant.values_per_key == variant.keys_per_question == 1

        def questions(planted: PlantedText) -> tuple[Question, ...]:
            return tuple(
                Question(
                    text=_question_text(one, variant),
                    gold=one.values,
                    max_tokens=_MAX_TOKENS,
                    depth=planted.depth(one.needles[0]) if one_needle_each else None,
                    needles=tuple(planted.spans[i] for i in one.needles),
                )
                for one in asked
            )

        return haystack_reading(spec, haystack, needles, questions)

    return make


def _needles(spec: SampleSpec, variant: Variant, planted_keys: list[str]) -> tuple[list[Needle], list[_NeedleQuestion]]:
    """The needles of all questions followed by distractors, and the questions."""
    rng = spec.rng
    single = variant.num_keys == variant.values_per_key == variant.keys_per_question == 1
    own_kinds = variant.haystack != "needles" and single and spec.num_questions <= len(_KINDS)
    kinds = rng.sample(_KINDS, spec.num_questions) if own_kinds else []
    needles: list[Needle] = []
    asked = []
    for i, depth in enumerate(spec.depths()):
        question_keys = planted_keys[i * variant.keys_per_question : (i + 1) * variant.keys_per_question]
        kind = kinds[i] if kinds else _KINDS[0]
        first, values = len(needles), []
        for key in question_keys:
            for n in range(variant.values_per_key):
                values.append(_value(rng, variant))
                at = depth if n == 0 and len(question_keys) == 1 else rng.random()
                needles.append(Needle(text=_needle_text(kind, key, values[-1], variant), depth=at))
        indices = tuple(range(first, len(needles)))
        asked.append(_NeedleQuestion(kind=kind, keys=tuple(question_keys), values=tuple(values), needles=indices))
    for key in planted_keys[spec.num_questions * variant.keys_per_question :]:
        text = _needle_text(_KINDS[0], key, _value(rng, variant), variant)
        needles.append(Needle(text=text, depth=rng.random()))
    return needles, asked


def _haystack_text(spec: SampleSpec, variant: Variant, distractor_keys: list[str]) -> str:
    if variant.haystack == "prose":
        return spec.texts.text(spec.rng, chars_for(spec.length))
    if variant.haystack == "noise":
        return noise_text(spec.length)
    return "\n".join(_needle_text(_KINDS[0], key, _value(spec.rng, variant), variant) for key in distractor_keys)


def _needle_text(kind: str, key: str, value: str, variant: Variant) -> str:
    return f"One {kind} of {key} is {value}." if variant.values_per_key > 1 else f"The {kind} of {key} is {value}."


def _value(rng: Random, variant: Variant) -> str:
    return uuid_text(rng) if variant.uuid_values else number(rng)


def _question_text(question: _NeedleQuestion, variant: Variant) -> str:
    if variant.values_per_key > 1:
        return f"What are all the {question.kind}s of {question.keys[0]} in the text?"
    if variant.keys_per_question > 1:
        listed = f"{', '.join(question.keys[:-1])} and {question.keys[-1]}"
        return f"What are the {question.kind}s of {listed} in the text?"
    return f"What is the {question.kind} of {question.keys[0]}?"
