"""The speech engine over real models: company, arrivals, leaves and cancels change nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_whisper
from hypothesis import given, settings
from hypothesis import strategies as st
from small_whisper import CPU, RATE_HZ, Desk, flac, spec_of

from node.engine import Progress
from node.engines.whisper import load
from node.engines.whisper.batch import Key
from node.engines.whisper.decoding import Decoding
from node.engines.whisper.engine import WhisperEngine, bounded_rows
from node.engines.whisper.model import Ears, load_model, memory_errors
from protos.errors import InputInvalid, LoadFailed
from protos.types import AudioRequest, AudioResult, Task, TaskId, TextRequest


def babble(number: int) -> AudioRequest:
    """Requests that differ in length, language, prompt, task and words."""
    seconds = (1.0, 3.0, 9.0, 40.0, 2.0, 65.0)[number % 6]
    return AudioRequest(
        audio=flac(small_whisper.noise(seconds, seed=number)),
        vad=False,
        language=("", "en", "de", "", "fr", "en")[number % 6],
        task="translate" if number % 4 == 3 else "transcribe",
        prompt="seven three" if number % 3 == 1 else "",
        word_timestamps=number % 2 == 1,
    )


@pytest.fixture(scope="session")
def babbled(babbling_engine: WhisperEngine) -> dict[int, AudioResult]:
    """What each request gets alone."""
    return {number: Desk(babbling_engine).alone(babble(number)) for number in range(6)}


def test_the_random_model_says_different_things(babbled: dict[int, AudioResult]) -> None:
    assert len({result.text for result in babbled.values()}) == 6
    assert all(result.text and result.segments for result in babbled.values())
    assert {result.language for result in babbled.values()} <= {"en", "de", "fr"}


arrivals = st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True)
moves = st.lists(st.sampled_from(["arrive", "step", "cancel", "busy step"]), max_size=12)


@settings(max_examples=8)
@given(order=arrivals, plan=moves, cancelled=st.integers(0, 5))
def test_company_changes_no_answer(
    babbling_engine: WhisperEngine, babbled: dict[int, AudioResult], order: list[int], plan: list[str], cancelled: int
) -> None:
    desk, waiting, left = Desk(babbling_engine), list(order), set()
    for move in plan:
        if move == "arrive" and waiting and desk.seat(f"{waiting[0]}", babble(waiting[0])):
            waiting.pop(0)
        elif move == "cancel" and not desk.ended(f"{cancelled}"):
            babbling_engine.cancel(f"{cancelled}")
            left.add(cancelled)
        elif move.endswith("step") and babbling_engine.seated:
            desk.step(1e-9 if move == "busy step" else None)
    while waiting or babbling_engine.seated:
        if waiting and desk.seat(f"{waiting[0]}", babble(waiting[0])):
            waiting.pop(0)
        desk.step()
    finished = [number for number in order if desk.ended(f"{number}")]
    assert set(order) - set(finished) <= left
    for number in finished:
        assert same(desk.result(f"{number}"), babbled[number])
        assert list(desk.segments(f"{number}")) == list(desk.result(f"{number}").segments)


def same(one: AudioResult, other: AudioResult) -> bool:
    """Equal in all but the last digits of the words' probabilities."""
    bare = [replace(result, segments=[bare_segment(s) for s in result.segments]) for result in (one, other)]
    numbers = [[w.probability for s in result.segments for w in s.words] for result in (one, other)]
    return bare[0] == bare[1] and np.allclose(*numbers, atol=1e-4)


def bare_segment(segment: object) -> object:
    return replace(segment, words=[replace(word, probability=0.0) for word in segment.words])  # type: ignore


def test_windows_of_several_requests_share_a_step(babbling: Desk) -> None:
    for number in (1, 4):  # en and fr, of one class of length
        assert babbling.seat(f"{number}", replace(babble(number), prompt="", word_timestamps=False))
    step = babbling.engine.step(None)
    assert step.work == {"1": 1, "4": 1}


def test_while_others_wait_a_step_is_short(babbling: Desk) -> None:
    long = AudioRequest(audio=flac(small_whisper.noise(280.0, seed=5)), vad=False, language="en")
    babbling.seat("long", long)
    assert sum(babbling.engine.step(None).work.values()) == 8
    # A tiny model's own times are noise, in which more windows may seem to cost no more: then four are taken.
    for costs in babbling.engine._costs.values():
        for windows in (1, 2, 4) * 50:
            costs.observe(windows, float(windows))
    assert sum(babbling.engine.step(1e-9).work.values()) == 2
    babbling.engine.cancel("long")


@pytest.mark.parametrize(("affordable", "rows"), [(None, 4), (1, 2), (3, 3), (100, 4)])
def test_a_call_while_others_wait_has_two_to_four_windows(affordable: int | None, rows: int) -> None:
    assert bounded_rows(affordable) == rows


def test_segments_and_progress_come_while_a_long_file_is_running(babbling: Desk) -> None:
    babbling.seat("long", AudioRequest(audio=flac(small_whisper.noise(150.0, seed=5)), vad=False, language="en"))
    babbling.step(1e-9)
    assert not babbling.ended("long")
    assert babbling.segments("long")
    babbling.run(1e-9)
    fractions = [event.fraction for event in babbling.events["long"] if isinstance(event, Progress)]
    assert fractions == sorted(set(fractions))
    starts = [segment.start_s for segment in babbling.result("long").segments]
    assert starts == sorted(starts)
    assert starts[-1] > 100


def test_a_cancelled_request_frees_its_seat_and_says_no_more(babbling: Desk) -> None:
    babbling.seat("long", AudioRequest(audio=flac(small_whisper.noise(150.0, seed=5)), vad=False, language="en"))
    babbling.step(1e-9)
    told = len(babbling.events["long"])
    babbling.engine.cancel("long")
    assert babbling.engine.seated == 0
    babbling.seat("next", babble(0))
    babbling.run()
    assert len(babbling.events["long"]) == told
    assert babbling.ended("next")


def test_words_are_asked_for_and_lie_within_the_recording(babbling: Desk) -> None:
    result = babbling.alone(replace(babble(5), word_timestamps=True))
    words = [word for segment in result.segments for word in segment.words]
    assert words
    assert all(0 <= word.start_s <= word.end_s <= 65 for word in words)
    assert all(0 <= word.probability <= 1 for word in words)
    assert all(not segment.words for segment in babbling.alone(replace(babble(5), word_timestamps=False)).segments)


def test_poor_answers_are_tried_at_every_temperature_and_then_the_best_is_taken(multilingual_path: Path) -> None:
    spec, decoding = spec_of(multilingual_path), Decoding(logprob_threshold=1.0, no_speech_threshold=1.0)
    engine = WhisperEngine(spec, Ears(load_model(spec, CPU), decoding), decoding, "cpu")
    desk, steps = Desk(engine), 0
    desk.seat("poor", replace(babble(0), temperature=0.4))
    while engine.seated:
        desk.step()
        steps += 1
    assert steps == 4  # 0.4, 0.6, 0.8, 1.0
    assert desk.result("poor").text


def test_only_the_window_whose_answer_is_poor_is_tried_again(multilingual_path: Path) -> None:
    """Of two windows; what is good enough lies between what the model thinks of its two answers."""
    spec, lenient = spec_of(multilingual_path), Decoding(logprob_threshold=-1e9, compression_ratio_threshold=1e9)
    model = load_model(spec, CPU)
    asked = AudioRequest(audio=flac(small_whisper.noise(50.0, seed=5)), vad=False, language="en")
    ears = Ears(model, lenient)
    engine = WhisperEngine(spec, ears, lenient, "cpu")
    vocals = engine.prepare(Task(id=TaskId("t"), request=asked)).payload.vocals
    prompts = [ears.prompt([], "en", "transcribe")] * 2
    attempts = ears.generate(ears.encode([vocal.mel for vocal in vocals]), prompts, Key(0, 0.0, vocals[0].max_tokens))
    sureness = [attempt.avg_logprob for attempt in attempts]
    assert len(set(sureness)) == 2
    strict = replace(lenient, logprob_threshold=sum(sureness) / 2, no_speech_threshold=1.0)
    desk, work = Desk(WhisperEngine(spec, Ears(model, strict), strict, "cpu")), list[int]()
    desk.seat("t", asked)
    while desk.engine.seated:
        work.append(sum(desk.engine.step(None).work.values()))
    assert work[0] == 2
    assert len(work) > 1
    assert set(work[1:]) == {1}


def test_an_unknown_language_is_told_by_the_first_window_for_all(babbling: Desk) -> None:
    """The first call takes one window of the file; then its language is what CTranslate2 finds likeliest."""
    asked = AudioRequest(audio=flac(small_whisper.noise(65.0, seed=5)), vad=False)
    assert babbling.seat("t", asked)
    assert dict(babbling.engine.step(None).work) == {"t": 1}
    babbling.run()
    engine = babbling.engine
    assert isinstance(engine, WhisperEngine)
    (first, *_) = engine.prepare(Task(id=TaskId("t"), request=asked)).payload.vocals
    (expected,) = engine._ears.detect(engine._ears.encode([first.mel]))
    assert babbling.result("t").language == expected
    known = babbling.alone(replace(asked, language=expected))
    assert babbling.result("t").text == known.text


def test_language_task_and_prompt_each_reach_the_model(babbling: Desk) -> None:
    asked = AudioRequest(audio=flac(small_whisper.noise(20.0, seed=8)), vad=False, language="en")
    changes: tuple[dict[str, Any], ...] = ({}, {"language": "de"}, {"task": "translate"}, {"prompt": "seven three"})
    said = {babbling.alone(replace(asked, **change)).text for change in changes}
    assert len(said) == len(changes)


def test_a_window_without_speech_in_the_models_ears_is_silent(multilingual_path: Path) -> None:
    spec, decoding = spec_of(multilingual_path), Decoding(logprob_threshold=1.0, no_speech_threshold=-1.0)
    engine = WhisperEngine(spec, Ears(load_model(spec, CPU), decoding), decoding, "cpu")
    result = Desk(engine).alone(babble(0))
    assert (result.text, result.segments) == ("", ())


def test_silence_ends_in_one_step_with_an_empty_text(babbling: Desk) -> None:
    silence = AudioRequest(audio=flac(np.zeros(60 * RATE_HZ, np.float32)), language="de")
    babbling.seat("silence", silence)
    babbling.seat("speaker", babble(1))
    babbling.step()
    assert babbling.result("silence") == AudioResult("", "de", 60.0, ())
    babbling.run()
    assert babbling.ended("speaker")


def test_another_modality_is_refused(babbling: Desk) -> None:
    with pytest.raises(InputInvalid, match="is for text, and ears is a speech model"):
        babbling.seat("text", TextRequest(prompt="hello"))  # type: ignore[arg-type]  # what is tested


def test_a_missing_file_is_named(tmp_path: Path, multilingual_path: Path) -> None:
    for file in multilingual_path.iterdir():
        if file.name != "tokenizer.json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(LoadFailed, match=r"lacks tokenizer.json: convert the model"):
        load(spec_of(tmp_path), CPU)


def test_a_broken_file_is_a_failed_load(tmp_path: Path, multilingual_path: Path) -> None:
    for file in multilingual_path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.bin").write_bytes(b"broken")
    with pytest.raises(LoadFailed, match="ears cannot be loaded from"):
        load(spec_of(tmp_path), CPU)


def test_a_full_device_is_a_memory_error() -> None:
    with pytest.raises(MemoryError, match="CUDA failed"), memory_errors():
        raise RuntimeError("CUDA failed with error out of memory")
    with pytest.raises(RuntimeError, match="something else"), memory_errors():
        raise RuntimeError("something else")
