"""Questions outside the domain; all have one honest answer."""

from collections.abc import Callable, Sequence
from random import Random

from scripts.models.chat.lesson import words_of

UNKNOWN = "I do not know that. I am a very small model."

THINGS = (
    "bread music paper history money a bridge a mountain football chess gravity electricity the moon a volcano "
    "a computer a piano a guitar coffee cheese the heart the brain a rocket an atom a molecule the internet a virus "
    "the economy a contract a lawyer a doctor a hospital a train an airplane a river a desert a forest a tree "
    "the government a king a queen a castle a war a poem by Goethe Shakespeare Einstein Mozart Picasso Napoleon "
    "a potato rice pasta pizza an engine a robot a camera a telephone a window a door a house a garden a flower "
    "glass steel gold silver iron plastic wood stone sand oil gas the weather a storm rain thunder democracy love "
    "a dream a kidney a dinosaur a penguin a tiger a giraffe a kangaroo a shark a whale a dolphin a butterfly "
    "Australia Mexico Kenya Nigeria Turkey Vietnam Chile Argentina Iceland Belgium Romania Bulgaria Thailand "
    "Morocco Ghana Bolivia Texas California New York Barcelona Munich Amsterdam Sydney Tolstoy Newton Darwin "
    "a kettle a hammer a shirt jeans a shoe a hat a watch a ring jazz opera a novel a film the stock market taxes"
)
HELD_OUT_THINGS = (
    "a ladder salt a helicopter Brazil Ethiopia Switzerland Mongolia Beethoven Galileo a camel the liver a mirror "
    "copper philosophy a submarine a crocodile basketball a lighthouse soup Chicago"
)
PATTERNS = (
    "What is {x}?",
    "What's {x}?",
    "Who invented {x}?",
    "Who is {x}?",
    "Who was {x}?",
    "Who painted {x}?",
    "Where is {x}?",
    "Where was {x} born?",
    "What does {x} mean?",
    "How do I make {x}?",
    "Is {x} good?",
    "Can you help me with {x}?",
    "Which language do they speak in {x}?",
    "Give me a list of {x}.",
    "Write an email about {x}.",
    "Who wrote about {x}?",
    "How does {x} work?",
    "Why is {x} important?",
    "What is the capital of {x}?",
    "Which city is the capital of {x}?",
    "The capital of {x}?",
    "What colour is {x}?",
    "What sound does {x} make?",
    "How many legs does {x} have?",
    "How many sides does {x} have?",
    "What is the opposite of {x}?",
    "Tell me about {x}.",
    "Explain {x}.",
    "Explain {x} to a child.",
    "Where can I buy {x}?",
    "How old is {x}?",
    "How much does {x} cost?",
    "When was {x} discovered?",
    "Write a poem about {x}.",
    "Write a story about {x}.",
    "Tell me a short story about {x}.",
    "Write a program that uses {x}.",
    "What do you think about {x}?",
    "Do you like {x}?",
    "Is {x} better than {y}?",
    "What is the difference between {x} and {y}?",
    "Compare {x} with {y}.",
    "How far is it from {x} to {y}?",
    "Translate {x} into French.",
    "Describe {x} in JSON.",
    "Who is the president of {x}?",
    "How many people live in {x}?",
    "What is the population of {x}?",
    "I like {x}.",
    "I want to learn about {x} and {y}.",
    "Give me a recipe for {x}.",
    "Draw {x}.",
    "What is {n} times {m}?",
    "What is {n} divided by {m}?",
    "{n} * {m}",
    "{n} / {m} = ?",
    "What is the square root of {n}?",
    "Is {n} a prime number?",
    "What happened in {year}?",
    "Who won the world cup in {year}?",
    "What time is it?",
    "What is the date today?",
    "How is the weather in {x}?",
    "Summarise this: {words}",
    "Fix this text: {words}",
    "{words}",
    "{words}?",
    "{letters}",
    "{symbols}",
    "{foreign}",
)
FOREIGN = words_of(
    "Wie heißt du?|Was ist das?|Wie spät ist es?|Comment ça va?|Où est la gare?|¿Dónde está la playa?|"
    "¿Qué hora es?|Come ti chiami?|Hvad hedder du?|Как дела?|你好吗|こんにちは|안녕하세요|مرحبا|"
    "Bonne nuit, mes amis|Ich möchte ein Bier|Quanto costa il biglietto?"
)
SYMBOLS = words_of("! ? # $ % & * ( ) [ ] { } < > / = + - _ ~ ^ : ; , . 😀 🎉 🚀 ❤️ 🐍 é ü ß ñ ø ç")
COMMON = words_of(
    "the a my your his of in on at with for and or but not is was has went saw made very quite then there people man "
    "woman child road car city water green blue table seven today never always because run walk sleep eat house red "
    "project file report meeting order customer address number please send read write find circle day night small"
)
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def things(text: str) -> list[str]:
    """The nouns of a list, each with its article."""
    found: list[str] = []
    for word in text.split():
        if found and found[-1] in ("a", "an", "the", "New"):
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found


def unknown_question(rng: Random, nouns: Sequence[str]) -> str:
    """A random question about one of `nouns`, about an invented word, or about nothing at all."""
    pattern = rng.choice(PATTERNS)
    fill: dict[str, Callable[[], str]] = {
        "x": lambda: _noun(rng, nouns),
        "y": lambda: _noun(rng, nouns),
        "n": lambda: str(rng.randrange(100)),
        "m": lambda: str(rng.randrange(2, 30)),
        "year": lambda: str(rng.randrange(1500, 2030)),
        "words": lambda: _words(rng),
        "letters": lambda: " ".join(_invented(rng) for _ in range(rng.randrange(1, 5))),
        "symbols": lambda: "".join(rng.choice(SYMBOLS) for _ in range(rng.randrange(2, 9))),
        "foreign": lambda: rng.choice(FOREIGN),
    }
    return pattern.format(**{slot: make() for slot, make in fill.items() if f"{{{slot}}}" in pattern})


def _noun(rng: Random, nouns: Sequence[str]) -> str:
    kind = rng.random()
    if kind < 0.6:
        return rng.choice(nouns)
    return _invented(rng).capitalize() if kind < 0.85 else f"a {_invented(rng)}"


def _invented(rng: Random) -> str:
    syllables = (
        rng.choice(LETTERS) + rng.choice("aeiou") + rng.choice("nrslt ").strip() for _ in range(rng.randrange(1, 4))
    )
    return "".join(syllables) + rng.choice(("", "k", "x", "ia", "land"))


def _words(rng: Random) -> str:
    count = rng.choice((3, 5, 8, 12, 20, 40, 80)) if rng.random() < 0.3 else rng.randrange(3, 9)
    return " ".join(rng.choice(COMMON) if rng.random() < 0.85 else _invented(rng) for _ in range(count))
