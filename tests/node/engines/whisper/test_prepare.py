"""A request to windows: values checked, speech found, silence left out."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import small_whisper
from faster_whisper.feature_extractor import FeatureExtractor
from small_whisper import RATE_HZ, file_of, flac, samples_of_file
from tokenizers import Tokenizer

from node.engines.whisper.prepare import Languages, Reader
from protos.errors import InputInvalid
from protos.types import AudioRequest, Blob
from scripts.models.audio.tokenizer import build_tokenizer

ENGLISH = Languages(frozenset({"en"}), is_multilingual=False)
THREE = Languages(frozenset({"en", "de", "fr"}), is_multilingual=True)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return build_tokenizer()


@pytest.fixture(scope="module")
def english(tokenizer: Tokenizer) -> Reader:
    return Reader(tokenizer, FeatureExtractor(), ENGLISH)


@pytest.fixture(scope="module")
def polyglot(tokenizer: Tokenizer) -> Reader:
    return Reader(tokenizer, FeatureExtractor(), THREE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"language": "xx"}, r"language: is 'xx': this model knows de, en, fr"),
        ({"temperature": 1.5}, "temperature: is 1.5: give 0 to 1"),
        ({"temperature": -0.1}, "temperature: is -0.1: give 0 to 1"),
        ({"temperature": float("nan")}, "temperature: is nan: give 0 to 1"),
        ({"task": "summarise"}, "task: is 'summarise': give transcribe or translate"),
    ],
)
def test_a_value_that_cannot_be_served_is_named(polyglot: Reader, change: dict[str, object], message: str) -> None:
    with pytest.raises(InputInvalid, match=message):
        polyglot.read(replace(file_of("spoken.wav"), **change))


def test_an_english_model_translates_nothing_and_knows_english_only(english: Reader) -> None:
    request = replace(file_of("spoken.wav"), language="de", task="translate", temperature=2.0)
    with pytest.raises(InputInvalid) as caught:
        english.read(request)
    assert [error["path"] for error in caught.value.details["errors"]] == ["language", "task", "temperature"]


def test_the_language_is_open_only_where_the_model_has_several(english: Reader, polyglot: Reader) -> None:
    assert english.read(file_of("spoken.wav")).language == "en"
    assert polyglot.read(file_of("spoken.wav")).language == ""
    assert polyglot.read(replace(file_of("spoken.wav"), language="fr")).language == "fr"


def test_silence_between_sentences_is_left_out_of_the_window(english: Reader) -> None:
    said, pause = samples_of_file(), np.zeros(20 * RATE_HZ, np.float32)
    payload = english.read(AudioRequest(audio=flac(np.concatenate([said, pause, said]))))
    (vocal,) = payload.vocals
    assert payload.duration_s == pytest.approx(2 * len(said) / RATE_HZ + 20)
    assert len(vocal.window) == 2
    assert vocal.duration_s < 7
    assert vocal.mel.shape == (80, pytest.approx(vocal.duration_s * 100, abs=2))


def test_without_the_search_for_speech_all_of_it_is_read(english: Reader) -> None:
    payload = english.read(AudioRequest(audio=flac(np.zeros(40 * RATE_HZ, np.float32)), vad=False))
    assert sum(vocal.duration_s for vocal in payload.vocals) == pytest.approx(40)


def test_an_hour_of_silence_has_no_windows_and_takes_little_more_memory_than_its_samples(english: Reader) -> None:
    request = AudioRequest(audio=flac(np.zeros(3600 * RATE_HZ, np.float32)))
    tracemalloc.start()
    payload = english.read(request)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert payload.duration_s == 3600
    assert payload.vocals == []
    assert peak_bytes < 1.7 * 3600 * RATE_HZ * 4  # as float32; and as 16 bit, while it is read


def test_speech_is_found_in_every_part_of_a_long_recording(english: Reader) -> None:
    """It is searched in pieces of ten minutes."""
    said, samples = samples_of_file(), np.zeros(11 * 60 * RATE_HZ, np.float32)
    starts_s = (5, 640)
    for start_s in starts_s:
        samples[start_s * RATE_HZ :][: len(said)] = said
    (vocal,) = english.read(AudioRequest(audio=flac(samples))).vocals
    assert [span.start / RATE_HZ for span in vocal.window] == pytest.approx(starts_s, abs=1)


def test_faint_hiss_is_searched_and_is_no_speech(english: Reader) -> None:
    hiss = small_whisper.noise(10.0, seed=1) * 0.01
    assert english.read(AudioRequest(audio=flac(hiss))).vocals == []


def test_the_prompt_is_the_last_that_fits(english: Reader) -> None:
    payload = english.read(replace(file_of("spoken.wav"), prompt="seven " * 300))
    assert len(payload.prompt) == 223
    assert len(set(payload.prompt)) == 1
    assert english.read(replace(file_of("spoken.wav"), prompt="  ")).prompt == []


def test_a_wrong_file_is_an_error_of_the_request(english: Reader) -> None:
    with pytest.raises(InputInvalid, match="cannot be read as audio"):
        english.read(AudioRequest(audio=Blob(b"no audio at all, but long enough to look at")))
