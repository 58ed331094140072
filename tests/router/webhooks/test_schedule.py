"""When a delivery is tried again, and when it is given up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.webhooks.schedule import (
    FAIRSTACK_SCHEDULE,
    JITTER,
    LONGEST_S,
    MAX_RETRIES,
    SCHEDULE,
    Again,
    Answer,
    Circuit,
    Delivered,
    GivenUp,
    judged,
    retry_after_s,
)

NOW = 1_000_000.0
SILENT = Answer(None, "nobody there")
LIMIT = 4


@given(st.integers(200, 299))
def test_every_2xx_is_success(status: int) -> None:
    assert judged(Answer(status), 1, SCHEDULE, NOW, 0.0) == Delivered()


@given(st.integers(100, 599).filter(lambda status: not 200 <= status < 300 and status != 410))
def test_everything_else_is_tried_again_a_redirect_too(status: int) -> None:
    assert isinstance(judged(Answer(status), 1, SCHEDULE, NOW, 0.0), Again)


def test_a_redirect_is_explained() -> None:
    verdict = judged(Answer(302), 1, SCHEDULE, NOW, 0.0)
    assert isinstance(verdict, Again)
    assert "a redirect, which is not followed" in verdict.why


def test_410_gives_up_and_disables() -> None:
    assert judged(Answer(410), 1, SCHEDULE, NOW, 0.0) == GivenUp("it answered 410: it wants no more", disables=True)


def test_each_retry_waits_as_the_schedule_says() -> None:
    waits = [judged(SILENT, attempt, SCHEDULE, NOW, 0.0) for attempt in range(1, MAX_RETRIES + 1)]
    assert [verdict.due_at - NOW for verdict in waits if isinstance(verdict, Again)] == list(SCHEDULE[1:])


def test_after_the_last_retry_it_is_given_up() -> None:
    assert judged(SILENT, len(SCHEDULE), SCHEDULE, NOW, 0.0) == GivenUp("nobody there; it was tried 10 times")
    assert isinstance(judged(SILENT, 1, SCHEDULE[:1], NOW, 0.0), GivenUp)
    assert isinstance(judged(SILENT, len(FAIRSTACK_SCHEDULE), FAIRSTACK_SCHEDULE, NOW, 0.0), GivenUp)
    assert len(FAIRSTACK_SCHEDULE) == 1 + 3


@given(st.integers(1, MAX_RETRIES), st.floats(0, 1))
def test_jitter_only_adds_and_only_so_much(attempt: int, jitter: float) -> None:
    verdict = judged(SILENT, attempt, SCHEDULE, NOW, jitter)
    assert isinstance(verdict, Again)
    assert SCHEDULE[attempt] <= verdict.due_at - NOW + 1e-6
    assert verdict.due_at - NOW <= SCHEDULE[attempt] * (1 + JITTER) + 1e-6


@given(st.integers(1, MAX_RETRIES), st.floats(0, 10 * LONGEST_S))
def test_retry_after_is_waited_for_up_to_a_bound(attempt: int, asked_s: float) -> None:
    verdict = judged(Answer(503, retry_after_s=asked_s), attempt, SCHEDULE, NOW, 0.0)
    assert isinstance(verdict, Again)
    assert verdict.due_at == pytest.approx(NOW + max(SCHEDULE[attempt], min(asked_s, LONGEST_S)))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Mon, 12 Jan 1970 13:47:40 GMT", 60.0),
        ("Mon, 12 Jan 1970 13:00:00 GMT", 0.0),  # in the past
        ("soon", None),
        ("-5", None),
        ("", None),
        ("99999999999999999999", 999999999.0),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header: str, seconds: float | None) -> None:
    assert retry_after_s({"retry-after": header}, NOW) == seconds


@given(st.text(max_size=40))
def test_no_retry_after_breaks_the_reader(header: str) -> None:
    assert (retry_after_s({"retry-after": header}, NOW) or 0.0) >= 0.0


def after(circuit: Circuit, *answers: Answer) -> Circuit:
    for answer in answers:
        circuit = circuit.after(answer, NOW)
    return circuit


def test_a_target_that_stays_silent_is_left_alone_then_probed_once() -> None:
    circuit = after(Circuit(), *[SILENT] * 4)
    assert circuit.room(LIMIT, 0, NOW) == LIMIT
    circuit = after(circuit, SILENT)
    assert circuit.room(LIMIT, 0, NOW) == 0
    assert circuit.room(LIMIT, 0, circuit.rests_until) == 1
    assert circuit.room(LIMIT, 1, circuit.rests_until) == 0
    assert after(circuit, SILENT) == circuit  # an attempt that began before the rest
    assert circuit.after(SILENT, circuit.rests_until).rests_until > circuit.rests_until + 10.0  # the probe's answer


@given(st.integers(100, 599))
def test_any_answer_ends_the_rest(status: int) -> None:
    circuit = after(Circuit(), *[SILENT] * 9, Answer(status))
    assert circuit.is_fine
    assert circuit.room(LIMIT, 1, NOW) == LIMIT - 1


@given(st.integers(0, 2000), st.integers(0, 10), st.floats(0, 1e9))
def test_room_is_never_negative_and_a_rest_is_bounded(failures: int, running: int, later_s: float) -> None:
    circuit = after(Circuit(), *[SILENT] * failures)
    assert 0 <= circuit.room(LIMIT, running, NOW + later_s) <= LIMIT
    assert circuit.rests_until <= NOW + 300.0
