"""One table from what vendors answer to our errors: what each means, and whether the call may have been paid."""

import pytest

from protos.errors import (
    FabricError,
    InputInvalid,
    ModelNotFound,
    NodeUnavailable,
    Overloaded,
    PayloadTooLarge,
    VendorRefused,
)
from protos.types import ModelId, ProviderId
from providers.keys import sanitized
from providers.vendor_errors import Call, cut, malformed, retry_after_s, status_error, unreachable

KEY = "sk-proj-0123456789abcdefghijklmnop"
CALL = Call(vendor=ProviderId("openai"), model=ModelId("gpt-4o"), key_variable="OPENAI_API_KEY", key=KEY)
NOW = 1_760_000_000.0


@pytest.mark.parametrize(
    ("status", "kind", "error", "may_have_run"),
    [
        (400, "", InputInvalid, False),
        (400, "context_length_exceeded", InputInvalid, False),
        (400, "model_not_found", ModelNotFound, False),
        (401, "invalid_api_key", VendorRefused, False),
        (402, "", VendorRefused, False),
        (403, "", VendorRefused, False),
        (404, "model_not_found", ModelNotFound, False),
        (408, "", NodeUnavailable, True),
        (409, "", NodeUnavailable, True),
        (413, "", PayloadTooLarge, False),
        (422, "", InputInvalid, False),
        (429, "rate_limit_exceeded", Overloaded, False),
        (429, "insufficient_quota", VendorRefused, False),
        (500, "server_error", NodeUnavailable, True),
        (502, "", NodeUnavailable, True),
        (503, "", NodeUnavailable, False),
        (504, "", NodeUnavailable, True),
        (529, "overloaded_error", Overloaded, False),
        (302, "", NodeUnavailable, True),
    ],
)
def test_each_status_has_one_meaning(status: int, kind: str, error: type[FabricError], *, may_have_run: bool) -> None:
    ours = status_error(CALL, status, "its own words", kind=kind)
    assert type(ours) is error
    assert ours.may_have_run is may_have_run
    assert "openai" in ours.message


def test_a_refused_key_names_the_variable_and_repeats_nothing() -> None:
    ours = status_error(CALL, 401, f"Incorrect API key provided: {KEY}.")
    assert "OPENAI_API_KEY" in ours.message
    assert "replace it" in ours.message
    assert "Incorrect" not in ours.message


def test_no_credit_is_told_apart_from_a_wrong_key() -> None:
    assert "no credit" in status_error(CALL, 429, "check your plan and billing details").message
    assert "no credit" in status_error(CALL, 400, "Your credit balance is too low").message
    assert "rights" in status_error(CALL, 403, "not allowed").message


def test_the_vendor_s_words_and_wait_are_passed_on() -> None:
    ours = status_error(CALL, 429, "Rate limit reached for gpt-4o", retry_after_s=7.5)
    assert "Rate limit reached for gpt-4o" in ours.message
    assert ours.retry_after_s == 7.5
    assert ours.retryable


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "20"}, 1.5),
        ({"retry-after": "Thu, 09 Oct 2025 08:53:50 GMT"}, 30.0),
        ({"retry-after": "Thu, 09 Oct 2025 08:50:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "soon"}, None),
        ({"retry-after": "-1"}, None),
    ],
)
def test_retry_after_is_seconds_milliseconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW) == seconds


def test_what_was_never_sent_cannot_have_run() -> None:
    assert not unreachable(CALL, "http://host", "refused").may_have_run
    assert cut(CALL, "reset").may_have_run
    assert malformed(CALL, "no choices").may_have_run


@pytest.mark.parametrize(
    "said",
    [
        f"key {KEY} is wrong",
        "key sk-proj-********************abcd is wrong",
        "Authorization: Bearer abcdef123456",
        "fab_0123456789abcdef",
        "gsk_0123456789",
    ],
)
def test_nothing_that_looks_like_a_key_is_repeated(said: str) -> None:
    told = sanitized(said, KEY)
    assert "***" in told
    assert "0123456789" not in told
    assert "abcd" not in told


def test_a_key_of_any_look_is_not_repeated() -> None:
    assert sanitized("your key p4ssw0rd is wrong", "p4ssw0rd") == "your key *** is wrong"


def test_long_words_are_cut() -> None:
    assert len(sanitized("x" * 5000)) == 300
