"""Writing requests and the generated texts that answer them. No two texts are equal."""

from random import Random

from sala_core.evals.words import ADJECTIVES, NOUNS, split_list

FORMS = ("poem", "short story", "riddle", "letter", "speech", "song", "news report", "recipe", "diary entry", "review")
TOPICS = split_list(
    "tapirs, lighthouses, rain, bakeries, old clocks, owls, trains, gardens, the sea, kites, bees, snow, bridges, "
    "candles, maps, horses, windows, coffee, mountains, libraries, whales, shoes, autumn, foxes, mirrors, boats"
)
_OPENINGS = {
    "poem": "O {a} {n} among the {m},",
    "short story": "Once a {a} {n} lost its {m}.",
    "riddle": "I am {a} and carry a {n}; who am I?",
    "letter": "Dear {a} friend, I write beside the {n}.",
    "speech": "Citizens! Today the {a} {n} stands before us.",
    "song": "Sing of the {a} {n}, sing it twice,",
    "news report": "A {a} {n} was seen near the {m} on Monday.",
    "recipe": "Take one {a} {n} and a spoon of {m}.",
    "diary entry": "This morning the {n} was {a} again.",
    "review": "Two stars for the {a} {n}, four for the {m}.",
}
_LINES = (
    "The {topic} were {a}, or so the {n} said.",
    "Nobody sees {topic} without thinking of a {a} {n}.",
    "Beneath the {n} lay a {m}, {a} and {b}.",
    "What would {topic} be without the {a} {n}?",
    "We kept a {n} for the {b} days and a {m} for the {a} ones.",
    "A {a} {n} is worth more than a {b} {m}.",
    "In the end {topic} turned the {n} into a {m}.",
    "Give the {n} its {a} name and let the {m} rest.",
    "Every {m} remembers {topic}, however {b}.",
    "From the {a} {n} to the {b} {m} it is a long way.",
)


def request(form: str, topic: str) -> str:
    """The user's request for a text of this form about this topic."""
    article = "an" if form[0] in "aeiou" else "a"
    return f"Write {article} {form} about {topic}."


def answer(rng: Random, form: str, topic: str) -> str:
    """A random text of this form about this topic, one sentence per line."""
    lines = [_OPENINGS[form], *rng.sample(_LINES, rng.randint(4, 7))]
    return "\n".join(_fill(rng, line, topic) for line in lines)


def _fill(rng: Random, line: str, topic: str) -> str:
    a, b = rng.sample(ADJECTIVES, 2)
    n, m = rng.sample(NOUNS, 2)
    filled = line.format(topic=topic, a=a, b=b, n=n, m=m)
    return filled[0].upper() + filled[1:]
