"""How people really type: around a question, and inside it."""

from random import Random

from scripts.models.chat.numbers import WORDS

PLAIN = "{q}"
WRAPPERS = (
    "Please tell me: {q}",
    "Tell me: {q}",
    "Hey, {q}",
    "Hello! {q}",
    "Hi, {q}",
    "Can you tell me: {q}",
    "Do you know: {q}",
    "I have a question. {q}",
    "Question: {q}",
    "Quick question: {q}",
    "{q} Thanks!",
    "{q} Please.",
    "{q} Answer briefly.",
    "OK. {q}",
    "And now: {q}",
)
TYPO_MIN_LETTERS = 5


def roughen(text: str, rng: Random) -> str:
    """The text as a hurried person types it: case, final punctuation, spaces, one typo."""
    if rng.random() < 0.07:
        text = with_typo(text, rng)
    if rng.random() < 0.25:
        text = text.rstrip("?.!").rstrip()
    case = rng.random()
    if case < 0.22:
        text = text.lower()
    elif case < 0.25:
        text = text.upper()
    if rng.random() < 0.02:
        text = text.replace(" ", "  ", 1)
    return text


def with_typo(text: str, rng: Random) -> str:
    """The text with two letters swapped or one lost in one longer word; number words stay right."""
    words = text.split(" ")
    places = [i for i, word in enumerate(words) if _may_be_mistyped(word)]
    if not places:
        return text
    place = rng.choice(places)
    words[place] = _mistyped(words[place], rng)
    return " ".join(words)


def _may_be_mistyped(word: str) -> bool:
    return len(word) >= TYPO_MIN_LETTERS and word.isalpha() and word.lower() not in WORDS


def _mistyped(word: str, rng: Random) -> str:
    at = rng.randrange(1, len(word) - 1)
    if rng.random() < 0.5:
        return word[:at] + word[at + 1 :]
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
