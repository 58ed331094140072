"""What the speech model can: `python -m scripts.models.audio.evaluate models/fabric-whisper` prints the card's table."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Annotated

import jiwer
import numpy as np
import typer

from node.engine import DeviceSpec, Done, Engine, ModelSpec
from node.engines.whisper import load
from protos.types import AudioRequest, AudioResult, Blob, Modality, ModelId, Task, TaskId
from scripts.models.audio.speech import flac, spoken, with_noise
from scripts.models.audio.words import TAUGHT_VARIANTS, UNHEARD_VARIANTS, Utterance, any_utterance

SEED = 99  # training speaks with another
SEATS = 16
Case = tuple[Utterance, Blob]


def cases(rng: Random, variants: tuple[str, ...], count: int, snr_db: float | None, longest: int) -> list[Case]:
    made = []
    for number in range(count):
        utterance = any_utterance(rng, variants, longest)
        clip = spoken(utterance)
        if snr_db is not None:
            clip = with_noise(clip, np.random.default_rng((SEED, number)), snr_db)
        made.append((utterance, Blob(flac(clip), "audio/flac")))
    return made


def transcribe(engine: Engine, blobs: list[Blob]) -> Iterator[AudioResult]:
    """Through the node's own engine, as a job would be."""
    for first in range(0, len(blobs), SEATS):
        done: dict[str, AudioResult] = {}
        for number, blob in enumerate(blobs[first : first + SEATS]):
            task = Task(id=TaskId(f"{first + number}"), request=AudioRequest(audio=blob))
            assert engine.admit(engine.prepare(task)), "an empty engine has room: this is a bug"
        while engine.seated:
            for task_id, event in engine.step(None).events:
                if isinstance(event, Done):
                    done[task_id] = engine.finish(event.raw)
        yield from (done[f"{number}"] for number in range(first, first + len(done)))


def measure(engine: Engine, said: list[Case]) -> tuple[float, float, list[tuple[str, str]]]:
    """(word error rate, share of clips without any error, the wrong ones as (said, heard))."""
    pairs = [
        (utterance.text, result.text)
        for (utterance, _), result in zip(said, transcribe(engine, [blob for _, blob in said]), strict=True)
    ]
    wrong = [pair for pair in pairs if pair[0] != pair[1]]
    return jiwer.wer(*map(list, zip(*pairs, strict=True))), 1 - len(wrong) / len(pairs), wrong


def main(
    model: Annotated[Path, typer.Argument(help="the folder of the converted model")],
    clips: Annotated[int, typer.Option(min=1, help="in each row of the table")] = 100,
    show_failures: bool = False,
) -> None:
    """New sentences in each row; the first and the last three are spoken by voices that training never heard."""
    spec = ModelSpec(id=ModelId("model"), engine="whisper", modality=Modality.AUDIO, path=str(model), seats=SEATS)
    engine, rng = load(spec, DeviceSpec("cpu")), Random(SEED)
    rows = {
        "voices never heard, clean, 1 to 4 words": (UNHEARD_VARIANTS, None, 4),
        "voices of the training, clean, 1 to 4 words": (TAUGHT_VARIANTS, None, 4),
        "voices never heard, noise 20 dB below, 1 to 4 words": (UNHEARD_VARIANTS, 20.0, 4),
        "voices never heard, noise 10 dB below, 1 to 4 words": (UNHEARD_VARIANTS, 10.0, 4),
        "voices never heard, clean, 1 to 8 words": (UNHEARD_VARIANTS, None, 8),
    }
    print("| clips | word error rate | without an error |\n|---|---|---|")
    for name, (variants, snr_db, longest) in rows.items():
        rate, perfect, wrong = measure(engine, cases(rng, variants, clips, snr_db, longest))
        print(f"| {name} | {rate:.1%} | {perfect:.0%} |", flush=True)
        for said, heard in wrong if show_failures else ():
            print(f"    said {said!r}, heard {heard!r}")


if __name__ == "__main__":
    typer.run(main)
