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
from providers.aio import was_sent
from providers.vendor_errors import Call, cut, malformed, retry_after_s, status_error, unreachable


@contextmanager
def translated(call: Call, base_url: str) -> Iterator[None]:
    """Raises the FabricError of whatever the client raises within."""
    try:
        yield
    except openai.APIStatusError as error:
        raise _of_status(call, error) from None  # its words may repeat the key
    except openai.APIConnectionError as error:
        raise _of_connection(call, error, base_url) from None  # its words may repeat the key
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
    return cut(call, why) if was_sent(cause) else unreachable(call, base_url, why)


def _said(error: openai.APIError) -> str:
    """The server's own words; the client's message repeats the whole body."""
    body: Any = error.body  # Any: what the server sent
    if isinstance(body, dict):
        return str(body.get("message") or body.get("detail") or body.get("error") or error.message)
    return str(body or error.message)
