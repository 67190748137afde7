"""RULER's two question-answering tasks over generated passages: one passage holds the answer, or two are needed."""

from random import Random

from sala_core.evals.haystack import Haystack, Needle, PlantedText, chars_for, haystack_reading
from sala_core.evals.passages import Passage, passage, two_hops
from sala_core.evals.records import Question, Reading, SampleSpec

_MAX_TOKENS = 64


def one_hop(spec: SampleSpec) -> Reading:
    """One passage answers each question. The distractors are passages about other subjects of the same kinds."""
    rng = spec.rng
    gold: list[Passage] = [passage(rng) for _ in range(spec.num_questions)]
    asked = [rng.choice(one.questions) for one in gold]
    needles = [Needle(text=one.text, depth=depth) for one, depth in zip(gold, spec.depths(), strict=True)]

    def questions(planted: PlantedText) -> tuple[Question, ...]:
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

    return haystack_reading(spec, _distractors(rng, spec.length, [one.subject for one in gold]), needles, questions)


def two_hop(spec: SampleSpec) -> Reading:
    """Each question needs two passages, planted at independent random depths. Distractors are of the same kinds."""
    rng = spec.rng
    gold = [two_hops(rng) for _ in range(spec.num_questions)]
    needles = [Needle(text=text, depth=rng.random()) for one in gold for text in (one.first, one.second)]

    def questions(planted: PlantedText) -> tuple[Question, ...]:
        return tuple(
            Question(
                text=one.question,
                gold=one.answers,
                max_tokens=_MAX_TOKENS,
                needles=planted.spans[2 * i : 2 * i + 2],
            )
            for i, one in enumerate(gold)
        )

    return haystack_reading(spec, _distractors(rng, spec.length, []), needles, questions)


def _distractors(rng: Random, length: int, taken: list[str]) -> Haystack:
    """Single passages and pairs of passages, none about a subject in `taken`, enough for `length` tokens."""
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
