"""World knowledge that links a needle to a question without common words. Written for this suite."""

from dataclasses import dataclass

from sala_core.evals.words import split_list


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Templates of one kind of link. {name}: the person; {thing}, {one}, {two}: fields of the `Link`."""

    needles: tuple[str, ...]
    one_hop: str
    two_hop: str


@dataclass(frozen=True, kw_only=True)
class Link:
    """thing: named by the needle; one: what it leads to in one hop; two: in two hops."""

    kind: str
    thing: str
    one: str
    two: str


KINDS = {
    "landmark": Kind(
        needles=("{name} lives next door to the {thing}.", "From the kitchen of {name} one sees the {thing}."),
        one_hop="Which person has been to {one}?",
        two_hop="Which person has been to {two}?",
    ),
    "animal": Kind(
        needles=("{name} feeds a {thing} every morning.", "The {thing} of {name} sleeps on the sofa."),
        one_hop="Who keeps a {one} as a pet?",
        two_hop="Who keeps {two} as a pet?",
    ),
    "music": Kind(
        needles=("{name} owns a {thing} from the year of the flood.", "At dusk {name} practises on a {thing}."),
        one_hop="Who can play {one}?",
        two_hop="Who can play {two}?",
    ),
    "food": Kind(
        needles=("{name} eats {thing} on Sundays.", "The cooking of {thing} was taught to {name} by an aunt."),
        one_hop="Who likes dishes made with {one}?",
        two_hop="Who likes {two}?",
    ),
    "speech": Kind(
        needles=("The mother tongue of {name} is {thing}.", "{name} counts and dreams in {thing}."),
        one_hop="Who could talk with people in the streets of {one}?",
        two_hop="Who could talk with people in the country of {two}?",
    ),
    "work": Kind(
        needles=("All day long {name} {thing}.", "{name} {thing} for a living."),
        one_hop="Who works as {one}?",
        two_hop="Who belongs to {two}?",
    ),
}

LINKS = tuple(
    Link(kind=kind, thing=thing, one=one, two=two)
    for kind, thing, one, two in (
        ("landmark", "Brandenburg Gate", "Berlin", "Germany"),
        ("landmark", "Sagrada Família", "Barcelona", "Catalonia"),
        ("landmark", "Charles Bridge", "Prague", "Bohemia"),
        ("landmark", "Fushimi Inari shrine", "Kyoto", "Japan"),
        ("landmark", "Blue Mosque", "Istanbul", "Turkey"),
        ("landmark", "Christ the Redeemer statue", "Rio de Janeiro", "Brazil"),
        ("landmark", "Sydney Opera House", "the largest city of New South Wales", "Australia"),
        ("landmark", "Golden Gate Bridge", "San Francisco", "California"),
        ("landmark", "Little Mermaid statue", "Copenhagen", "Denmark"),
        ("landmark", "Trevi Fountain", "Rome", "Italy"),
        ("landmark", "CN Tower", "Toronto", "Ontario"),
        ("landmark", "Great Sphinx", "Giza", "Egypt"),
        ("animal", "dachshund", "dog", "a relative of the wolf"),
        ("animal", "Siamese", "cat", "a relative of the tiger"),
        ("animal", "cockatoo", "parrot", "a bird"),
        ("animal", "python", "snake", "a reptile"),
        ("animal", "axolotl", "salamander", "an amphibian"),
        ("animal", "tarantula", "spider", "an animal with eight legs"),
        ("music", "Stradivarius", "the violin", "an instrument with a bow"),
        ("music", "Steinway", "the piano", "an instrument with black and white keys"),
        ("music", "Stratocaster", "the electric guitar", "an instrument that needs an amplifier"),
        ("music", "saxophone", "a reed instrument", "something that one blows into"),
        ("music", "timpani", "the kettledrums", "a percussion instrument"),
        ("food", "hummus", "chickpeas", "the cuisine of the Levant"),
        ("food", "guacamole", "avocado", "Mexican cuisine"),
        ("food", "sushi", "raw fish", "Japanese cuisine"),
        ("food", "goulash", "paprika", "Hungarian cuisine"),
        ("food", "sauerkraut", "cabbage", "fermented vegetables"),
        ("speech", "Dutch", "Amsterdam", "windmills and canals"),
        ("speech", "Finnish", "Helsinki", "a thousand lakes and the sauna"),
        ("speech", "Portuguese", "Lisbon", "fado and port wine"),
        ("speech", "Hungarian", "Budapest", "the puszta and Lake Balaton"),
        ("speech", "Greek", "Athens", "Olympus and the Peloponnese"),
        ("work", "fills and pulls teeth", "a dentist", "the medical professions"),
        ("work", "mends burst pipes and leaking taps", "a plumber", "the building trades"),
        ("work", "lands aeroplanes", "a pilot", "the crew of an airline"),
        ("work", "bakes rolls and loaves", "a maker of bread", "those who handle flour"),
        ("work", "milks cows and ploughs", "a farmer", "agriculture"),
        ("work", "puts out burning houses", "a firefighter", "the emergency services"),
    )
)

NAMES = split_list(
    "Yusra Kalina Tobiah Ottoline Bertrun Ishaan Marisela Zdenek Aurelio Philippa Gudrun Kazimir Noor Leocadia Eskil "
    "Tamsin Ignatz Wilhelmina Rosalind Dagfinn Saoirse Anselm Yevgenia Mahalia Torvald Celestine Jorund Nilufar "
    "Bronwyn Evander"
)
