"""Facts that the text tells, and facts that it does not: is the difference told? Half are near to told ones."""

from random import Random

from sala_core.evals.haystack import Haystack, Needle, Planted, chars_for, fitted
from sala_core.evals.records import Question, Reading, SampleSpec, Task
from sala_core.evals.scoring import match_presence
from sala_core.evals.words import listed, name, names, number

SYSTEM = (
    "You answer questions about the documents that follow. Quote the sentence that answers. "
    "If they do not tell, say: The text does not say."
)
LABELS = ("present", "absent")
_ROLES = listed(
    "harbour master, lighthouse keeper, archivist, ferryman, glassblower, clockmaker, bell ringer, schoolmaster, "
    "innkeeper, gatekeeper, librarian, cartographer"
)
_THINGS = listed(
    "secret code, password, favourite colour, horse, motto, locker number, safe combination, middle name, dog, "
    "birthplace, house number, favourite dish"
)
_MAX_TOKENS = 96


def presence(order: SampleSpec) -> Reading:
    """Plant a fact for every present question. Absent ones ask of another name (near) or of anything else (far)."""
    rng = order.rng
    labels = [LABELS[(order.first + i) % 2] for i in range(order.num_questions)]
    depths = order.depths()
    told = [_fact(rng) for _ in labels]
    plants = [
        Needle(text=f"The {thing} of the {role} of {place} is {value}.", depth=depth)
        for (thing, role, place, value), label, depth in zip(told, labels, depths, strict=True)
        if label == "present"
    ]
    present = [fact for fact, label in zip(told, labels, strict=True) if label == "present"]
    near = [(order.first + i) % 4 == 1 and bool(present) for i in range(order.num_questions)]
    asked = [
        fact if label == "present" else _untold(rng, present, near=beside)
        for fact, label, beside in zip(told, labels, near, strict=True)
    ]

    def questions(planted: Planted) -> tuple[Question, ...]:
        made, at = [], 0
        for (thing, role, place, value), label, beside in zip(asked, labels, near, strict=True):
            here = label == "present"
            made.append(
                Question(
                    text=f"What is the {thing} of the {role} of {place}?",
                    gold=(value,) if here else (),
                    max_tokens=_MAX_TOKENS,
                    depth=planted.depth(at) if here else None,
                    needles=(planted.spans[at],) if here else (),
                    label=label,
                    hidden={} if here else {"kind": "near" if beside else "far"},
                )
            )
            at += here
        return tuple(made)

    filler = Haystack(order.texts.text(rng, chars_for(order.length)))
    return fitted(order, filler, plants, questions, system=SYSTEM)


def _fact(rng: Random) -> tuple[str, str, str, str]:
    """(thing, role, place, value)."""
    thing = rng.choice(_THINGS)
    value = number(rng) if thing.endswith(("code", "number", "combination", "password")) else name(rng)
    return thing, rng.choice(_ROLES), name(rng), value


def _untold(rng: Random, told: list[tuple[str, str, str, str]], *, near: bool) -> tuple[str, str, str, str]:
    """A fact that nothing tells. near: it differs from one that is told by the place alone."""
    if near:
        thing, role, place, value = rng.choice(told)
        other = next(one for one in names(rng, 2) if one != place)
        return thing, role, other, value
    return _fact(rng)


ABSENT = (Task(name="absent", make=presence, score=match_presence, labels=LABELS),)
