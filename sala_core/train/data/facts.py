"""Invented facts: sentences with made-up names and values, each with the questions that it answers."""

from __future__ import annotations

import random
from dataclasses import dataclass


def _words(text: str) -> tuple[str, ...]:
    """Split a text at its commas."""
    return tuple(text.split(","))


_ONSETS = _words("b,br,c,ch,cl,d,dr,f,fl,g,gr,h,j,k,kr,l,m,n,p,pr,qu,r,s,sh,st,t,th,tr,v,vr,w,y,z")
_VOWELS = _words("a,e,i,o,u,a,e,o,ai,ea,ie,ou")
_CODAS = _words(",,,l,n,r,s,m,th,nd,rk,x,lm,st")
_ENDINGS = _words("ra,mora,dor,wick,ham,ia,stead,ford,vale,on,en,us,a,burg,mere")

_ROLES = _words(
    "harbour master,librarian,clockmaker,old gardener,lighthouse keeper,chief engineer,night watchman,"
    "miller,archivist,baker,captain,governor,schoolteacher,blacksmith,apothecary,bell ringer,"
    "stationmaster,surgeon,map maker,tailor,weaver,beekeeper,astronomer,ferryman,judge,innkeeper,"
    "treasurer,painter,glassblower,mayor"
)
_THINGS = _words(
    "secret code,password,key number,locker number,door code,registration number,favourite colour,"
    "lucky number,true name,birthplace,telephone number,room number,ship,horse,dog,middle name,motto,"
    "safe combination,access code,monthly salary,height,age,house number,badge number,passphrase,"
    "hidden treasure,special number,magic word,nickname,best friend,home town,invoice number,"
    "port number,serial number,ticket number"
)
_OBJECTS = _words(
    "the silver lantern,the blue ledger,the iron key,the lost map,the golden compass,the red notebook,"
    "the old piano,the brass telescope,the sealed letter,the stolen painting,the ivory chess set,"
    "the wooden flute,the green bottle,the spare battery,the black umbrella,the wedding ring,"
    "the rusty sword,the small drum,the glass crown"
)
_TITLES = _words("Captain,Doctor,Professor,Lady,Mr.,Mrs.,Queen,King")
_PLACES = _words(
    "under the kitchen floor,behind the north tower,in the third drawer,beneath the old oak,"
    "inside the clock,in the cellar of the mill,on the top shelf,near the eastern gate,"
    "at the bottom of the well,in the boathouse,behind the altar,inside a hollow log,in the attic,"
    "under the stone bridge,in the captain's cabin"
)
_COLORS = _words("crimson,turquoise,amber,violet,emerald,indigo,scarlet,ochre,silver,lavender,olive,maroon")
_MONTHS = _words("January,February,March,April,May,June,July,August,September,October,November,December")
_DEEDS = _words("founded,discovered,designed,stole,repaired,bought,wrote about,painted,destroyed,inherited,hid,sold")


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A sentence and the questions that it answers.

    plural: questions for the case that several sentences answer; () for none.
    together: a question about several keys at once, with {} in their place; "" for none.
    key: the key of this fact in such a question.
    own_line: the sentence must be alone on its line.
    """

    sentence: str
    questions: tuple[str, ...]
    plural: tuple[str, ...] = ()
    together: str = ""
    key: str = ""
    own_line: bool = False


def invented_name(rng: random.Random) -> str:
    """Return a pronounceable random name."""
    parts = [rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(rng.choice((1, 1, 2)))]
    return ("".join(parts) + rng.choice(_ENDINGS)).capitalize()


def _number(rng: random.Random) -> str:
    return str(rng.randint(10 ** rng.randint(1, 5), 10**6 - 1))[: rng.randint(2, 6)]


def _value(rng: random.Random, thing: str) -> str:
    if any(word in thing for word in ("code", "number", "combination")) or rng.random() < 0.2:
        return _number(rng)
    if "colour" in thing:
        return rng.choice(_COLORS)
    if any(word in thing for word in ("salary", "height", "age")):
        return f"{_number(rng)} {rng.choice(('crowns', 'inches', 'years', 'pounds'))}"
    if rng.random() < 0.2:
        return f"{rng.choice(_COLORS)} {invented_name(rng)}"
    return invented_name(rng)


def _owner(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.4:
        return f"the {rng.choice(_ROLES)} of {invented_name(rng)}"
    if kind < 0.6:
        return f"{invented_name(rng)} {invented_name(rng)}"
    if kind < 0.8:
        return invented_name(rng)
    return f"{rng.choice(_TITLES)} {invented_name(rng)}"


def _attribute(rng: random.Random) -> Fact:
    thing, owner = rng.choice(_THINGS), _owner(rng)
    value = _value(rng, thing)
    if rng.random() < 0.25 and not owner.startswith("the "):
        return Fact(
            sentence=f"{owner}'s {thing} is {value}.",
            questions=(f"What is {owner}'s {thing}?", f"What is the {thing} of {owner}?"),
        )
    return Fact(
        sentence=f"The {thing} of {owner} is {value}.",
        questions=(
            f"What is the {thing} of {owner}?",
            f"Tell me the {thing} of {owner}.",
            f"Which {thing} has {owner}?",
        ),
    )


def _location(rng: random.Random) -> Fact:
    thing = rng.choice(_OBJECTS)
    owner, place = _owner(rng), rng.choice(_PLACES)
    if rng.random() < 0.5:
        sentence = f"{thing[0].upper()}{thing[1:]} of {owner} is hidden {place}."
        return Fact(
            sentence=sentence,
            questions=(f"Where is {thing} of {owner}?", f"Where is {thing} of {owner} hidden?"),
        )
    sentence = f"{owner[0].upper()}{owner[1:]} keeps {thing} {place}."
    return Fact(sentence=sentence, questions=(f"Where does {owner} keep {thing}?", f"What does {owner} keep {place}?"))


def _event(rng: random.Random) -> Fact:
    owner, deed = _owner(rng), rng.choice(_DEEDS)
    thing = rng.choice((f"the town of {invented_name(rng)}", f"{rng.choice(_OBJECTS)} of {invented_name(rng)}"))
    when = f"in {rng.choice(_MONTHS)} {rng.randint(1100, 2099)}"
    past = f"{owner[0].upper()}{owner[1:]} {deed} {thing} {when}."
    return Fact(
        sentence=past,
        questions=(
            f"Who {deed} {thing}?",
            f"When was it that {owner} {deed} {thing}?",
            f"What happened {when}?",
        ),
    )


def _recipe(rng: random.Random) -> Fact:
    name = invented_name(rng)
    kind = rng.choice(("medicine", "dish", "ship", "village", "machine", "plant", "machine part", "river", "kingdom"))
    detail = rng.choice(
        (
            f"costs {_number(rng)} crowns",
            f"was named after {invented_name(rng)}",
            f"lies {_number(rng)} miles from {invented_name(rng)}",
            f"is made of {rng.choice(_COLORS)} glass",
            f"has {_number(rng)} parts",
            f"belongs to {_owner(rng)}",
        )
    )
    return Fact(
        sentence=f"The {kind} called {name} {detail}.",
        questions=(f"What is {name}?", f"What is known about the {kind} called {name}?"),
    )


def _definition(rng: random.Random) -> Fact:
    name = f"{invented_name(rng).lower()}_{invented_name(rng).lower()}"
    arguments = ", ".join(invented_name(rng).lower() for _ in range(rng.randint(0, 3)))
    sentence = rng.choice(
        (f"def {name}({arguments}):", f"{name.upper()} = {_number(rng)}", f"fn {name}({arguments}) {{")
    )
    symbol = name.upper() if " = " in sentence else name
    questions = (f"Where is {symbol} defined?", f"Show the definition of {symbol}.")
    return Fact(sentence=sentence, questions=questions, own_line=True)


_LABELS = _words(
    "reference number,serial code,access token,record number,passphrase,identifier,tracking number,order number,"
    "magic sign,password,call sign,checksum,inventory code,batch number"
)
_ADJECTIVES = _words(
    "quiet,amber,hollow,gentle,rapid,frozen,ancient,crooked,distant,silver,humble,curious,golden,bitter,wooden,lonely,"
    "polished,careless,narrow,restless,spotted,modern,foggy,brave,dusty,clever,purple,tidy,northern,wild"
)
_NOUNS = _words(
    "lantern,meadow,harbour,engine,falcon,cabinet,orchard,pebble,violin,glacier,monkey,saddle,temple,basket,comet,"
    "puddle,ladder,teapot,walnut,badger,curtain,mirror,pigeon,rocket,island,button,helmet,cactus,tunnel,willow"
)


def _key(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.6:
        return f"{rng.choice(_ADJECTIVES)}-{rng.choice(_NOUNS)}"
    return _identifier(rng) if kind < 0.75 else invented_name(rng)


def _identifier(rng: random.Random) -> str:
    """Return groups of hexadecimal digits, such as UUIDs."""
    sizes = rng.choice(((8, 4, 4, 4, 12), (8,), (4, 4), (6, 6)))
    return "-".join("".join(rng.choices("0123456789abcdef", k=size)) for size in sizes)


def _keyed_value(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.6:
        return str(rng.randint(10**4, 10 ** rng.randint(5, 10)))
    return _identifier(rng) if kind < 0.8 else f"{rng.choice(_ADJECTIVES)}-{rng.choice(_NOUNS)}"


def keyed_facts(rng: random.Random, count: int) -> list[Fact]:
    """Return facts that give keys a value in sentences of one form. Some keys have several values."""
    label = rng.choice(_LABELS)
    form = rng.choice(
        (
            "The {label} assigned to {key} is {value}.",
            "For {key} the {label} is: {value}.",
            "Remember that one {label} of {key} is {value}.",
            "{key} has the {label} {value}.",
            "A {label} for {key} reads {value}.",
        )
    )
    facts: list[Fact] = []
    while len(facts) < count:
        key = _key(rng)
        for _ in range(rng.choice((1, 1, 1, 1, 2, 3, 4))):
            facts.append(
                Fact(
                    sentence=form.format(label=label, key=key, value=_keyed_value(rng)),
                    questions=(
                        f"What is the {label} of {key}?",
                        f"Which {label} has {key}?",
                        f"What {label} is given for {key} in the text?",
                    ),
                    plural=(
                        f"What are all the {label}s of {key}?",
                        f"Which {label}s has {key}?",
                        f"Name every {label} that the text gives for {key}.",
                    ),
                    together=f"What are the {label}s of {{}}?",
                    key=key,
                )
            )
    return facts[:count]


def _keyed(rng: random.Random) -> Fact:
    return keyed_facts(rng, 1)[0]


_MAKERS = (_keyed, _keyed, _attribute, _attribute, _attribute, _location, _event, _recipe, _definition)


def invented_fact(rng: random.Random) -> Fact:
    """Return a fact of a random kind."""
    return rng.choice(_MAKERS)(rng)


def similar_facts(rng: random.Random, count: int) -> list[Fact]:
    """Return facts that share a thing or a role and differ in the name, so that every word of a question matters."""
    things, roles = rng.sample(_THINGS, 2), rng.sample(_ROLES, 2)
    facts = []
    for _ in range(count):
        thing, place = rng.choice(things), invented_name(rng)
        owner = f"the {rng.choice(roles)} of {place}"
        facts.append(
            Fact(
                sentence=f"The {thing} of {owner} is {_value(rng, thing)}.",
                questions=(f"What is the {thing} of {owner}?", f"Tell me the {thing} of {owner}."),
            )
        )
    return facts
