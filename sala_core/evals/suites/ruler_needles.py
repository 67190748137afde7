"""RULER's eight needle tasks (arXiv:2404.06654, section 3, appendix B): values of keys, in noise, prose or needles."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

from sala_core.evals.haystack import Haystack, Needle, Planted, chars_for, fitted
from sala_core.evals.records import Question, Reading, SampleSpec, Task
from sala_core.evals.scoring import match_all
from sala_core.evals.words import keys, listed, number, uuid_text

NOISE = "The lamp is lit. The street is empty. The rain has stopped. Here we stand. On and on it goes.\n"
_MAX_TOKENS = 128
# one kind of value for each needle of a reading, so that a single needle stays the only one of its kind
_KINDS = listed(
    "secret number, ticket number, locker number, garden number, cabin number, ledger number, harbour number, "
    "parcel number, licence number, pension number, archive number, telephone number, order number, seat number, "
    "account number, register number"
)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One of the eight. num_keys: planted at least. per_key: values of each key; asked: keys of each question."""

    haystack: Literal["noise", "prose", "needles"]
    uuid_keys: bool = False
    uuid_values: bool = False
    num_keys: int = 1
    per_key: int = 1
    asked: int = 1


VARIANTS = {
    "niah_single_1": Variant(haystack="noise"),
    "niah_single_2": Variant(haystack="prose"),
    "niah_single_3": Variant(haystack="prose", uuid_values=True),
    "niah_multikey_1": Variant(haystack="prose", num_keys=4),
    "niah_multikey_2": Variant(haystack="needles"),
    "niah_multikey_3": Variant(haystack="needles", uuid_keys=True, uuid_values=True),
    "niah_multivalue": Variant(haystack="prose", per_key=4),
    "niah_multiquery": Variant(haystack="prose", asked=4),
}


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """One question's keys, the values that answer it, and the indices of its plants."""

    kind: str
    keys: tuple[str, ...]
    values: tuple[str, ...]
    plants: tuple[int, ...]


def needle_task(name: str) -> Task:
    """The task of this name."""
    return Task(name=name, make=_maker(VARIANTS[name]), score=match_all)


def _maker(variant: Variant) -> Callable[[SampleSpec], Reading]:
    def make(order: SampleSpec) -> Reading:
        rng = order.rng
        wanted = max(variant.num_keys, order.num_questions * variant.asked)
        dense = order.length // 12 if variant.haystack == "needles" else 0
        made = [uuid_text(rng) for _ in range(wanted + dense)] if variant.uuid_keys else keys(rng, wanted + dense)
        plants, asked = _plants(order, variant, made[:wanted])
        filler = Haystack(_text(order, variant, made[wanted:]))
        single = variant.per_key == variant.asked == 1

        def questions(planted: Planted) -> tuple[Question, ...]:
            return tuple(
                Question(
                    text=_question(one, variant),
                    gold=one.values,
                    max_tokens=_MAX_TOKENS,
                    depth=planted.depth(one.plants[0]) if single else None,
                    needles=tuple(planted.spans[i] for i in one.plants),
                )
                for one in asked
            )

        return fitted(order, filler, plants, questions)

    return make


def _plants(order: SampleSpec, variant: Variant, made: list[str]) -> tuple[list[Needle], list[_Asked]]:
    """The needles of all questions, then those that only distract."""
    rng = order.rng
    alone = variant.haystack != "needles" and variant.num_keys == variant.per_key == variant.asked == 1
    kinds = rng.sample(_KINDS, order.num_questions) if alone and order.num_questions <= len(_KINDS) else []
    plants: list[Needle] = []
    asked = []
    for i, depth in enumerate(order.depths()):
        own = made[i * variant.asked : (i + 1) * variant.asked]
        kind = kinds[i] if kinds else _KINDS[0]
        first, values = len(plants), []
        for key in own:
            for n in range(variant.per_key):
                values.append(_value(rng, variant))
                at = depth if n == 0 and len(own) == 1 else rng.random()
                plants.append(Needle(text=_needle(kind, key, values[-1], variant), depth=at))
        where = tuple(range(first, len(plants)))
        asked.append(_Asked(kind=kind, keys=tuple(own), values=tuple(values), plants=where))
    for key in made[order.num_questions * variant.asked :]:
        text = _needle(_KINDS[0], key, _value(rng, variant), variant)
        plants.append(Needle(text=text, depth=rng.random()))
    return plants, asked


def _text(order: SampleSpec, variant: Variant, made: list[str]) -> str:
    if variant.haystack == "prose":
        return order.texts.text(order.rng, chars_for(order.length))
    if variant.haystack == "noise":
        return NOISE * (chars_for(order.length) // len(NOISE) + 1)
    return "\n".join(_needle(_KINDS[0], key, _value(order.rng, variant), variant) for key in made)


def _needle(kind: str, key: str, value: str, variant: Variant) -> str:
    return f"One {kind} of {key} is {value}." if variant.per_key > 1 else f"The {kind} of {key} is {value}."


def _value(rng: Random, variant: Variant) -> str:
    return uuid_text(rng) if variant.uuid_values else number(rng)


def _question(asked: _Asked, variant: Variant) -> str:
    if variant.per_key > 1:
        return f"What are all the {asked.kind}s of {asked.keys[0]} in the text?"
    if variant.asked > 1:
        return f"What are the {asked.kind}s of {', '.join(asked.keys[:-1])} and {asked.keys[-1]} in the text?"
    return f"What is the {asked.kind} of {asked.keys[0]}?"
