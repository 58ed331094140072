"""Lessons with numbers: sums and differences within 20, neighbours, counting."""

from collections.abc import Callable, Iterator

from scripts.models.chat.lesson import Lesson, family, words_of

LIMIT = 20
OUT_OF_RANGE = "That is out of my range. I only use the numbers 0 to 20."
WORDS = words_of(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
)

SUM_PHRASES = (
    "What is {a} plus {b}?",
    "{a} + {b} = ?",
    "{a} + {b}",
    "{a}+{b}",
    "{a}+{b}=",
    "What is {a} + {b}?",
    "Add {a} and {b}.",
    "Add {a} to {b}.",
    "What is the sum of {a} and {b}?",
    "How much is {a} plus {b}?",
    "How much is {a} and {b}?",
    "{a} plus {b} is what?",
    "{a} plus {b}",
    "Calculate {a} plus {b}.",
    "Calculate {a} + {b}.",
    "What do you get when you add {a} and {b}?",
    "What does {a} plus {b} equal?",
    "I have {a} apples and get {b} more. How many apples do I have?",
    "What's {a} plus {b}?",
    "What's {a} + {b}?",
)
DIFFERENCE_PHRASES = (
    "What is {a} minus {b}?",
    "{a} - {b} = ?",
    "{a} - {b}",
    "{a}-{b}",
    "{a}-{b}=",
    "What is {a} - {b}?",
    "Subtract {b} from {a}.",
    "Take {b} away from {a}.",
    "What is the difference of {a} and {b}?",
    "How much is {a} minus {b}?",
    "{a} minus {b} is what?",
    "{a} minus {b}",
    "Calculate {a} minus {b}.",
    "Calculate {a} - {b}.",
    "What does {a} minus {b} equal?",
    "I have {a} apples and eat {b}. How many apples do I have?",
    "What's {a} minus {b}?",
    "What's {a} - {b}?",
)
COUNT_PHRASES = (
    "Count from {a} to {b}.",
    "Please count from {a} to {b}.",
    "Can you count from {a} to {b}?",
    "Count {a} to {b}.",
    "Say the numbers from {a} to {b}.",
    "List the numbers from {a} to {b}.",
)
FAR_COUNTS = (30, 40, 50, 100)


def sum_answer(a: int, b: int) -> str:
    return f"{a} plus {b} is {a + b}." if a + b <= LIMIT else OUT_OF_RANGE


def difference_answer(a: int, b: int) -> str:
    return f"{a} minus {b} is {a - b}." if a >= b else OUT_OF_RANGE


def sums() -> Iterator[Lesson]:
    pairs = [(a, b) for a in range(LIMIT + 1) for b in range(LIMIT + 1 - a)]
    yield from _arithmetic("sums", SUM_PHRASES, sum_answer, pairs)


def differences() -> Iterator[Lesson]:
    pairs = [(a, b) for a in range(LIMIT + 1) for b in range(a + 1)]
    yield from _arithmetic("differences", DIFFERENCE_PHRASES, difference_answer, pairs)


def out_of_range() -> Iterator[Lesson]:
    """Sums above 20 and differences below 0, operands up to 40."""
    group, numbers = "out of range", range(41)
    too_big = [(a, b) for a in numbers for b in numbers if a + b > LIMIT and (a + b) % 3 == 0]
    negative = [(a, b) for a in range(LIMIT + 1) for b in range(LIMIT + 1) if a < b]
    yield from _arithmetic(group, SUM_PHRASES[:8], sum_answer, too_big)
    yield from _arithmetic(group, DIFFERENCE_PHRASES[:8], difference_answer, negative)


def counting() -> Iterator[Lesson]:
    """Up between any two numbers, down to 1 or 0, and up to a few larger numbers."""
    ends = [(a, b) for a in range(LIMIT + 1) for b in range(a + 2, LIMIT + 1)]
    ends += [(a, b) for a in range(3, LIMIT + 1) for b in (0, 1)]
    ends += [(1, far) for far in FAR_COUNTS for _ in range(3)]
    for a, b in ends:
        step = 1 if a < b else -1
        answer = ", ".join(str(number) for number in range(a, b + step, step)) + "."
        yield from family("counting", COUNT_PHRASES, answer, [{"a": str(a), "b": str(b)}])


def neighbours() -> Iterator[Lesson]:
    after = ("What number comes after {a}?", "Which number comes after {a}?", "What comes after {a}?")
    before = ("What number comes before {b}?", "Which number comes before {b}?", "What comes before {b}?")
    pairs = [{"a": str(a), "b": str(a + 1)} for a in range(LIMIT)]
    yield from family("neighbours", after, "{b} comes after {a}.", pairs)
    yield from family("neighbours", before, "{a} comes before {b}.", pairs)


def _arithmetic(
    group: str, phrases: tuple[str, ...], answer: Callable[[int, int], str], pairs: list[tuple[int, int]]
) -> Iterator[Lesson]:
    for a, b in pairs:
        yield from family(group, phrases, answer(a, b), [{"a": str(a), "b": str(b)}])
        if max(a, b) <= LIMIT:
            words = family(group, phrases, answer(a, b), [{"a": WORDS[a], "b": WORDS[b]}])
            yield from (Lesson(one.question, one.answer, one.group) for one in words)
