"""Needles that share no word with their question: the link is world knowledge (NoLiMa, arXiv:2502.05167).

Links and names are this project's own. The metric "contains" is the paper's. The score is 0 if the answer also contains
another planted name.
"""

import re

from sala_core.evals.haystack import Haystack, Needle, PlantedText, chars_for, haystack_reading
from sala_core.evals.records import Question, Reading, SampleSpec, Task, require
from sala_core.evals.scoring import match_name
from sala_core.evals.suites.nolima_facts import KINDS, LINKS, NAMES, Link
from sala_core.evals.words import ADJECTIVES, split_list

LABELS = ("one_hop", "two_hop")
_MAX_TOKENS = 64
_CAPITALIZED = re.compile(r"\b[A-Z]\w+")
_WORD = re.compile(r"[^\W\d_]{3,}")
_STOPWORDS = frozenset(
    split_list(
        "the and who which with has been can from for one all day that his her their every year someone person a an of"
        " to in on is as by was into lives large city country streets people talk could works"
    )
) | frozenset(ADJECTIVES)


def association(spec: SampleSpec) -> Reading:
    """Plant one person with a link for every two questions, one over one hop, one over two.

    Each question has one answer: names, places and languages that the haystack mentions are not used.
    """
    rng = spec.rng
    text = spec.texts.text(rng, chars_for(spec.length))
    links = _links(spec, text)
    in_text = set(_CAPITALIZED.findall(text))
    names = [name for name in NAMES if name not in in_text]
    require(len(names) >= len(links), "the text uses too many of this suite's names; give another --text")
    people = rng.sample(names, len(links))
    needles = [
        Needle(text=rng.choice(KINDS[link.kind].needles).format(name=who, thing=link.thing), depth=depth)
        for link, who, depth in zip(links, people, spec.depths()[::2], strict=True)
    ]

    def questions(planted: PlantedText) -> tuple[Question, ...]:
        made = []
        for i in range(spec.num_questions):
            link, who, label = links[i // 2], people[i // 2], LABELS[(spec.first + i) % 2]
            template = KINDS[link.kind].one_hop if label == "one_hop" else KINDS[link.kind].two_hop
            made.append(
                Question(
                    text=template.format(one=link.one, two=link.two),
                    gold=(who,),
                    max_tokens=_MAX_TOKENS,
                    depth=planted.depth(i // 2),
                    needles=(planted.spans[i // 2],),
                    label=label,
                    hidden={"others": " ".join(name for name in people if name != who)},
                )
            )
        return tuple(made)

    return haystack_reading(spec, Haystack(text), needles, questions)


def _links(spec: SampleSpec, text: str) -> list[Link]:
    """Random links that the text does not mention, of as many kinds as there are."""
    words = set(_WORD.findall(text.lower()))
    unmentioned = [
        link
        for link in LINKS
        if link.kind not in ("landmark", "speech") or not (keywords(link.one) | keywords(link.two)) & words
    ]
    spec.rng.shuffle(unmentioned)
    count = (spec.num_questions + 1) // 2
    rounds: list[tuple[int, Link]] = []  # (number among its kind, link): every kind once, then every kind twice ...
    num_of_kind: dict[str, int] = {}
    for link in unmentioned:
        num_of_kind[link.kind] = num_of_kind.get(link.kind, 0) + 1
        rounds.append((num_of_kind[link.kind], link))
    picked = [link for _, link in sorted(rounds, key=lambda item: item[0])][:count]
    require(len(picked) == count, "the text speaks of too many of this suite's places; give another --text")
    return picked


def keywords(text: str) -> set[str]:
    """Words in lower case, stopwords and adjectives excluded."""
    return {word for word in _WORD.findall(text.lower()) if word not in _STOPWORDS}


NOLIMA = (Task(name="nolima", make=association, score=match_name, labels=LABELS),)
