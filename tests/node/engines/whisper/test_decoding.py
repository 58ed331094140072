"""When an answer is taken, and what is tried next."""

import pytest

from node.engines.whisper.decoding import Attempt, Decoding, best, compression_ratio, judge, max_tokens, temperatures


def attempt(logprob: float = -0.2, no_speech: float = 0.0, ratio: float = 1.0) -> Attempt:
    return Attempt([1], logprob, no_speech, ratio)


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (attempt(), "accept"),
        (attempt(no_speech=0.99), "accept"),  # it is sure of its words
        (attempt(logprob=-1.5), "retry"),
        (attempt(ratio=3.0), "retry"),
        (attempt(logprob=-1.5, no_speech=0.7), "silent"),
        (attempt(logprob=-1.5, no_speech=0.7, ratio=3.0), "silent"),
    ],
)
def test_an_answer_is_judged_as_faster_whisper_does(given: Attempt, verdict: str) -> None:
    assert judge(given, Decoding()) == verdict


def test_the_best_of_bad_answers_is_the_most_probable_that_does_not_repeat_itself() -> None:
    likely_loop, varied, worse = attempt(-0.1, ratio=9.0), attempt(-2.0), attempt(-3.0)
    assert best([likely_loop, worse, varied], Decoding()) is varied
    assert best([likely_loop, attempt(-0.5, ratio=9.0)], Decoding()) is likely_loop


def test_the_ladder_climbs_to_1_from_what_was_asked_for() -> None:
    assert temperatures(0.0) == (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    assert temperatures(0.5) == (0.5, 0.7, 0.9)
    assert temperatures(1.0) == (1.0,)


def test_repetition_compresses() -> None:
    assert compression_ratio("no " * 60) > 2.4 > compression_ratio("seven three red circle")


def test_the_bound_of_tokens_grows_with_the_duration_and_has_few_classes() -> None:
    bounds = [max_tokens(tenths / 10) for tenths in range(301)]
    assert bounds == sorted(bounds)
    assert len(set(bounds)) == 3
    assert all(bound >= min(224, 8 * tenths / 10 + 16) for tenths, bound in enumerate(bounds))
