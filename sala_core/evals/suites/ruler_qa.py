"""RULER's two question-answering tasks over our own passages: one passage answers, or two together."""

from random import Random

from sala_core.evals.haystack import Haystack, Needle, Planted, chars_for, fitted
from sala_core.evals.passages import Passage, passage, two_hops
from sala_core.evals.records import Question, Reading, SampleSpec

_MAX_TOKENS = 64


def one_hop(order: SampleSpec) -> Reading:
    """Each question is answered by one passage among passages about other things of the same kinds."""
    rng = order.rng
    gold: list[Passage] = [passage(rng) for _ in range(order.num_questions)]
    asked = [rng.choice(one.asked) for one in gold]
    plants = [Needle(text=one.text, depth=depth) for one, depth in zip(gold, order.depths(), strict=True)]

    def questions(planted: Planted) -> tuple[Question, ...]:
        return tuple(
            Question(
                text=text,
                gold=answers,
                max_tokens=_MAX_TOKENS,
                depth=planted.depth(i),
                needles=(planted.spans[i],),
            )
            for i, (text, answers) in enumerate(asked)
        )

    return fitted(order, _distractors(rng, order.length, [one.subject for one in gold]), plants, questions)


def two_hop(order: SampleSpec) -> Reading:
    """Each question needs two passages, planted at independent depths, among pairs of the same kinds and others."""
    rng = order.rng
    gold = [two_hops(rng) for _ in range(order.num_questions)]
    plants = [Needle(text=text, depth=rng.random()) for one in gold for text in (one.first, one.second)]

    def questions(planted: Planted) -> tuple[Question, ...]:
        return tuple(
            Question(
                text=one.question,
                gold=one.answers,
                max_tokens=_MAX_TOKENS,
                needles=planted.spans[2 * i : 2 * i + 2],
            )
            for i, one in enumerate(gold)
        )

    return fitted(order, _distractors(rng, order.length, []), plants, questions)


def _distractors(rng: Random, length: int, taken: list[str]) -> Haystack:
    """Passages about other things, single and in pairs."""
    parts: list[str] = []
    chars = 0
    while chars < chars_for(length):
        pair = two_hops(rng)
        others = [one for one in (passage(rng), passage(rng)) if one.subject not in taken]
        added = [*(one.text for one in others), pair.first, pair.second]
        rng.shuffle(added)
        parts += added
        chars += sum(len(part) + 2 for part in added)
    return Haystack("\n\n".join(parts), paragraphs=True)
