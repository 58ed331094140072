"""The speech model that ships: its files, its size, what it hears of voices and sentences of no training, and the sample."""

import json
from importlib.resources import files
from pathlib import Path

import jiwer
import pytest
import small_whisper

from node.engine import Engine
from node.engines.whisper import load
from protos.types import AudioRequest, AudioResult, Blob

ROOT = Path(__file__).parents[2]
DIRECTORY = ROOT / "models" / "fabric-whisper"
SPOKEN = sorted((ROOT / "tests" / "models" / "spoken").glob("*.flac"))
SAMPLE = files("router") / "samples"
MAX_BYTES = 12_000_000
MAX_WORD_ERRORS = 0.10


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load(small_whisper.spec_of(DIRECTORY), small_whisper.CPU)


def heard(engine: Engine, path: Path, **options: object) -> AudioResult:
    request = AudioRequest(audio=Blob(path.read_bytes(), "audio/flac"), **options)  # type: ignore[arg-type]  # of each field
    return small_whisper.Desk(engine).alone(request)


def test_the_directory_is_small_enough_to_ship() -> None:
    assert sum(file.stat().st_size for file in DIRECTORY.iterdir()) <= MAX_BYTES


def test_it_has_the_files_that_faster_whisper_reads() -> None:
    names = {file.name for file in DIRECTORY.iterdir()}
    assert {"model.bin", "config.json", "vocabulary.json", "tokenizer.json", "preprocessor_config.json"} <= names
    vocabulary = json.loads((DIRECTORY / "vocabulary.json").read_text())
    assert "" not in vocabulary  # with it CTranslate2 would take the model for a multilingual one
    assert {"<|nospeech|>", "<|notimestamps|>", "<|0.00|>", "<|30.00|>"} <= set(vocabulary)


@pytest.mark.timeout(900)  # seconds, for a hundred recordings on a machine that does more than that
def test_voices_and_sentences_of_no_training_are_understood(engine: Engine) -> None:
    said = [" ".join(path.stem.split("-")[1:]) for path in SPOKEN]
    assert len(said) == 100
    assert jiwer.wer(said, [heard(engine, path).text for path in SPOKEN]) <= MAX_WORD_ERRORS


def test_the_spoken_sample_is_heard_word_for_word(engine: Engine) -> None:
    result = heard(engine, Path(str(SAMPLE / "spoken.flac")), word_timestamps=True)
    assert result.text == (SAMPLE / "spoken.txt").read_text().strip()
    assert result.language == "en"
    assert 0 <= result.segments[0].start_s < result.segments[-1].end_s <= result.duration_s
    words = [word for segment in result.segments for word in segment.words]
    assert [word.text.strip() for word in words] == result.text.split()
    assert [word.start_s for word in words] == sorted(word.start_s for word in words)
