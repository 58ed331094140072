"""Errors through a real gRPC server."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_status import rpc_status

from protos.errors import Code, DeadlineExceeded, FabricError, Internal, NodeUnavailable, error_from
from protos.grpc_status import from_rpc_error, to_status


class Failing(grpc.GenericRpcHandler):
    """A server whose every call ends with the error it was given."""

    def __init__(self) -> None:
        self.error: FabricError | None = None
        self.bare: grpc.StatusCode | None = None  # of a call that ends without a word of ours
        self.hangs = False

    def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:  # type: ignore[type-arg]  # bytes in, bytes out
        return grpc.unary_unary_rpc_method_handler(self._answer)

    async def _answer(self, _: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        if self.hangs:
            await asyncio.Event().wait()
        if self.bare is not None:
            await context.abort(self.bare, "RST_STREAM")
        if self.error is None:
            raise ValueError("a defect")
        status = rpc_status.to_status(to_status(self.error))
        await context.abort(status.code, status.details, status.trailing_metadata)
        return b""


@pytest.fixture
async def failing() -> AsyncIterator[tuple[Failing, grpc.aio.Channel]]:
    handler, server = Failing(), grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield handler, channel
    await server.stop(None)


async def received(channel: grpc.aio.Channel, timeout_s: float = 60) -> FabricError:
    call = channel.unary_unary("/any/Call")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"", timeout=timeout_s)
    return from_rpc_error(caught.value, "the peer")


@pytest.mark.parametrize("code", Code)
async def test_every_error_crosses_with_all_it_says(failing: tuple[Failing, grpc.aio.Channel], code: Code) -> None:
    handler, channel = failing
    handler.error = error_from(code, "why it failed: ä", {"errors": [{"path": "a", "message": "b"}]}, 1.25)
    error = await received(channel)
    assert type(error) is type(handler.error)
    assert (error.message, error.details) == (handler.error.message, handler.error.details)
    assert error.retry_after_s == 1.25


@pytest.mark.parametrize("may_have_run", [True, False])
async def test_whether_it_may_have_run_crosses(failing: tuple[Failing, grpc.aio.Channel], may_have_run: bool) -> None:
    handler, channel = failing
    handler.error = NodeUnavailable("the answer was cut", may_have_run=may_have_run)
    assert (await received(channel)).may_have_run is may_have_run


async def test_details_too_large_for_a_trailer_stay_behind(failing: tuple[Failing, grpc.aio.Channel]) -> None:
    handler, channel = failing
    handler.error = Internal("why", details={"long": "x" * 100_000})
    error = await received(channel)
    assert (error.message, error.details, error.retry_after_s) == ("why", {}, None)


async def test_a_defect_of_the_peer_is_internal(failing: tuple[Failing, grpc.aio.Channel]) -> None:
    assert type(await received(failing[1])) is Internal


async def test_nobody_there_is_node_unavailable() -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        error = await received(channel)
    assert type(error) is NodeUnavailable
    assert "the peer cannot be reached" in error.message


async def test_a_call_that_a_dying_peer_cut_is_node_unavailable(failing: tuple[Failing, grpc.aio.Channel]) -> None:
    handler, channel = failing
    handler.bare = grpc.StatusCode.CANCELLED
    assert isinstance(await received(channel), NodeUnavailable)


async def test_no_answer_in_time_is_deadline_exceeded(failing: tuple[Failing, grpc.aio.Channel]) -> None:
    handler, channel = failing
    handler.hangs = True
    assert type(await received(channel, timeout_s=0.05)) is DeadlineExceeded
