"""Word lists, invented names, keys and values for questions and haystacks."""

import uuid
from collections.abc import Callable
from random import Random


def split_list(text: str) -> tuple[str, ...]:
    """Split a text at its commas, or at white space if it has no comma."""
    return tuple(part.strip() for part in text.split(",")) if "," in text else tuple(text.split())


ADJECTIVES = split_list(
    "amber ancient arctic blue bold brass brave brief bright broad broken bronze calm careful cedar clever cloudy "
    "cold copper coral crimson curly dark deep distant double dry dusty early eager eastern elder empty endless even "
    "faint fair famous far fierce final flat foggy fresh frozen gentle gilded glad golden grand green grey happy hasty "
    "heavy hidden high hollow honest humble icy inner iron ivory jolly keen kind large late lazy light lonely long "
    "loud low lucky marble mellow merry mild misty modest narrow neat new noble northern oaken odd old open outer pale"
)
NOUNS = split_list(
    "acorn anchor anvil apple arrow badger barley barrel basin basket beacon bell berry birch blanket boat bottle "
    "bridge brook broom bucket button cabin candle canyon carpet castle cellar chair chapel cherry chimney clock "
    "cloud clover coach comet compass copper corner cottage crane cricket crown curtain daisy desert dragon drum "
    "eagle engine falcon feather fence ferry fiddle flask forest fountain garden gate glacier glove granite hammer "
    "harbour hazel hedge helmet heron hill island jacket jigsaw kettle kitten ladder lagoon lantern lemon letter "
    "lily lizard locket magnet maple market meadow melon mirror mitten monkey mountain needle nest oar ocean orchard "
    "otter oven owl paddle palace parrot pebble pencil pepper piano pigeon pillow pocket pond poplar puzzle quarry "
    "quilt rabbit raft raven ribbon river robin rocket saddle sailor salmon scarf school shadow shelf shovel silver "
    "spider spoon stable statue stone summit swallow table tailor teapot temple thistle thunder ticket tiger timber "
    "tower trumpet tulip tunnel turnip turtle valley velvet village violin wagon walnut whistle willow window yarrow"
)
_SYLLABLES = split_list(
    "bal bel bor bru cal cor dal dor dra el fen gar gos hal hul ish jor kan kel lan lor lus mar mel mir mor nal nor "
    "ol ori os pel phe por quo ral rin ros sel sil sto tal tem tho tin tol ul ur vam vel ver vol wen wyn yar zel zem"
)


def distinct(count: int, draw: Callable[[], str]) -> list[str]:
    """`count` different strings, drawn one by one; a repeated one is drawn again."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[draw()] = None
    return list(found)


def name(rng: Random) -> str:
    """An invented name, such as Velmorin."""
    return "".join(rng.choice(_SYLLABLES) for _ in range(3)).capitalize()


def names(rng: Random, count: int) -> list[str]:
    """`count` different invented names."""
    return distinct(count, lambda: name(rng))


def keys(rng: Random, count: int) -> list[str]:
    """`count` different keys, such as amber-kettle. Large counts take keys of three words."""
    three_words = count > len(ADJECTIVES) * len(NOUNS) // 4

    def draw() -> str:
        words = [rng.choice(ADJECTIVES), rng.choice(NOUNS), *([rng.choice(NOUNS)] if three_words else [])]
        return "-".join(words)

    return distinct(count, draw)


def number(rng: Random) -> str:
    """A random number of seven digits."""
    return str(rng.randint(1_000_000, 9_999_999))


def uuid_text(rng: Random) -> str:
    """A random UUID: 32 hexadecimal digits in five groups."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
