"""Invented chronicles: generated paragraphs of prose that never repeat."""

import textwrap
from random import Random

from sala_core.evals.words import name, names, split_list

LINE_CHARS = 80
"""Maximum length of a line of generated text. Short lines matter, since evidence is a range of lines."""

_TRADES = split_list(
    "baker cooper miller weaver tanner mason potter shepherd carpenter bookbinder gardener fisherman teacher doctor "
    "surveyor painter tailor printer beekeeper joiner saddler brewer chandler thatcher"
)
_GOODS = split_list(
    "salt wool barley copper rope timber honey glass paper leather linen cheese tar slate coal hops cider tin lace "
    "apples candles grain oil bricks"
)
_PLACES = split_list(
    "mill, market hall, old bridge, harbour, quarry, town gate, school, chapel, boathouse, tannery, upper meadow, "
    "fish market, granary, bathhouse, south wall, well, orchard, lime kiln, post office, hospital"
)
_WEATHER = split_list(
    "after a week of rain, in the first frost, on a windless morning, at the end of a dry summer, before the snow "
    "came, in thick fog, while the river was high, on the longest day of the year, in a cold spring, during the storm"
)
_SEASONS = split_list("spring summer autumn winter")
_QUALITIES = split_list("patient stubborn cheerful silent generous careful proud restless sober curious gentle blunt")
_REASONS = split_list(
    "the wages had not been paid, nobody trusted the weights, the road was washed away, the bells had cracked, "
    "the council could not agree, two families claimed it, the price of bread had doubled, the ice broke too early, "
    "a letter had gone astray, the keys could not be found"
)
_SENTENCES = (
    "In the {season} of {year} the {trade} {a} came to {town} with {n} carts of {goods}.",
    "{Weather}, the people of {town} met at the {place} and spoke until dark about {goods}.",
    "{a} was {quality} and {quality2}, and the {trade}s of {town} said so for {n} years.",
    "The {place} of {town} had to be closed because {reason}.",
    "Nobody in {town} remembered who had brought the {goods}, but {a} kept an account of it.",
    "It took {n} men and {m} days to carry the {goods} from the {place} to the {place2}.",
    "{a} wrote to {b} that {reason}, and asked for {n} barrels of {goods}.",
    "The {trade} {b} answered {weather}, and the answer was short.",
    "When the {place} was rebuilt in {year}, {n} {trade}s worked there without {goods}.",
    "From {town} to {town2} it was a walk of {n} hours, longer {weather}.",
    "{b} had learned the work of a {trade} in {town2} and never spoke of it.",
    "There was a quarrel over {goods}, since {reason}.",
    "The council gave {a} the key of the {place}, which {b} had held for {n} years.",
    "Every {season} the {trade}s brought {goods} to the {place} and took {goods2} home.",
    "A {quality} {trade} from {town2} lent {n} crowns to {a} and had them back within {m} weeks.",
    "{Weather}, {b} found the door of the {place} open and {n} sacks of {goods} gone.",
    "The child of {a} was born {weather}, {m} days before the fair.",
    "In {town} one says that a {quality} {trade} needs no {goods}.",
    "They measured the {place} twice and found it {n} feet long, not {m}.",
    "Of the {n} houses beside the {place}, only the one of {b} was dry.",
)


def chronicle(rng: Random) -> str:
    """A paragraph of three to six sentences about an invented town, wrapped at `LINE_CHARS`."""
    town, town2, a, b = names(rng, 4)
    sentences = []
    for template in rng.sample(_SENTENCES, rng.randint(3, 6)):
        goods, place, quality = rng.sample(_GOODS, 2), rng.sample(_PLACES, 2), rng.sample(_QUALITIES, 2)
        weather = rng.choice(_WEATHER)
        sentences.append(
            template.format(
                town=town,
                town2=town2,
                a=a,
                b=b if rng.random() < 0.7 else name(rng),
                season=rng.choice(_SEASONS),
                year=rng.randint(1401, 1899),
                trade=rng.choice(_TRADES),
                goods=goods[0],
                goods2=goods[1],
                place=place[0],
                place2=place[1],
                quality=quality[0],
                quality2=quality[1],
                reason=rng.choice(_REASONS),
                weather=weather,
                Weather=weather.capitalize(),
                n=rng.randint(3, 60),
                m=rng.randint(61, 300),
            )
        )
    return textwrap.fill(" ".join(sentences), LINE_CHARS)
