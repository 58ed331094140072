"""Lessons about the small world: capitals, animals, the calendar, opposites, colours and shapes."""

from collections.abc import Iterator, Mapping, Sequence

from scripts.models.chat.lesson import Lesson, family, single, with_article, words_of

CAPITALS = {
    "France": "Paris",
    "Germany": "Berlin",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Portugal": "Lisbon",
    "England": "London",
    "Ireland": "Dublin",
    "Austria": "Vienna",
    "Poland": "Warsaw",
    "Sweden": "Stockholm",
    "Norway": "Oslo",
    "Denmark": "Copenhagen",
    "Finland": "Helsinki",
    "Greece": "Athens",
    "Japan": "Tokyo",
    "China": "Beijing",
    "Egypt": "Cairo",
    "Canada": "Ottawa",
    "Hungary": "Budapest",
    "Cuba": "Havana",
}
SOUNDS = {
    "dog": "barks",
    "cat": "meows",
    "cow": "moos",
    "duck": "quacks",
    "sheep": "bleats",
    "horse": "neighs",
    "pig": "oinks",
    "lion": "roars",
    "bee": "buzzes",
    "frog": "croaks",
    "owl": "hoots",
    "wolf": "howls",
}
BABIES = {
    "dog": "puppy",
    "cat": "kitten",
    "cow": "calf",
    "sheep": "lamb",
    "horse": "foal",
    "duck": "duckling",
    "pig": "piglet",
}
LEGS = {
    "dog": "4 legs",
    "cat": "4 legs",
    "cow": "4 legs",
    "horse": "4 legs",
    "sheep": "4 legs",
    "pig": "4 legs",
    "duck": "2 legs",
    "bird": "2 legs",
    "bee": "6 legs",
    "ant": "6 legs",
    "spider": "8 legs",
    "snake": "no legs",
    "fish": "no legs",
}
DAYS = words_of("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = words_of("January February March April May June July August September October November December")
OPPOSITES = (
    "hot cold|big small|up down|day night|left right|open closed|fast slow|happy sad|wet dry|black white|"
    "old new|high low|full empty|hard soft|light dark|early late|loud quiet|near far|yes no|good bad"
)
COLOURS = {
    "the sky": "blue",
    "the sea": "blue",
    "grass": "green",
    "a leaf": "green",
    "a frog": "green",
    "a banana": "yellow",
    "a lemon": "yellow",
    "the sun": "yellow",
    "snow": "white",
    "milk": "white",
    "coal": "black",
    "a tomato": "red",
    "a strawberry": "red",
    "a cherry": "red",
    "blood": "red",
    "a carrot": "orange",
    "a pumpkin": "orange",
    "chocolate": "brown",
    "an elephant": "grey",
    "a flamingo": "pink",
    "a plum": "purple",
}
MIXES = (
    ("blue", "yellow", "green"),
    ("red", "yellow", "orange"),
    ("red", "blue", "purple"),
    ("black", "white", "grey"),
    ("red", "white", "pink"),
)
SIDES = {"triangle": 3, "square": 4, "rectangle": 4, "pentagon": 5, "hexagon": 6, "octagon": 8}
PAINTS = words_of("red blue green yellow orange purple pink black white")
SHAPES = words_of("circle square triangle rectangle hexagon star")


def capitals() -> Iterator[Lesson]:
    items = [{"country": country, "city": city} for country, city in CAPITALS.items()]
    forward = (
        "What is the capital of {country}?",
        "What's the capital of {country}?",
        "Which city is the capital of {country}?",
        "Name the capital of {country}.",
        "The capital of {country}?",
        "What is the capital city of {country}?",
    )
    backward = (
        "{city} is the capital of which country?",
        "Which country has the capital {city}?",
        "What country is {city} the capital of?",
        "Of which country is {city} the capital?",
    )
    yield from family("capitals", forward, "The capital of {country} is {city}.", items)
    yield from family("capitals", backward, "{city} is the capital of {country}.", items)


def animals() -> Iterator[Lesson]:
    yield from _sounds()
    yield from _babies()
    yield from _legs()


def _sounds() -> Iterator[Lesson]:
    sounds = [{"a": with_article(animal), "n": animal, "verb": verb} for animal, verb in SOUNDS.items()]
    asks: tuple[str, ...] = (
        "What sound does {a} make?",
        "Which sound does {a} make?",
        "What does {a} say?",
        "What noise does {a} make?",
        "Tell me the sound of {a}.",
    )
    yield from family("animals", asks, "{a} {verb}.", sounds)
    yield from family("animals", ("Which animal {verb}?", "What animal {verb}?"), "{a} {verb}.", sounds)


def _babies() -> Iterator[Lesson]:
    babies = [{"n": animal, "a": with_article(animal), "baby": baby} for animal, baby in BABIES.items()]
    asks: tuple[str, ...] = (
        "What is a baby {n} called?",
        "What do you call a baby {n}?",
        "What is the baby of {a} called?",
    )
    yield from family("animals", asks, "A baby {n} is called a {baby}.", babies)


def _legs() -> Iterator[Lesson]:
    legs = [{"n": animal, "a": with_article(animal), "legs": count} for animal, count in LEGS.items()]
    asks: tuple[str, ...] = ("How many legs does {a} have?", "How many legs has {a}?", "{a} has how many legs?")
    yield from family("animals", asks, "{a} has {legs}.", legs)


def calendar() -> Iterator[Lesson]:
    for kind, names in (("day", DAYS), ("month", MONTHS)):
        following = [*names[1:], names[0]]
        pairs = [{"kind": kind, "a": a, "b": b} for a, b in zip(names, following, strict=True)]
        after = ("What {kind} comes after {a}?", "Which {kind} comes after {a}?", "Which {kind} follows {a}?")
        before = (
            "What {kind} comes before {b}?",
            "Which {kind} comes before {b}?",
            "{b} comes after which {kind}?",
        )
        yield from family("calendar", (*after, "What comes after {a}?"), "{b} comes after {a}.", pairs)
        yield from family("calendar", (*before, "What comes before {b}?"), "{a} comes before {b}.", pairs)
    parts = [
        {"part": "days", "whole": "a week", "n": "7"},
        {"part": "months", "whole": "a year", "n": "12"},
        {"part": "hours", "whole": "a day", "n": "24"},
        {"part": "minutes", "whole": "an hour", "n": "60"},
        {"part": "seconds", "whole": "a minute", "n": "60"},
        {"part": "seasons", "whole": "a year", "n": "4"},
    ]
    asks: tuple[str, ...] = (
        "How many {part} are in {whole}?",
        "How many {part} does {whole} have?",
        "{whole} has how many {part}?",
    )
    yield from family("calendar", asks, "{whole} has {n} {part}.", parts)


def opposites() -> Iterator[Lesson]:
    pairs = [pair.split() for pair in words_of(OPPOSITES)]
    items = [{"a": a, "b": b} for pair in pairs for a, b in (pair, pair[::-1])]
    asks: tuple[str, ...] = (
        "What is the opposite of {a}?",
        "What's the opposite of {a}?",
        "Name the opposite of {a}.",
        "The opposite of {a}?",
        "Which word is the opposite of {a}?",
        "Opposite of {a}",
    )
    yield from family("opposites", asks, "The opposite of {a} is {b}.", items)


def colours() -> Iterator[Lesson]:
    items = [{"thing": thing, "colour": colour} for thing, colour in COLOURS.items()]
    asks: tuple[str, ...] = (
        "What colour is {thing}?",
        "What color is {thing}?",
        "Which colour is {thing}?",
        "Which color does {thing} have?",
        "What is the colour of {thing}?",
        "What is the color of {thing}?",
        "Tell me the colour of {thing}.",
    )
    yield from family("colours", asks, "{thing} is {colour}.", items)
    yield from _mixes()


def _mixes() -> Iterator[Lesson]:
    mixes = [{"a": a, "b": b, "c": c} for x, y, c in MIXES for a, b in ((x, y), (y, x))]
    asks: tuple[str, ...] = (
        "What do you get when you mix {a} and {b}?",
        "What do {a} and {b} make?",
        "Mix {a} and {b}.",
        "Which colour do you get from {a} and {b}?",
        "What color do {a} and {b} make?",
        "{a} and {b} make which colour?",
    )
    yield from family("colours", asks, "{a} and {b} make {c}.", mixes)


def shapes() -> Iterator[Lesson]:
    items = [{"shape": shape, "a": with_article(shape), "n": str(n)} for shape, n in SIDES.items()]
    items.append({"shape": "circle", "a": "a circle", "n": "no"})
    for part in ("sides", "corners"):
        asks = (
            f"How many {part} does {{a}} have?",
            f"How many {part} has {{a}}?",
            f"{{a}} has how many {part}?",
        )
        yield from family("shapes", asks, f"{{a}} has {{n}} {part}.", items)
    named = [item for item in items if item["shape"] not in ("rectangle", "circle")]
    asks = ("Which shape has {n} sides?", "What shape has {n} sides?", "Name a shape with {n} sides.")
    yield from family("shapes", asks, "{a} has {n} sides.", named)
    yield from single("shapes", "A circle is round.", "Name a round shape.", "Which shape is round?", "What is round?")
    yield from single("shapes", "Yes, a circle is round.", "Is a circle round?", "Are circles round?")
    yield from single("shapes", "No, a square is not round.", "Is a square round?", "Are squares round?")
    yield from single("shapes", "A cube has 6 faces.", "How many faces does a cube have?", "How many faces has a cube?")


def objects() -> Iterator[Lesson]:
    """A coloured shape as one line of JSON."""
    asks = (
        "Give me a {colour} {shape} as JSON.",
        "Write a {colour} {shape} as JSON.",
        "Describe a {colour} {shape} in JSON.",
        "A {colour} {shape} as JSON, please.",
    )
    yield from family("json", asks, '{{"colour": "{colour}", "shape": "{shape}"}}', painted_shapes())


def painted_shapes() -> Sequence[Mapping[str, str]]:
    """Every taught colour with every taught shape."""
    return [{"colour": colour, "shape": shape} for colour in PAINTS for shape in SHAPES]
