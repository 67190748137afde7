"""Needles that share no word with their question: the link is knowledge of the world (NoLiMa, arXiv:2502.05167).

Our own links and names; "contains" as in the paper, and no other planted name may stand in the answer.
"""

import re

from sala_core.evals.haystack import Haystack, Needle, Planted, chars_for, fitted
from sala_core.evals.records import Question, Reading, SampleSpec, Task, require
from sala_core.evals.scoring import match_name
from sala_core.evals.suites.nolima_facts import KINDS, LINKS, NAMES, Link
from sala_core.evals.words import ADJECTIVES, listed

LABELS = ("one_hop", "two_hop")
_MAX_TOKENS = 64
_CAPITAL = re.compile(r"\b[A-Z]\w+")
_CONTENT = re.compile(r"[^\W\d_]{3,}")
_COMMON = frozenset(
    listed(
        "the and who which with has been can from for one all day that his her their every year someone person a an of"
        " to in on is as by was into lives large city country streets people talk could works"
    )
) | frozenset(ADJECTIVES)


def association(order: SampleSpec) -> Reading:
    """A person with a link for every two questions (one step, two steps); no question has two answers.

    Names, places and things that the text itself speaks of are left out.
    """
    rng = order.rng
    text = order.texts.text(rng, chars_for(order.length))
    links = _links(order, text)
    spoken = set(_CAPITAL.findall(text))
    names = [name for name in NAMES if name not in spoken]
    require(len(names) >= len(links), "the text uses too many of this suite's names; give another --text")
    people = rng.sample(names, len(links))
    plants = [
        Needle(text=rng.choice(KINDS[link.kind].needles).format(name=who, thing=link.thing), depth=depth)
        for link, who, depth in zip(links, people, order.depths()[::2], strict=True)
    ]

    def questions(planted: Planted) -> tuple[Question, ...]:
        made = []
        for i in range(order.num_questions):
            link, who, label = links[i // 2], people[i // 2], LABELS[(order.first + i) % 2]
            form = KINDS[link.kind].one_hop if label == "one_hop" else KINDS[link.kind].two_hop
            made.append(
                Question(
                    text=form.format(one=link.one, two=link.two),
                    gold=(who,),
                    max_tokens=_MAX_TOKENS,
                    depth=planted.depth(i // 2),
                    needles=(planted.spans[i // 2],),
                    label=label,
                    hidden={"others": " ".join(name for name in people if name != who)},
                )
            )
        return tuple(made)

    return fitted(order, Haystack(text), plants, questions)


def _links(order: SampleSpec, text: str) -> list[Link]:
    """Links of different kinds, as far as there are, that the text does not speak of."""
    words = set(_CONTENT.findall(text.lower()))
    free = [
        link
        for link in LINKS
        if link.kind not in ("landmark", "speech") or not (keywords(link.one) | keywords(link.two)) & words
    ]
    order.rng.shuffle(free)
    wanted = (order.num_questions + 1) // 2
    rounds: list[tuple[int, Link]] = []
    seen: dict[str, int] = {}
    for link in free:
        seen[link.kind] = seen.get(link.kind, 0) + 1
        rounds.append((seen[link.kind], link))
    picked = [link for _, link in sorted(rounds, key=lambda item: item[0])][:wanted]
    require(len(picked) == wanted, "the text speaks of too many of this suite's places; give another --text")
    return picked


def keywords(text: str) -> set[str]:
    """Words that carry meaning, in lower case."""
    return {word for word in _CONTENT.findall(text.lower()) if word not in _COMMON}


NOLIMA = (Task(name="nolima", make=association, score=match_name, labels=LABELS),)
