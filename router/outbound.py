"""HTTP to URLs that callers gave: fetches of their files, posts to their webhooks. Nothing else goes through here.

It connects to the very address that was judged (targets.py): a name that changes its answer between the check and the
call (DNS rebinding) changes nothing. httpcore and not httpx, which has no place for that; it reads no proxy from the
environment and keeps no cookies.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpcore
import httpx

from protos.errors import InputInvalid, PayloadTooLarge
from router.targets import Allowed, refused, shown
from router.urls import checked_url

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

CONNECT_S: Final = 5.0  # for names and connections, each
REDIRECTS: Final = 3  # of a fetch; a post follows none
_CONNECTIONS: Final = 256
_LOOKUPS: Final = 16  # names at once
_IDLE: Final = 32  # connections kept open
_IDLE_S: Final = 10.0
_ANSWER_BYTES: Final = 64 * 1024  # of a post's answer; the rest is cut with its connection
_REDIRECTING: Final = frozenset({301, 302, 303, 307, 308})
_OK: Final = range(200, 300)


class TargetFailed(InputInvalid):
    """The target of a URL could not be reached, or did not answer as it should. It may later."""

    retryable = True


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file and what its server says it is: the media type alone, "" when it does not say."""

    data: bytes = field(repr=False)
    content_type: str


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that arrives: read `chunks` to the end, once."""

    content_type: str
    chunks: AsyncIterator[bytes] = field(repr=False)


class Names:
    """The addresses of hosts as the system knows them. In threads of its own: a caller's name whose server is silent
    holds one for many seconds, and those of the event loop are needed for other things."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="names")

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        found = await asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host, port)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int) -> Sequence[tuple[Any, ...]]:  # Any: the standard library's own
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class Outbound:
    """Makes such calls. Lives on one event loop, from its making to `close`."""

    def __init__(
        self, allowed: Allowed, resolve: Resolve | None = None, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        """`resolve`: instead of the system's names."""
        self._allowed, self._names = allowed, Names()
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context or httpx.create_ssl_context(trust_env=False),
            max_connections=_CONNECTIONS,
            max_keepalive_connections=_IDLE,
            keepalive_expiry=_IDLE_S,
            network_backend=_Guarded(allowed, resolve or self._names.resolve),
        )

    async def close(self) -> None:
        await self._pool.aclose()
        self._names.close()

    def check(self, url: str, field: str) -> None:
        """Raises TargetRefused for a URL that can never be called, without looking its name up."""
        checked_url(url, field, self._allowed)

    async def fetch(self, url: str, *, limit_bytes: int, timeout_s: float, field: str) -> Fetched:
        """The file behind a URL. `field`: where the caller gave it, for the error. Raises TargetRefused, TargetFailed,
        PayloadTooLarge."""
        async with self.opened(url, limit_bytes=limit_bytes, timeout_s=timeout_s, field=field) as opened:
            return Fetched(b"".join([chunk async for chunk in opened.chunks]), opened.content_type)

    @asynccontextmanager
    async def opened(self, url: str, *, limit_bytes: int, timeout_s: float, field: str) -> AsyncIterator[Opened]:
        """The same, as it arrives. `timeout_s` is for all of it, what is done with the chunks included."""
        async with _within(timeout_s, url, field):
            for _ in range(REDIRECTS + 1):
                async with self._call("GET", url, timeout_s, field, headers={}) as response:
                    if (onward := _onward(url, response)) is None:
                        yield _opened(url, response, limit_bytes, field)
                        return
                url = onward
            raise TargetFailed.at(field, f"{shown(url)} comes after {REDIRECTS} redirects: give the URL they lead to")

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float, field: str = "url"
    ) -> tuple[int, httpx.Headers]:
        """The status and the headers of the answer, whatever they are: a redirect is an answer too. Raises
        TargetRefused, TargetFailed."""
        async with (
            _within(timeout_s, url, field),
            self._call("POST", url, timeout_s, field, body=body, headers=headers) as response,
        ):
            await _drain(response)
            return response.status, httpx.Headers(response.headers)

    @asynccontextmanager
    async def _call(
        self, method: str, url: str, timeout_s: float, field: str, *, body: bytes = b"", headers: Mapping[str, str]
    ) -> AsyncIterator[httpcore.Response]:
        target = checked_url(url, field, self._allowed)
        timeout = dict.fromkeys(("read", "write", "pool"), timeout_s) | {"connect": min(CONNECT_S, timeout_s)}
        try:
            async with self._pool.stream(
                method,
                httpcore.URL(scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path),
                headers=[("host", target.netloc), ("accept-encoding", "identity"), *headers.items()],
                content=body or None,
                extensions={"timeout": timeout},
            ) as response:
                yield response
        except _Barred as exc:
            raise refused(field, url, exc.address, exc.reason) from exc
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as exc:
            raise TargetFailed.at(field, f"{shown(url)} cannot be called: {_why(exc)}") from exc


@asynccontextmanager
async def _within(timeout_s: float, url: str, field: str) -> AsyncIterator[None]:
    deadline = asyncio.timeout(timeout_s)
    try:
        async with deadline:
            yield
    except TimeoutError as exc:
        if not deadline.expired():
            raise
        raise TargetFailed.at(field, f"{shown(url)} did not answer within {timeout_s:g} s") from exc


def _onward(url: str, response: httpcore.Response) -> str | None:
    """Where a redirect leads; None when the answer is none."""
    location = httpx.Headers(response.headers).get("location")
    return None if location is None or response.status not in _REDIRECTING else str(httpx.URL(url).join(location))


def _opened(url: str, response: httpcore.Response, limit_bytes: int, field: str) -> Opened:
    """Raises TargetFailed, PayloadTooLarge."""
    if response.status not in _OK:
        raise TargetFailed.at(field, f"{shown(url)} answered {response.status}: give a URL that answers with the file")
    headers = httpx.Headers(response.headers)
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit_bytes:
        raise _too_large(url, limit_bytes, field)
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    return Opened(content_type, _bounded(url, response, limit_bytes, field))


async def _bounded(url: str, response: httpcore.Response, limit_bytes: int, field: str) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in response.aiter_stream():
        size += len(chunk)
        if size > limit_bytes:
            raise _too_large(url, limit_bytes, field)
        yield chunk


def _too_large(url: str, limit_bytes: int, field: str) -> PayloadTooLarge:
    message = f"{field}: {shown(url)} has more than {limit_bytes} bytes, which is the limit"
    return PayloadTooLarge(message, details={"errors": [{"path": field, "message": message}]})


async def _drain(response: httpcore.Response) -> None:
    """Reads a small answer, so that its connection can serve again."""
    size = 0
    async for chunk in response.aiter_stream():
        size += len(chunk)
        if size > _ANSWER_BYTES:
            return


def _why(exc: Exception) -> str:
    return str(exc) or _WHY.get(type(exc), type(exc).__name__)


_WHY: Final[Mapping[type, str]] = {
    httpcore.ConnectTimeout: f"no connection within {CONNECT_S:g} s",
    httpcore.ReadTimeout: "it does not answer",
    httpcore.WriteTimeout: "it does not read",
    httpcore.PoolTimeout: "too many calls are on their way",
    httpcore.ReadError: "it ended the connection",
    httpcore.WriteError: "it ended the connection",
}


# ---- connections ----


class _Barred(Exception):
    """A name leads to an address that may not be called."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"{address}, {reason}")
        self.address, self.reason = address, reason


class _Guarded(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were judged, and to nothing else."""

    def __init__(self, allowed: Allowed, resolve: Resolve) -> None:
        self._allowed, self._resolve = allowed, resolve
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """To the first address that answers. One that is refused refuses the name: what answers in turns with a public
        and a private address is no target."""
        failed: httpcore.ConnectError | httpcore.ConnectTimeout = httpcore.ConnectError("the name has no address")
        for address in await self._judged(host, port, timeout):
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                failed = exc
        raise failed

    async def _judged(self, host: str, port: int, timeout_s: float | None) -> Sequence[str]:
        try:
            async with asyncio.timeout(timeout_s):
                addresses = await self._resolve(host, port)
        except TimeoutError as exc:
            raise httpcore.ConnectTimeout(f"the name {host!r} is not found within {timeout_s} s") from exc
        except (OSError, UnicodeError) as exc:
            raise httpcore.ConnectError(f"the name {host!r} is not found ({exc})") from exc
        for address in addresses:
            if (reason := self._allowed.refusal(host, address)) is not None:
                raise _Barred(address, reason)
        return addresses

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
