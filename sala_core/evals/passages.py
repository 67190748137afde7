"""Short encyclopedic passages about invented subjects, each with questions that it answers."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from sala_core.evals.words import name, split_list

_COLORS = split_list("white red grey black yellow blue green brown")
_GOODS = split_list("wool glass salt paper copper cheese rope leather slate honey")
_TREES = split_list("oak birch beech pine elm willow alder chestnut")
_ANIMALS = split_list("beetle heron otter trout moth lizard squirrel finch")
_FOODS = split_list("pine seeds, water snails, young leaves, small crabs, fallen fruit, river moss")
_INSTRUMENTS = split_list("violin, flute, harp, trumpet, cello, lute, oboe, organ")
_MONTHS = split_list("January February March April May June July August September October November December")


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A text about one subject.

    questions: (question, accepted answers) pairs. The first answer of each is a short string of the text.
    """

    subject: str
    text: str
    questions: tuple[tuple[str, tuple[str, ...]], ...]


def passage(rng: Random) -> Passage:
    """A passage of a random kind: town, species, musician or disease."""
    return rng.choice(_KINDS)(rng)


def _town(rng: Random) -> Passage:
    town, river, founder, people = name(rng), name(rng), name(rng), f"{rng.randint(2, 90)},{rng.randint(100, 999)}"
    goods, year, color, tree = rng.choice(_GOODS), rng.randint(900, 1800), rng.choice(_COLORS), rng.choice(_TREES)
    text = (
        f"{town} is a market town on the river {river}. It was founded in {year} by the merchant {founder}, whose "
        f"house still stands beside the {tree} avenue. About {people} people live there. For centuries the town has "
        f"been known for its {goods}, and the roofs of the old quarter are {color}."
    )
    questions = (
        (f"On which river does {town} lie?", (river,)),
        (f"Who founded {town}?", (founder,)),
        (f"What has {town} been known for?", (goods,)),
        (f"In which year was {town} founded?", (str(year),)),
        (f"How many people live in {town}?", (people, people.replace(",", ""))),
    )
    return Passage(subject=town, text=text, questions=questions)


def _species(rng: Random) -> Passage:
    animal, region, finder = rng.choice(_ANIMALS), name(rng), name(rng)
    called = f"{name(rng)} {animal}"
    food, size, year, tree = rng.choice(_FOODS), rng.randint(2, 90), rng.randint(1750, 1960), rng.choice(_TREES)
    text = (
        f"The {called} is a rare animal of the {region} hills. It was described in {year} by the naturalist {finder}, "
        f"who met it under a {tree}. Grown animals are {size} centimetres long. They live on {food} and are seen at "
        f"dusk."
    )
    questions = (
        (f"Who described the {called}?", (finder,)),
        (f"What does the {called} live on?", (food,)),
        (f"How long is a grown {called}?", (f"{size} centimetres", f"{size} cm")),
        (f"In which hills is the {called} found?", (region,)),
    )
    return Passage(subject=called, text=text, questions=questions)


def _musician(rng: Random) -> Passage:
    who, town, teacher = f"{name(rng)} {name(rng)}", name(rng), name(rng)
    plays, year, work, month = rng.choice(_INSTRUMENTS), rng.randint(1500, 1900), name(rng), rng.choice(_MONTHS)
    text = (
        f"{who} was a composer from {town}. Born in {month} {year}, the child of a carter, this pupil of {teacher} "
        f"first played the {plays} in taverns. The opera {work} was written within nine weeks and is still "
        f"performed."
    )
    questions = (
        (f"Which opera did {who} write?", (work,)),
        (f"Who taught {who}?", (teacher,)),
        (f"Which instrument did {who} play?", (plays,)),
        (f"Where did {who} come from?", (town,)),
        (f"In which month was {who} born?", (month,)),
    )
    return Passage(subject=who, text=text, questions=questions)


def _disease(rng: Random) -> Passage:
    called = f"{name(rng)} fever"
    sign = rng.choice(("a stiff neck", "swollen hands", "a dry cough", "blue lips", "pain in the knees"))
    cause = rng.choice(("spoiled grain", "the bite of a tick", "stale water", "damp walls", "raw shellfish"))
    cure = rng.choice(("rest in the dark", "warm baths", "salted broth", "a diet without milk", "bitter bark"))
    days = rng.randint(3, 40)
    text = (
        f"{called} begins with {sign}. Physicians of the region traced it to {cause}. It lasts about {days} days, "
        f"and most patients recovered after {cure}. Children are seldom affected."
    )
    questions = (
        (f"What causes {called}?", (cause,)),
        (f"How does {called} begin?", (sign,)),
        (f"After what did most patients with {called} recover?", (cure,)),
        (f"How many days does {called} last?", (str(days),)),
    )
    return Passage(subject=called, text=text, questions=questions)


_KINDS: tuple[Callable[[Random], Passage], ...] = (_town, _species, _musician, _disease)


@dataclass(frozen=True, kw_only=True)
class TwoHops:
    """A question that needs two passages: `first` links its subject to another one, and `second` holds the answer."""

    question: str
    answers: tuple[str, ...]
    first: str
    second: str


def two_hops(rng: Random) -> TwoHops:
    """A two-hop question. Its two passages share one invented name."""
    kind = rng.randrange(3)
    if kind == 0:
        who, village, river = f"{name(rng)} {name(rng)}", name(rng), name(rng)
        return TwoHops(
            question=f"On which river lies the village where the painter {who} was born?",
            answers=(river,),
            first=f"The painter {who} was born in {village}. The early works show cattle and carts; the late ones, "
            f"made after an illness of {rng.randint(2, 9)} years, are almost white.",
            second=f"{village} is a village on the river {river}. It has {rng.randint(40, 900)} inhabitants, a "
            f"chapel of {rng.choice(_TREES)} wood and a fair in {rng.choice(_MONTHS)}.",
        )
    if kind == 1:
        ship, captain, town = name(rng), f"{name(rng)} {name(rng)}", name(rng)
        return TwoHops(
            question=f"In which town did the captain of the ship {ship} grow up?",
            answers=(town,),
            first=f"The ship {ship} was built in {rng.randint(1600, 1890)} and carried {rng.choice(_GOODS)}. On her "
            f"last voyage she was commanded by {captain}.",
            second=f"{captain} grew up in {town} and went to sea at {rng.randint(9, 17)}. A diary of "
            f"{rng.randint(80, 700)} pages is kept by the family.",
        )
    castle, lord, year = name(rng), f"{name(rng)} {name(rng)}", str(rng.randint(1000, 1700))
    return TwoHops(
        question=f"In which year did the builder of {castle} castle die?",
        answers=(year,),
        first=f"{castle} castle stands on a rock above the sea. It was built by {lord} and burned down twice; the "
        f"walls are {rng.randint(3, 12)} feet thick.",
        second=f"{lord} was known for a love of {rng.choice(_INSTRUMENTS)} music. The death of this lord in {year} "
        f"was followed by a war over {rng.choice(_GOODS)}.",
    )
