"""What one taught question is, and which questions are held out of training."""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

HELD_OUT_ONE_IN = 12


@dataclass(frozen=True, slots=True)
class Lesson:
    """A question with its only right answer; `group` is its row in the table of accuracies."""

    question: str
    answer: str
    group: str
    is_canonical: bool = False  # the plain phrasing, always trained


def is_held_out(text: str) -> bool:
    """True for the fixed twelfth of all texts that training never shows."""
    return zlib.crc32(text.encode()) % HELD_OUT_ONE_IN == 0


def family(group: str, phrases: Sequence[str], answer: str, items: Iterable[Mapping[str, str]]) -> Iterator[Lesson]:
    """Every phrase with every item; the first phrase is the canonical one."""
    for item in items:
        for place, phrase in enumerate(phrases):
            yield Lesson(
                sentence(phrase.format(**item)),
                sentence(answer.format(**item)),
                group,
                is_canonical=place == 0,
            )


def single(group: str, answer: str, *questions: str) -> Iterator[Lesson]:
    """One fact with phrasings of its own: nothing could teach an unseen one, so all are trained."""
    for question in questions:
        yield Lesson(question, answer, group, is_canonical=True)


def by_group(lessons: Iterable[Lesson]) -> dict[str, list[Lesson]]:
    groups: dict[str, list[Lesson]] = {}
    for lesson in lessons:
        groups.setdefault(lesson.group, []).append(lesson)
    return groups


def words_of(text: str) -> list[str]:
    """The parts of a list that is written as one text, between bars if there are any, else between spaces."""
    return text.split("|") if "|" in text else text.split()


def sentence(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def with_article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
