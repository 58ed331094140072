"""What a vendor's HTTP status means to us: one table for all of them. Pure.

Not about how a client library raises it (each vendor's own file). Sources: https://platform.openai.com/docs/guides/error-codes,
https://docs.claude.com/en/api/errors.
"""

import email.utils
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

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

_NO_CREDIT: Final = ("insufficient_quota", "billing", "credit balance")  # in a code, a type or a message
_NO_MODEL: Final = ("model_not_found", "not_found_error")
_TRANSIENT_409_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Who was called with what, for messages."""

    vendor: ProviderId
    model: ModelId
    key_variable: str
    key: str = field(default="", repr=False)


def status_error(
    call: Call, status: int, said: str, *, kind: str = "", retry_after_s: float | None = None
) -> FabricError:
    """kind: the vendor's own type or code of the error. A 5xx says nothing of whether the call was run and is charged."""
    told = sanitized(said, call.key) or "no reason given"
    answered = f"{call.vendor} answered {status} ({told})"
    if status in (401, 402, 403) or (status < 500 and any(word in f"{kind} {said}".lower() for word in _NO_CREDIT)):
        return _refused(call, status, kind, said)
    if status == 404 or (status == 400 and kind in _NO_MODEL):
        return ModelNotFound(f"{call.vendor} has no model {call.model!r} for this key ({told}): name another")
    if status == 413:
        return PayloadTooLarge(f"{answered}: send less, or use a model on this box")
    if status in (429, 529):
        return Overloaded(f"{answered}: too many requests or too much load there", retry_after_s=retry_after_s)
    if status in (400, 405, 410, 415, 422):
        return InputInvalid.at("", f"{call.vendor} does not take this request for {call.model} ({told})")
    return NodeUnavailable(
        f"{answered}: retry later",
        retry_after_s=_TRANSIENT_409_S if status == 409 and retry_after_s is None else retry_after_s,
        may_have_run=status != 503,
    )


def _refused(call: Call, status: int, kind: str, said: str) -> VendorRefused:
    """Without a word of what the vendor said: it may have repeated the key."""
    if any(word in f"{kind} {said}".lower() for word in _NO_CREDIT) or status == 402:
        why = "the account has no credit left: add some there"
    elif status == 403:
        why = f"the key may not use {call.model}, or not from here: look at its rights there"
    else:
        why = "the key is wrong, expired or disabled: replace it"
    return VendorRefused(
        f"{call.vendor} answered {status}: {why}. The key is {call.key_variable}, or the organization's secret of that name"
    )


_STATUS_OF: Final = {  # of an error within a stream, by its code or type
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "overloaded_error": 529,
}


def failure_within(call: Call, error: object) -> FabricError:
    """What a vendor says within its stream, {"message", "type", "code"} or a text: after it had accepted the call."""
    told = error if isinstance(error, dict) else {"message": error}
    kinds = [str(told.get(name) or "") for name in ("code", "type")]
    kind = next((kind for kind in kinds if kind in _STATUS_OF), kinds[0] or kinds[1])
    ours = status_error(call, _STATUS_OF.get(kind, 500), str(told.get("message") or told), kind=kind)
    ours.may_have_run = True
    return ours


def unreachable(call: Call, where: str, why: str) -> NodeUnavailable:
    """No connection: nothing was sent."""
    return NodeUnavailable(f"{call.vendor} cannot be reached at {where} ({sanitized(why, call.key)}): is it up?")


def cut(call: Call, why: str) -> NodeUnavailable:
    """The call was sent and its answer did not arrive whole."""
    return NodeUnavailable(
        f"the answer of {call.vendor} was cut ({sanitized(why, call.key)}): it may have been run and charged",
        may_have_run=True,
    )


def malformed(call: Call, why: str) -> NodeUnavailable:
    """The answer arrived and is not what the vendor's API says."""
    return NodeUnavailable(
        f"the answer of {call.vendor} for {call.model} is not of its own API ({sanitized(why, call.key)}): "
        "it was run and may be charged",
        may_have_run=True,
    )


@contextmanager
def reading(call: Call) -> Iterator[None]:
    """Around the reading of an answer's fields, which the official clients do not check."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise malformed(call, f"{type(error).__name__}: {error}") from None  # its words may repeat the key


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """What the answer's headers ask for; now: seconds since the epoch. Source: RFC 9110, 10.2.3; retry-after-ms is OpenAI's."""
    try:
        if "retry-after-ms" in headers:
            return max(float(headers["retry-after-ms"]) / 1000, 0.0)
        text = headers.get("retry-after", "")
        if not text:
            return None
        if text.replace(".", "", 1).isdecimal():
            return float(text)
        return max(email.utils.parsedate_to_datetime(text).timestamp() - now, 0.0)
    except ValueError:
        return None
