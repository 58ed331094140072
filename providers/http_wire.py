"""httpx as the wires of Ollama and ComfyUI use it: its settings, and what it raises as our errors.

Not about what a status means (vendor_errors.py).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx

from protos.errors import FabricError
from protos.locality import is_local
from providers.vendor_errors import Call, cut, malformed, retry_after_s, status_error, unreachable

_CONNECT_S: Final = 5.0  # a server that takes longer to shake hands is as good as away
_SILENCE_S: Final = 600.0  # between two bytes of an answer: a large model is loaded in less, also from a slow disk
_WRITE_S: Final = 60.0  # for our bytes to leave
_POOL_S: Final = 10.0
_NOT_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    ConnectionError,  # how Ollama's client tells of the first
)
_UNREADABLE: Final = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
)  # pydantic's and json's are ValueErrors


class Refused(Exception):
    """The server answered with a status that is no success."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(response.status_code)
        self.status, self.body = response.status_code, _json(response)
        self.said = _said(self.body) or response.text
        self.retry_after_s = retry_after_s(response.headers, time.time())


def client_options(url: str) -> dict[str, Any]:  # Any: keywords of httpx.AsyncClient
    """Of a client of the server at `url`. What stays on this machine goes through no proxy that is set for the internet."""
    return {
        "timeout": httpx.Timeout(_SILENCE_S, connect=_CONNECT_S, write=_WRITE_S, pool=_POOL_S),
        "follow_redirects": False,  # what it is sent goes to the host that is named
        "trust_env": not is_local(url),
        "verify": not url.lower().startswith("http:"),  # where there is no TLS, its certificates are not read for 0.5 s
        "event_hooks": {"response": [_check]},
    }


async def _check(response: httpx.Response) -> None:
    if not response.is_success:
        await response.aread()
        raise Refused(response)


def _json(response: httpx.Response) -> Any:  # Any: what the server sent; None where it is no JSON
    try:
        return response.json()
    except ValueError:
        return None


def _said(body: Any) -> str:  # Any: as above
    """The server's own words: {"error": text or {"message"}} or {"detail"}; "" where there are none."""
    if not isinstance(body, dict):
        return ""
    error = body.get("error") or body.get("detail") or ""
    return str(error.get("message") or error) if isinstance(error, dict) else str(error)


@contextmanager
def translated(call: Call, url: str) -> Iterator[None]:
    """Raises the FabricError of whatever a client of `url` raises within, or of an answer that cannot be read."""
    try:
        yield
    except FabricError:
        raise
    except Refused as error:
        raise status_error(call, error.status, error.said, retry_after_s=error.retry_after_s) from error
    except _NOT_SENT as error:
        raise unreachable(call, url, str(error) or type(error).__name__) from error
    except (httpx.HTTPError, OSError) as error:
        raise cut(call, str(error) or type(error).__name__) from error
    except _UNREADABLE as error:
        raise malformed(call, f"{type(error).__name__}: {error}") from error
