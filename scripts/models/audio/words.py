"""What is spoken: the twenty words, who speaks them, and which voices training never hears.

Not about how they are spoken (speech.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

DIGITS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
OTHERS: Final = ("red", "green", "blue", "circle", "square", "triangle", "hello", "yes", "no", "stop")
WORDS: Final = DIGITS + OTHERS

ACCENTS: Final = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029")

# Variants of espeak-ng: ways to change the same speech into another person's. Robots and whispers are left out.
TAUGHT_VARIANTS: Final = (
    *(
        "m1",
        "m2",
        "m3",
        "m5",
        "m6",
        "m8",
        "f1",
        "f2",
        "f3",
        "f5",
        "klatt",
        "klatt2",
        "klatt3",
        "adam",
        "Alex",
        "Alicia",
    ),
    *("Andrea", "antonio", "aunty", "benjamin", "boris", "caleb", "david", "Denis", "Diogo", "ed", "edward", "Gene"),
    *("gustave", "Henrique", "Hugo", "iven", "Jacky", "john", "Lee", "Marcelo", "Marco", "Mario", "max", "michel"),
    *("miguel", "Nguyen", "pablo", "paul", "pedro", "quincy", "rob", "robert", "sandro", "shelby", "steph", "travis"),
)
UNHEARD_VARIANTS: Final = (
    "m4",
    "m7",
    "f4",
    "klatt4",
    "Andy",
    "anika",
    "belinda",
    "linda",
    "Michael",
    "Mike",
    "victor",
    "zac",
)


@dataclass(frozen=True, slots=True)
class Utterance:
    """What espeak-ng is asked to say, and how."""

    words: Sequence[str]
    accent: str
    variant: str
    words_per_minute: int
    pitch: int  # 0 to 99
    gap: int  # pause between words, units of 10 ms

    @property
    def text(self) -> str:
        return " ".join(self.words)


def any_utterance(rng: Random, variants: Sequence[str], longest: int) -> Utterance:
    """1 to `longest` words, each as likely as any other after any other, spoken in any accent by one of `variants`."""
    return Utterance(
        words=tuple(rng.choice(WORDS) for _ in range(rng.randint(1, longest))),
        accent=rng.choice(ACCENTS),
        variant=rng.choice(variants),
        words_per_minute=rng.randint(120, 200),
        pitch=rng.randint(20, 80),
        gap=rng.choice((0, 0, 0, 2, 5, 8)),
    )
