"""Calls to URLs of callers, against a real server on a socket."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
import trustme

from protos.errors import PayloadTooLarge
from router.outbound import REDIRECTS, Outbound, TargetFailed
from router.targets import Allowed, TargetRefused

HERE = Allowed.of(["127.0.0.1"])
BOUND_S = 60.0


@dataclass(slots=True)
class Server:
    """Answers each path with the bytes of a table; keeps what it was sent."""

    port: int = 0
    answers: dict[str, bytes] = field(default_factory=dict)
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with_body = b"content-length: "
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.lower().split(b"\r\n")
                length = next((int(line[len(with_body) :]) for line in lines if line.startswith(with_body)), 0)
                self.requests.append(head + await reader.readexactly(length))
                answer = self.answers[head.split()[1].decode()]
                writer.write(answer)
                await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Any", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    served = Server()
    async with await asyncio.start_server(served.serve, "127.0.0.1", 0) as listener:
        served.port = listener.sockets[0].getsockname()[1]
        yield served


@asynccontextmanager
async def outbound(allowed: Allowed = HERE, names: Sequence[Sequence[str]] = ()) -> AsyncIterator[Outbound]:
    """`names`: what the resolver answers, one after another; without them it is the system's."""
    left = list(names)

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return left.pop(0)

    made = Outbound(allowed, resolve) if names else Outbound(allowed)
    async with asyncio.timeout(BOUND_S):
        yield made
        await made.close()


async def fetched(made: Outbound, url: str, limit_bytes: int = 1000, timeout_s: float = BOUND_S) -> tuple[bytes, str]:
    got = await made.fetch(url, limit_bytes=limit_bytes, timeout_s=timeout_s, field="input.audio_url")
    return got.data, got.content_type


async def test_a_fetch_gives_the_bytes_and_the_media_type(server: Server) -> None:
    server.answers["/a.wav?x=1"] = answer(200, b"RIFF", Content_Type="Audio/WAV; charset=x")
    async with outbound() as made:
        assert await fetched(made, server.url("/a.wav?x=1")) == (b"RIFF", "audio/wav")
    assert f"Host: 127.0.0.1:{server.port}".lower().encode() in server.requests[0].lower()


async def test_loopback_is_refused_by_default_without_a_connection(server: Server) -> None:
    async with outbound(Allowed()) as made:
        with pytest.raises(TargetRefused, match=r"input.audio_url: .*leads to 127.0.0.1, a loopback address"):
            await fetched(made, server.url())
        with pytest.raises(TargetRefused, match=r"url: .*localhost.* leads to (127.0.0.1|::1), a loopback address"):
            await made.post(server.url(host="localhost"), b"", {}, BOUND_S)
    assert server.connections == 0


async def test_a_name_is_refused_when_any_of_its_addresses_is(server: Server) -> None:
    async with outbound(Allowed(), [["8.8.8.8", "10.0.0.1"]]) as made:
        with pytest.raises(TargetRefused, match=r"leads to 10.0.0.1, a private address"):
            await fetched(made, server.url(host="both.test"))


async def test_the_connection_goes_to_the_address_that_was_judged(server: Server) -> None:
    """A second look at the name would find an address that is refused: there is none."""
    server.answers["/"] = answer(200, b"ok")
    async with outbound(HERE, [["127.0.0.1"], ["10.0.0.1"]]) as made:
        assert await fetched(made, server.url(host="rebinding.test")) == (b"ok", "")
    assert b"Host: rebinding.test" in server.requests[0].replace(b"host:", b"Host:")


async def test_the_next_address_of_a_name_is_tried_when_one_does_not_answer(server: Server) -> None:
    server.answers["/"] = answer(200, b"ok")
    async with outbound(Allowed.of(["127.0.0.0/8"]), [["127.9.9.9", "127.0.0.1"]]) as made:
        assert (await fetched(made, server.url(host="two.test")))[0] == b"ok"


async def test_a_fetch_follows_redirects_and_judges_each(server: Server) -> None:
    server.answers["/1"] = answer(302, Location="/2")
    server.answers["/2"] = answer(307, Location=server.url("/3"))
    server.answers["/3"] = answer(200, b"there")
    server.answers["/inside"] = answer(302, Location="http://169.254.169.254/latest")
    async with outbound() as made:
        assert (await fetched(made, server.url("/1")))[0] == b"there"
        with pytest.raises(TargetRefused, match=r"leads to 169.254.169.254, a link-local address"):
            await fetched(made, server.url("/inside"))


async def test_a_fetch_gives_up_after_too_many_redirects(server: Server) -> None:
    server.answers["/"] = answer(302, Location="/")
    async with outbound() as made:
        with pytest.raises(TargetFailed, match="comes after 3 redirects"):
            await fetched(made, server.url())
    assert len(server.requests) == REDIRECTS + 1


@pytest.mark.parametrize(
    "too_large",
    [
        answer(200, b"x" * 11),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nxxxxxx\r\n6\r\nxxxxxx\r\n0\r\n\r\n",
    ],
)
async def test_a_file_over_the_limit_is_refused_stated_or_not(server: Server, too_large: bytes) -> None:
    server.answers["/"] = too_large
    async with outbound() as made:
        with pytest.raises(PayloadTooLarge, match=r"input.audio_url: .* has more than 10 bytes"):
            await fetched(made, server.url(), limit_bytes=10)


async def test_an_answer_that_is_no_file_is_named(server: Server) -> None:
    server.answers["/"] = answer(404, b"no")
    async with outbound() as made:
        with pytest.raises(TargetFailed, match="answered 404"):
            await fetched(made, server.url())


async def test_a_server_that_never_ends_is_cut_at_the_deadline(server: Server) -> None:
    server.answers["/"] = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nonly this"
    async with outbound() as made:
        with pytest.raises(TargetFailed, match=r"did not answer within 0.2 s|it does not answer"):
            await fetched(made, server.url(), timeout_s=0.2)


async def unknown_name(_host: str, _port: int) -> Sequence[str]:
    raise OSError("no such name")


@pytest.mark.parametrize(("resolve", "why"), [(unknown_name, "is not found")])
async def test_what_cannot_be_reached_is_named(
    resolve: Callable[[str, int], Awaitable[Sequence[str]]], why: str
) -> None:
    made = Outbound(Allowed(), resolve)
    with pytest.raises(TargetFailed, match=why) as failed:
        await made.post("https://nowhere.test/", b"", {}, BOUND_S)
    assert failed.value.retryable
    await made.close()


async def test_a_closed_port_and_a_server_that_is_not_http_are_named(server: Server) -> None:
    server.answers["/"] = b"SSH-2.0\r\n\r\n"
    async with outbound() as made:
        with pytest.raises(TargetFailed, match="cannot be called"):
            await made.post(server.url(), b"", {}, BOUND_S)
        with pytest.raises(TargetFailed, match="cannot be called"):
            await made.post("http://127.0.0.1:1/", b"", {}, BOUND_S)


async def test_a_post_sends_the_bytes_as_they_are_and_follows_nothing(server: Server) -> None:
    server.answers["/hook"] = answer(302, Location="/elsewhere", Retry_After="7")
    async with outbound() as made:
        status, headers = await made.post(
            server.url("/hook"), b'{"a": 1}', {"X-Fabric-Event": "job.completed"}, BOUND_S
        )
    assert (status, headers["retry-after"]) == (302, "7")
    assert server.requests[0].endswith(b'\r\n\r\n{"a": 1}')
    assert b"x-fabric-event: job.completed" in server.requests[0].lower()
    assert len(server.requests) == 1


async def test_a_file_can_be_read_as_it_arrives_and_left(server: Server) -> None:
    server.answers["/"] = answer(200, b"x" * 900, Content_Type="image/png")
    async with outbound() as made:
        async with made.opened(server.url(), limit_bytes=1000, timeout_s=BOUND_S, field="input.image") as opened:
            assert opened.content_type == "image/png"
            async with aclosing(opened.chunks) as chunks:
                assert await anext(chunks)
        assert len((await fetched(made, server.url()))[0]) == 900


# ---- TLS ----


@asynccontextmanager
async def tls_server(certificate: trustme.LeafCert) -> AsyncIterator[Server]:
    served, context = Server(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    async with await asyncio.start_server(served.serve, "127.0.0.1", 0, ssl=context) as listener:
        served.port = listener.sockets[0].getsockname()[1]
        yield served


async def test_over_tls_the_certificate_must_be_the_names_though_the_address_is_called() -> None:
    authority, names = trustme.CA(), [["127.0.0.1"], ["127.0.0.1"]]
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return names.pop()

    made = Outbound(HERE, resolve, trusting)
    async with asyncio.timeout(BOUND_S), tls_server(authority.issue_cert("hooks.test")) as server:
        server.answers["/"] = answer(200)
        status, _ = await made.post(f"https://hooks.test:{server.port}/", b"{}", {}, BOUND_S)
        assert status == 200
        with pytest.raises(TargetFailed, match=r"certificate is not valid for 'others.test'"):
            await made.post(f"https://others.test:{server.port}/", b"{}", {}, BOUND_S)
        await made.close()
    assert len(server.requests) == 1
