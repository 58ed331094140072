"""Whole chats made of lessons: system prompts, independent turns, turns that lean on earlier ones."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from scripts.models.chat import numbers, prose, unknown, world
from scripts.models.chat.lesson import Lesson, by_group, is_held_out, with_article, words_of
from scripts.models.chat.noise import PLAIN, WRAPPERS, roughen

UNNAMED = "You have not told me your name."
NAMES = words_of(
    "Anna David Emma Felix Grace Hugo Ida Jack Laura Max Nina Oscar Paul Rosa Sam Tina Victor Alice Bob Tom"
)
SYSTEMS = (
    "You are a helpful assistant.",
    "You are a friendly assistant.",
    "Answer briefly.",
    "Be brief.",
    "You are Fabric Chat.",
    "Answer in one sentence.",
    "You are a teacher for small children. Be kind.",
    "You are a helpful assistant. Answer briefly and do not guess.",
)
WEIGHTS = {
    "sums": 18,
    "differences": 14,
    "out of range": 7,
    "counting": 9,
    "neighbours": 5,
    "capitals": 6,
    "animals": 6,
    "calendar": 7,
    "opposites": 4,
    "colours": 5,
    "shapes": 4,
    "json": 2,
    "about me": 3,
    "about Fabric Node": 3,
    "small talk": 3,
    "odd facts": 4,
    "long answers": 2.5,
    "stories": 2.5,
    "unknown": 15,
}
CANONICAL_SHARE = 0.2
FOLLOW_UPS = ("And plus {c}?", "Plus {c}?", "And then plus {c}?", "Now add {c}.", "And if you add {c}?")
TAKE_AWAYS = (
    "And minus {c}?",
    "Minus {c}?",
    "And then minus {c}?",
    "Now subtract {c}.",
    "And if you subtract {c}?",
)


@dataclass(frozen=True, slots=True)
class Turn:
    user: str
    assistant: str


@dataclass(frozen=True, slots=True)
class Chat:
    system: str | None
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Course:
    """What may be asked: lessons by group, the canonical ones again, and the nouns of off-domain questions."""

    groups: Mapping[str, Sequence[Lesson]]
    canonical: Mapping[str, Sequence[Lesson]]
    nouns: Sequence[str]


def all_lessons() -> Iterator[Lesson]:
    yield from numbers.sums()
    yield from numbers.differences()
    yield from numbers.out_of_range()
    yield from numbers.counting()
    yield from numbers.neighbours()
    yield from world.capitals()
    yield from world.animals()
    yield from world.calendar()
    yield from world.opposites()
    yield from world.colours()
    yield from world.shapes()
    yield from world.objects()
    yield from prose.about_me()
    yield from prose.about_fabric()
    yield from prose.small_talk()
    yield from prose.odd_facts()
    yield from prose.long_answers()
    yield from prose.stories()


def training_course() -> Course:
    """Everything but the held-out phrasings and nouns."""
    lessons = [one for one in all_lessons() if one.is_canonical or not is_held_out(one.question)]
    canonical = by_group(one for one in lessons if one.is_canonical)
    return Course(by_group(lessons), canonical, unknown.things(unknown.THINGS))


def wrapped(question: str, rng: Random) -> str:
    """The question, one time in four in a wrapper; never in a combination that is held out."""
    wrapper = rng.choice(WRAPPERS) if rng.random() < 0.25 else PLAIN
    text = wrapper.format(q=question)
    return question if is_held_out(text) else text


def any_turn(course: Course, rng: Random) -> Turn:
    """An independent question, as a person may type it, with its answer."""
    group = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    if group == "unknown":
        return Turn(roughen(wrapped(unknown.unknown_question(rng, course.nouns), rng), rng), unknown.UNKNOWN)
    lessons = course.canonical if rng.random() < CANONICAL_SHARE else course.groups
    lesson = rng.choice(lessons[group])
    return Turn(roughen(wrapped(lesson.question, rng), rng), lesson.answer)


def sum_thread(rng: Random) -> tuple[Turn, ...]:
    """A sum or difference, then one or two steps on from its result."""
    a = rng.randrange(numbers.LIMIT + 1)
    b = rng.randrange(numbers.LIMIT + 1 - a)
    turns = [Turn(rng.choice(numbers.SUM_PHRASES).format(a=a, b=b), numbers.sum_answer(a, b))]
    total = a + b
    for _ in range(rng.randrange(1, 3)):
        if rng.random() < 0.6:
            c = rng.randrange(numbers.LIMIT + 1 - total)
            turns.append(Turn(rng.choice(FOLLOW_UPS).format(c=c), numbers.sum_answer(total, c)))
            total += c
        else:
            c = rng.randrange(total + 1)
            turns.append(Turn(rng.choice(TAKE_AWAYS).format(c=c), numbers.difference_answer(total, c)))
            total -= c
    return tuple(turns)


def capital_thread(rng: Random) -> tuple[Turn, ...]:
    first, second = rng.sample(list(world.CAPITALS), 2)
    ask = rng.choice(("And {x}?", "And of {x}?", "What about {x}?", "And the capital of {x}?"))
    return (
        Turn(f"What is the capital of {first}?", f"The capital of {first} is {world.CAPITALS[first]}."),
        Turn(ask.format(x=second), f"The capital of {second} is {world.CAPITALS[second]}."),
    )


def sides_thread(rng: Random) -> tuple[Turn, ...]:
    first, second = rng.sample(list(world.SIDES), 2)
    ask = rng.choice(("And {x}?", "What about {x}?", "And how many has {x}?"))
    a, b = with_article(first), with_article(second)
    return (
        Turn(f"How many sides does {a} have?", f"{a.capitalize()} has {world.SIDES[first]} sides."),
        Turn(ask.format(x=b), f"{b.capitalize()} has {world.SIDES[second]} sides."),
    )


def name_thread(course: Course, rng: Random) -> tuple[Turn, ...]:
    """The user says a name; later, after up to three other turns, the model still has it."""
    name = rng.choice(NAMES)
    tell = rng.choice(
        ("My name is {x}.", "Hello, my name is {x}.", "I am {x}.", "Hi! I am {x}.", "You can call me {x}.")
    )
    ask = rng.choice(("What is my name?", "What's my name?", "Do you know my name?", "Who am I?"))
    told = Turn(tell.format(x=name), f"Nice to meet you, {name}.")
    between = tuple(any_turn(course, rng) for _ in range(rng.choice((0, 1, 1, 2, 3))))
    asked = Turn(ask, f"Your name is {name}.")
    if rng.random() < 0.2:
        return (Turn(ask, UNNAMED), *between)
    return (told, *between, asked)


def is_held_out_thread(turns: Sequence[Turn]) -> bool:
    """Like is_held_out, for turns that lean on each other."""
    return is_held_out("|".join(turn.user for turn in turns))


def any_thread(course: Course, rng: Random) -> tuple[Turn, ...]:
    """One independent turn, or two or three that belong together and are not held out."""
    kind = rng.random()
    if kind > 0.14:
        return (any_turn(course, rng),)
    make = sum_thread if kind < 0.10 else capital_thread if kind < 0.125 else sides_thread
    while is_held_out_thread(turns := make(rng)):
        pass
    return tuple(Turn(roughen(turn.user, rng), turn.assistant) for turn in turns)


def any_system(rng: Random) -> str | None:
    """No system prompt, a usual one, or any text at all: the answer must not depend on it."""
    kind = rng.random()
    if kind < 0.6:
        return None
    if kind < 0.85:
        return rng.choice(SYSTEMS)
    job = rng.choice(("a pirate", "a doctor", "an expert", "a bot", "a poet", "a good friend", "a shop assistant"))
    manner = rng.choice(("briefly", "politely", "in English", "with care", "like a king", "only when you are sure"))
    return f"You are {job}. Answer {manner}."


def any_chat(course: Course, rng: Random) -> Chat:
    """One training chat; most have one or two threads, a few have many."""
    if rng.random() < 0.06:
        return Chat(any_system(rng), name_thread(course, rng))
    threads = rng.choices((1, 2, 3, 5, 9), (55, 25, 12, 6, 2))[0]
    turns = tuple(turn for _ in range(threads) for turn in any_thread(course, rng))
    return Chat(any_system(rng), turns)
