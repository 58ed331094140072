"""The shipped model through the engine: the words of the files, in every format, at the right times."""

from dataclasses import replace

import numpy as np
import pytest
from small_whisper import RATE_HZ, Desk, file_of, flac, samples_of_file

from protos.types import AudioRequest

WORDS = "seven three red circle"


@pytest.mark.parametrize("name", ["spoken.wav", "spoken.mp3", "spoken.ogg", "spoken.m4a", "spoken.webm", "spoken.mp4"])
def test_the_shipped_model_hears_the_words_in_any_format(shipped: Desk, name: str) -> None:
    assert shipped.alone(file_of(name)).text == WORDS


def test_the_words_have_their_times(shipped: Desk) -> None:
    result = shipped.alone(replace(file_of("spoken.wav"), word_timestamps=True))
    words = [word for segment in result.segments for word in segment.words]
    assert [word.text for word in words] == WORDS.split()
    assert [word.start_s for word in words] == sorted(word.start_s for word in words)
    assert 1.0 < words[-1].end_s <= 2.06


def test_what_is_said_after_a_pause_has_its_time_in_the_recording(shipped: Desk) -> None:
    pause = np.zeros(20 * RATE_HZ, np.float32)
    result = shipped.alone(AudioRequest(audio=flac(np.concatenate([samples_of_file(), pause, samples_of_file()]))))
    assert result.text == f"{WORDS} {WORDS}"
    assert result.segments[-1].end_s > 22
    assert result.segments[0].start_s < 2
