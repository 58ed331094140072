"""Speaks the clips that the tests transcribe, in voices and sentences of no training, and the sample of the first run:
`python -m scripts.models.audio.exam`.

The words are in the file's name, so that the tests need no espeak-ng.
"""

from pathlib import Path
from random import Random
from typing import Annotated

import typer

from scripts.models.audio.speech import flac, spoken
from scripts.models.audio.words import UNHEARD_VARIANTS, Utterance, any_utterance

SEED = 2026  # training speaks with another, and so does evaluate.py
ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "tests" / "models" / "spoken"
SAMPLE = ROOT / "router" / "samples" / "spoken"
SAID = Utterance(
    words=("hello", "three", "red", "circle"), accent="en-gb", variant="f2", words_per_minute=140, pitch=50, gap=5
)


def main(clips: Annotated[int, typer.Option(min=1)] = 100, folder: Path = FOLDER) -> None:
    rng = Random(SEED)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(clips):
        utterance = any_utterance(rng, UNHEARD_VARIANTS, longest=4)
        (folder / f"{number:03}-{'-'.join(utterance.words)}.flac").write_bytes(flac(spoken(utterance)))
    SAMPLE.with_suffix(".flac").write_bytes(flac(spoken(SAID)))
    SAMPLE.with_suffix(".txt").write_text(SAID.text + "\n")


if __name__ == "__main__":
    typer.run(main)
