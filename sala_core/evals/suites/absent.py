"""Facts that the text gives and facts that it does not: does the model tell them apart?

Half of the absent facts are near: they differ from a planted fact only in the place's name.
"""

from random import Random

from sala_core.evals.haystack import Haystack, Needle, PlantedText, chars_for, haystack_reading
from sala_core.evals.records import Question, Reading, SampleSpec, Task
from sala_core.evals.scoring import match_presence
from sala_core.evals.words import name, names, number, split_list

SYSTEM = (
    "You answer questions about the documents that follow. Quote the sentence that answers. "
    "If they do not tell, say: The text does not say."
)
LABELS = ("present", "absent")
_ROLES = split_list(
    "harbour master, lighthouse keeper, archivist, ferryman, glassblower, clockmaker, bell ringer, schoolmaster, "
    "innkeeper, gatekeeper, librarian, cartographer"
)
_THINGS = split_list(
    "secret code, password, favourite colour, horse, motto, locker number, safe combination, middle name, dog, "
    "birthplace, house number, favourite dish"
)
_MAX_TOKENS = 96

_Fact = tuple[str, str, str, str]
"""(thing, role, place, value)."""


def presence(spec: SampleSpec) -> Reading:
    """Ask for planted facts and for absent ones in turn; absent facts are near and far in turn."""
    rng = spec.rng
    labels = [LABELS[(spec.first + i) % 2] for i in range(spec.num_questions)]
    depths = spec.depths()
    facts = [_fact(rng) for _ in labels]
    needles = [
        Needle(text=f"The {thing} of the {role} of {place} is {value}.", depth=depth)
        for (thing, role, place, value), label, depth in zip(facts, labels, depths, strict=True)
        if label == "present"
    ]
    present = [fact for fact, label in zip(facts, labels, strict=True) if label == "present"]
    near = [(spec.first + i) % 4 == 1 and bool(present) for i in range(spec.num_questions)]
    asked = [
        fact if label == "present" else _absent_fact(rng, present, near=is_near)
        for fact, label, is_near in zip(facts, labels, near, strict=True)
    ]

    def questions(planted: PlantedText) -> tuple[Question, ...]:
        made, index = [], 0
        for fact, label, is_near in zip(asked, labels, near, strict=True):
            is_present = label == "present"
            made.append(_question(fact, planted, index if is_present else None, is_near=is_near))
            index += is_present
        return tuple(made)

    haystack = Haystack(spec.texts.text(rng, chars_for(spec.length)))
    return haystack_reading(spec, haystack, needles, questions, system=SYSTEM)


def _question(fact: _Fact, planted: PlantedText, needle: int | None, *, is_near: bool) -> Question:
    """The question for a fact. needle: its index in `planted`; None for an absent fact."""
    thing, role, place, value = fact
    return Question(
        text=f"What is the {thing} of the {role} of {place}?",
        gold=() if needle is None else (value,),
        max_tokens=_MAX_TOKENS,
        depth=None if needle is None else planted.depth(needle),
        needles=() if needle is None else (planted.spans[needle],),
        label=LABELS[needle is None],
        hidden={"kind": "near" if is_near else "far"} if needle is None else {},
    )


def _fact(rng: Random) -> _Fact:
    thing = rng.choice(_THINGS)
    value = number(rng) if thing.endswith(("code", "number", "combination", "password")) else name(rng)
    return thing, rng.choice(_ROLES), name(rng), value


def _absent_fact(rng: Random, present: list[_Fact], *, near: bool) -> _Fact:
    """A fact that the text does not give. near: it differs from a present one only in the place."""
    if near:
        thing, role, place, value = rng.choice(present)
        other = next(one for one in names(rng, 2) if one != place)
        return thing, role, other, value
    return _fact(rng)


ABSENT = (Task(name="absent", make=presence, score=match_presence, labels=LABELS),)
