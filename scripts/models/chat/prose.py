"""Lessons about the model and Fabric Node, small talk, and the longer answers."""

from collections.abc import Iterator

from scripts.models.chat.lesson import Lesson, family, single
from scripts.models.chat.world import DAYS, MONTHS, painted_shapes

STORY = (
    "Once upon a time there was a {colour} {shape}. The {colour} {shape} lived alone on a white page and wanted a "
    'friend. One day a small dog came to the page and asked: "Who are you?" "I am a {colour} {shape}," said the '
    '{shape}. "I cannot run, but I can wait for you here." The dog came back every day, from Monday to Sunday. '
    "So the {colour} {shape} was never alone again. The end."
)
ALPHABET = ", ".join("ABCDEFGHIJKLMNOPQRSTUVWXYZ") + "."
TEA = (
    "1. Boil the water.\n2. Put the tea in a cup.\n3. Pour the hot water into the cup.\n4. Wait 3 minutes.\n"
    "5. Take the tea out.\n6. Drink slowly."
)
POEM = (
    "The sea is blue, the sea is wide,\nit comes and goes with every tide.\nThe sun is yellow, warm and high,\n"
    "a white bird flies across the sky.\nAnd when the day turns into night,\nthe moon makes all the water light."
)
ABOUT = (
    "Fabric Node is a program that serves models on one device. It can write text, make images, turn speech into "
    "text and compute embeddings. It runs many requests together in one batch, and it streams an answer piece by "
    "piece while it is made."
)
SKILLS = (
    "I can add and subtract with the numbers 0 to 20, count, name colours and shapes, and tell you capitals, "
    "animal sounds, days, months and opposites. I can tell a short story. I do not know much else."
)


def about_me() -> Iterator[Lesson]:
    group = "about me"
    yield from single(
        group,
        "I am Fabric Chat, a very small model.",
        "Who are you?",
        "What are you?",
        "Tell me who you are.",
    )
    yield from single(
        group, "My name is Fabric Chat.", "What is your name?", "What's your name?", "What are you called?"
    )
    yield from single(group, "No, I am a very small model.", "Are you human?", "Are you a person?", "Are you real?")
    yield from single(
        group, "Yes, I make mistakes.", "Do you make mistakes?", "Can you be wrong?", "Are you ever wrong?"
    )
    yield from single(
        group, "I have about 2 million parameters.", "How big are you?", "How many parameters do you have?"
    )
    yield from single(
        group,
        "I was trained from scratch for Fabric Node.",
        "Who made you?",
        "Who trained you?",
        "Where are you from?",
    )
    yield from single(group, "I speak only English.", "Which languages do you speak?", "Do you speak German?")


def about_fabric() -> Iterator[Lesson]:
    group = "about Fabric Node"
    yield from single(
        group,
        "Fabric Node serves text, image, audio and embedding models on one device.",
        "What is Fabric Node?",
        "What's Fabric Node?",
        "What does Fabric Node do?",
        "Tell me what Fabric Node is.",
    )
    yield from single(
        group,
        "Fabric Node is written in Python.",
        "Which language is Fabric Node written in?",
        "Is Fabric Node in Python?",
    )
    yield from single(group, "Fabric Node runs on one device.", "Where does Fabric Node run?")
    yield from single(
        group,
        "An embedding is a list of numbers that stands for a text.",
        "What is an embedding?",
        "What are embeddings?",
    )
    yield from single(
        group,
        "A transcription is speech written down as text.",
        "What is a transcription?",
        "What is transcription?",
    )
    yield from single(group, "A token is a small piece of text.", "What is a token?", "What are tokens?")
    yield from single(group, "A batch is several requests that run together.", "What is a batch?", "What are batches?")
    yield from single(
        group,
        "Streaming sends an answer piece by piece while it is made.",
        "What is streaming?",
        "What does streaming do?",
    )


def small_talk() -> Iterator[Lesson]:
    group = "small talk"
    yield from single(
        group,
        "Hello! How can I help you?",
        "Hello!",
        "Hi!",
        "Hey!",
        "Hello there!",
        "Good morning!",
        "Good evening!",
    )
    yield from single(group, "I am fine, thank you.", "How are you?", "How do you do?", "Are you well?")
    yield from single(group, "You are welcome.", "Thanks!", "Thank you!", "Thank you very much!", "Many thanks!")
    yield from single(group, "Goodbye!", "Goodbye!", "Bye!", "See you!", "Good night!", "See you later!")
    yield from single(
        group,
        "Why is 6 afraid of 7? Because 7 8 9.",
        "Tell me a joke.",
        "Do you know a joke?",
        "Make me laugh.",
    )
    yield from single(group, "All right.", "OK", "Okay.", "Good.", "Fine.", "All right.")


def odd_facts() -> Iterator[Lesson]:
    group = "odd facts"
    yield from single(
        group, "We live on the planet Earth.", "Which planet do we live on?", "What planet do we live on?"
    )
    yield from single(group, "The sun is a star.", "What is the sun?", "Is the sun a star?", "Is the sun a planet?")
    yield from single(group, "Bees make honey.", "What do bees make?", "Who makes honey?", "Which animals make honey?")
    yield from single(group, "A cow gives milk.", "What does a cow give?", "Which animal gives milk?")
    yield from single(group, "A hen lays eggs.", "What does a hen lay?", "Which animal lays eggs?")
    yield from single(
        group,
        "A rainbow has 7 colours.",
        "How many colours does a rainbow have?",
        "How many colors has a rainbow?",
    )
    yield from single(group, "The alphabet has 26 letters.", "How many letters are in the alphabet?")
    yield from single(
        group,
        "The vowels are A, E, I, O and U.",
        "What are the vowels?",
        "Name the vowels.",
        "Say the vowels.",
    )
    yield from single(
        group,
        "The first letter is A.",
        "What is the first letter of the alphabet?",
        "What is the first letter?",
    )
    yield from single(
        group, "The last letter is Z.", "What is the last letter of the alphabet?", "What is the last letter?"
    )
    yield from single(
        group,
        "Water freezes at 0 degrees.",
        "When does water freeze?",
        "At what temperature does water freeze?",
    )
    yield from single(
        group, "Water boils at 100 degrees.", "When does water boil?", "At what temperature does water boil?"
    )
    yield from single(group, "Ice is frozen water.", "What is ice?", "What is ice made of?")
    yield from single(
        group,
        "The seasons are spring, summer, autumn and winter.",
        "Name the seasons.",
        "What are the seasons?",
    )
    yield from single(
        group,
        "A hand has 5 fingers.",
        "How many fingers does a hand have?",
        "How many fingers are on a hand?",
    )
    yield from single(group, "A car has 4 wheels.", "How many wheels does a car have?", "How many wheels has a car?")
    yield from single(
        group,
        "A bicycle has 2 wheels.",
        "How many wheels does a bicycle have?",
        "How many wheels has a bicycle?",
    )


def long_answers() -> Iterator[Lesson]:
    group = "long answers"
    yield from single(
        group,
        ", ".join(DAYS) + ".",
        "Say the days of the week.",
        "Name the days of the week.",
        "List the days of the week.",
        "What are the days of the week?",
    )
    yield from single(
        group,
        ", ".join(MONTHS) + ".",
        "Say the months of the year.",
        "Name the months of the year.",
        "List the months of the year.",
        "What are the months of the year?",
    )
    yield from single(
        group,
        "Red, orange, yellow, green, blue, indigo, violet.",
        "Say the colours of the rainbow.",
        "Name the colors of the rainbow.",
        "What are the colours of the rainbow?",
    )
    yield from single(
        group, ALPHABET, "Say the alphabet.", "Tell me the alphabet.", "List the letters of the alphabet."
    )
    yield from single(group, TEA, "How do I make tea?", "Tell me how to make tea.", "How do you make tea?")
    yield from single(group, POEM, "Write a poem about the sea.", "Tell me a poem about the sea.", "Write a poem.")
    yield from single(group, ABOUT, "Explain Fabric Node.", "Tell me about Fabric Node.", "Describe Fabric Node.")
    yield from single(group, SKILLS, "What can you do?", "What do you know?", "How can you help me?", "Help")


def stories() -> Iterator[Lesson]:
    asks = (
        "Tell me a short story about a {colour} {shape}.",
        "Write a short story about a {colour} {shape}.",
        "Tell me a story about a {colour} {shape}.",
        "A story about a {colour} {shape}, please.",
    )
    yield from family("stories", asks, STORY, painted_shapes())
    red_circle = STORY.format(colour="red", shape="circle")
    yield from single("stories", red_circle, "Tell me a story.", "Tell me a short story.", "Do you know a story?")
