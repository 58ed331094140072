"""The questions that measure the model; none of the held-out ones is ever trained."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random

from scripts.models.chat import chats, unknown
from scripts.models.chat.chats import Chat, Course, Turn
from scripts.models.chat.lesson import Lesson, by_group, is_held_out
from scripts.models.chat.noise import WRAPPERS, roughen

SEED = 7
AT_MOST = 500  # chats in one exam


def all_exams() -> Mapping[str, Sequence[Chat]]:
    """Every exam by name. The last turn of a chat is the one that counts."""
    course, lessons, rng = chats.training_course(), list(chats.all_lessons()), Random(SEED)
    canonical = by_group(one for one in lessons if one.is_canonical)
    unseen = by_group(one for one in lessons if not one.is_canonical and is_held_out(one.question))
    return {
        "all sums, canonical": [_alone(one) for one in canonical.pop("sums")],
        "all differences, canonical": [_alone(one) for one in canonical.pop("differences")],
        "other facts, canonical": [_alone(one) for group in canonical.values() for one in group],
        "sums, held out": [_alone(one) for one in rng.sample(unseen["sums"], AT_MOST)],
        "differences, held out": [_alone(one) for one in rng.sample(unseen["differences"], AT_MOST)],
        "other facts, held out": [_alone(one) for one in _sample_evenly(_without_arithmetic(unseen), rng)],
        "in a held-out wrapper": list(_wrapped(by_group(lessons), rng)),
        "typed carelessly": [_careless(one, rng) for one in _sample_evenly(unseen, rng)],
        "with a system prompt": [_with_system(one, rng) for one in _sample_evenly(unseen, rng)],
        "after other turns": [_after_others(one, course, rng) for one in _sample_evenly(unseen, rng)],
        "follow-up sums": [Chat(None, _unseen_thread(chats.sum_thread, rng)) for _ in range(AT_MOST)],
        "follow-up facts": [Chat(None, _unseen_thread(rng.choice(FACT_THREADS), rng)) for _ in range(AT_MOST)],
        "remembers the name": [Chat(None, chats.name_thread(course, rng)) for _ in range(AT_MOST)],
        "unknown, held-out nouns": [_off_domain(rng) for _ in range(AT_MOST)],
    }


FACT_THREADS = (chats.capital_thread, chats.sides_thread)


def _without_arithmetic(groups: Mapping[str, Sequence[Lesson]]) -> dict[str, Sequence[Lesson]]:
    return {name: lessons for name, lessons in groups.items() if name not in ("sums", "differences")}


def _sample_evenly(groups: Mapping[str, Sequence[Lesson]], rng: Random) -> list[Lesson]:
    """Lessons of every group in turn, so that the large groups do not hide the small ones."""
    names = sorted(groups)
    return [rng.choice(groups[names[place % len(names)]]) for place in range(AT_MOST)]


def _alone(lesson: Lesson) -> Chat:
    return Chat(None, (Turn(lesson.question, lesson.answer),))


def _wrapped(groups: Mapping[str, Sequence[Lesson]], rng: Random) -> Iterator[Chat]:
    for lesson in _sample_evenly(groups, rng):
        texts = [wrapper.format(q=lesson.question) for wrapper in WRAPPERS]
        held_out = [text for text in texts if is_held_out(text)]
        if held_out:
            yield Chat(None, (Turn(rng.choice(held_out), lesson.answer),))


def _careless(lesson: Lesson, rng: Random) -> Chat:
    return Chat(None, (Turn(roughen(lesson.question, rng), lesson.answer),))


def _with_system(lesson: Lesson, rng: Random) -> Chat:
    return Chat(rng.choice(chats.SYSTEMS), (Turn(lesson.question, lesson.answer),))


def _after_others(lesson: Lesson, course: Course, rng: Random) -> Chat:
    earlier = (chats.any_turn(course, rng) for _ in range(rng.randrange(1, 6)))
    return Chat(None, (*earlier, Turn(lesson.question, lesson.answer)))


def _unseen_thread(make: Callable[[Random], tuple[Turn, ...]], rng: Random) -> tuple[Turn, ...]:
    while not chats.is_held_out_thread(turns := make(rng)):
        pass
    return turns


def _off_domain(rng: Random) -> Chat:
    nouns = unknown.things(unknown.HELD_OUT_THINGS)
    return Chat(None, (Turn(unknown.unknown_question(rng, nouns), unknown.UNKNOWN),))
