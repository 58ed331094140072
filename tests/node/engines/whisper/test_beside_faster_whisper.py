"""The model that ships beside faster-whisper's own loop: recordings heard in shared calls get the words, times and
probabilities that the library finds in each alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from faster_whisper import WhisperModel
from small_whisper import CPU, Desk, spec_of

from node.engines.whisper import load
from protos.types import AudioRequest, Blob, Word

ROOT = Path(__file__).parents[4]
MODEL = ROOT / "models" / "fabric-whisper"
SPOKEN = sorted((ROOT / "tests" / "models" / "spoken").glob("*.flac"))[3:7]


@pytest.fixture(scope="module")
def together() -> Desk:
    """All recordings at once, so that each shares its call with others."""
    desk = Desk(load(spec_of(MODEL, seats=len(SPOKEN)), CPU))
    for path in SPOKEN:
        assert desk.seat(path.stem, AudioRequest(audio=Blob(path.read_bytes()), word_timestamps=True))
    desk.step()
    assert all(desk.ended(path.stem) for path in SPOKEN), "they did not share one call"
    return desk


@pytest.fixture(scope="module")
def library() -> WhisperModel:
    return WhisperModel(str(MODEL), device="cpu", cpu_threads=1, local_files_only=True)


def expected(library: WhisperModel, path: Path) -> Iterator[Word]:
    segments, _ = library.transcribe(
        str(path),
        language="en",
        vad_filter=True,
        vad_parameters={"min_silence_duration_ms": 160},
        word_timestamps=True,
        condition_on_previous_text=False,
    )
    for segment in segments:
        for word in segment.words or ():
            yield Word(float(word.start), float(word.end), word.word.strip(), float(word.probability))


@pytest.mark.parametrize("path", SPOKEN, ids=lambda path: path.stem)
def test_words_times_and_probabilities_are_the_librarys(together: Desk, library: WhisperModel, path: Path) -> None:
    found = [word for segment in together.result(path.stem).segments for word in segment.words]
    known = list(expected(library, path))
    assert known
    assert [word.text for word in found] == [word.text for word in known]
    times = [(word.start_s, word.end_s) for word in known]
    assert [(word.start_s, word.end_s) for word in found] == [pytest.approx(pair, abs=0.011) for pair in times]
    assert [word.probability for word in found] == pytest.approx([word.probability for word in known], abs=5e-3)
