"""What the official client raises, as our errors: the one place that knows both.

Not about what a status means (providers/vendor_errors.py).
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai

from protos.errors import FabricError
from providers.vendor_errors import Call, cut, malformed, retry_after_s, status_error, unreachable

_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)
_STATUS_OF = {"rate_limit_exceeded": 429, "insufficient_quota": 429, "invalid_request_error": 400}  # within a stream


@contextmanager
def translated(call: Call, base_url: str) -> Iterator[None]:
    """Raises the FabricError of whatever the client raises within."""
    try:
        yield
    except openai.APIStatusError as error:
        raise _of_status(call, error) from None  # its words may repeat the key
    except openai.APIConnectionError as error:
        raise _of_connection(call, error, base_url) from None  # its words may repeat the key
    except openai.APIError as error:  # the server said so within its stream, after it had accepted the call
        raise _of_stream(call, error) from None  # its words may repeat the key
    except (json.JSONDecodeError, UnicodeDecodeError, openai.OpenAIError) as error:
        raise malformed(call, str(error)) from None  # its words may repeat the key
    except httpx2.HTTPError as error:
        raise cut(call, str(error) or type(error).__name__) from None  # its words may repeat the key


def _of_status(call: Call, error: openai.APIStatusError) -> FabricError:
    wait_s = retry_after_s(error.response.headers, time.time())
    kind = str(error.code or error.type or "")
    return status_error(call, error.status_code, _said(error), kind=kind, retry_after_s=wait_s)


def _of_connection(call: Call, error: openai.APIConnectionError, base_url: str) -> FabricError:
    cause = error.__cause__
    why = str(cause) or type(cause).__name__
    return unreachable(call, base_url, why) if isinstance(cause, _NOT_SENT) else cut(call, why)


def _of_stream(call: Call, error: openai.APIError) -> FabricError:
    kind = str(error.code or error.type or "")
    ours = status_error(call, _STATUS_OF.get(kind, 500), _said(error), kind=kind)
    ours.may_have_run = True
    return ours


def _said(error: openai.APIError) -> str:
    """The server's own words; the client's message repeats the whole body."""
    body: Any = error.body  # Any: what the server sent
    if isinstance(body, dict):
        return str(body.get("message") or body.get("detail") or body.get("error") or error.message)
    return str(body or error.message)
