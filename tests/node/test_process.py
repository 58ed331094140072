"""A node as a process of its own: signals, its parent's death, and starts that are refused."""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import pytest

from node.watchdog import EXIT_HUNG
from protos import codec
from protos.fabric.node.v1 import node_pb2_grpc
from protos.types import Finished, Task, TaskId, TextRequest

ROOT = Path(__file__).parents[2]
FAKE = '[[model]]\nid = "talk"\nengine = "fake"\nmodality = "text"\ndefault = true\n'
Start: TypeAlias = Callable[..., AbstractAsyncContextManager[Process]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """start(*arguments, models=toml): a node process; killed at the end."""

    @asynccontextmanager
    async def start(*arguments: str, models: str = FAKE) -> AsyncIterator[Process]:
        (tmp_path / "models.toml").write_text(models)
        command = [sys.executable, "-m", "node.cli", "--data", str(tmp_path), "--models", str(tmp_path / "models.toml")]
        process = await asyncio.create_subprocess_exec(*command, "--device", "cpu", *arguments, cwd=ROOT, stderr=PIPE)
        try:
            async with asyncio.timeout(120):
                yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    return start


async def listening_at(process: Process) -> str:
    """Reads the log until the node says where it listens."""
    assert process.stderr is not None
    async for line in process.stderr:
        if b"listening on " in line:
            return line.decode().split("listening on ")[1].split(",")[0]
    raise AssertionError(f"the node ended with {await process.wait()}")


async def last_words(process: Process) -> str:
    assert process.stderr is not None
    text = (await process.stderr.read()).decode()
    await process.wait()
    return text


async def test_sigterm_drains_and_ends_with_status_0(start: Start) -> None:
    async with start("--listen", "127.0.0.1:0") as process:
        target = await listening_at(process)
        async with grpc.aio.insecure_channel(target) as channel:
            stub: Any = node_pb2_grpc.NodeStub(channel)  # type: ignore[no-untyped-call]
            reader, events = codec.EventReader(), []
            call = stub.Execute(
                codec.task_message(Task(id=TaskId("t"), request=TextRequest(prompt=" ".join("w" * 100))))
            )
            async for message in call:
                events.append(reader.read(message))
                if message.WhichOneof("event") == "started":
                    process.send_signal(signal.SIGTERM)
        assert isinstance(events[-1], Finished)
        assert "Traceback" not in await last_words(process)
        assert process.returncode == 0


async def test_a_unix_socket_serves_too(start: Start, tmp_path: Path) -> None:
    async with start("--listen", f"unix:{tmp_path}/s") as process:
        target = await listening_at(process)
        async with grpc.aio.insecure_channel(target) as channel:
            stub: Any = node_pb2_grpc.NodeStub(channel)  # type: ignore[no-untyped-call]
            kinds = [
                m.WhichOneof("event")
                async for m in stub.Execute(codec.task_message(Task(id=TaskId("t"), request=TextRequest(prompt="a"))))
            ]
        assert kinds[-1] == "finished"


async def test_a_node_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(FAKE)
    node = [sys.executable, "-m", "node.cli", "--listen", "127.0.0.1:0", "--device", "cpu", "--exit-with-parent"]
    node += ["--data", str(tmp_path), "--models", str(tmp_path / "models.toml")]
    parent_code = f"import subprocess; p = subprocess.Popen({node!r}); print(p.pid, flush=True); p.wait()"
    async with asyncio.timeout(120):
        parent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", parent_code, cwd=ROOT, stdout=PIPE, stderr=PIPE
        )
        assert parent.stdout is not None
        child = int(await parent.stdout.readline())
        await listening_at(parent)  # the child writes to the parent's stderr
        gone = os.pidfd_open(child)
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(gone, ended.set)
        parent.kill()
        await parent.wait()
        await ended.wait()
        asyncio.get_running_loop().remove_reader(gone)
        os.close(gone)


@pytest.mark.parametrize("engine", ["fake", "fake-beside"])
async def test_a_device_that_hangs_ends_the_process_with_the_reason(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setenv("FABRIC_NODE_HANG_S", "0.5")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "hang").touch()
    models = f'[[model]]\nid = "talk"\nengine = "{engine}"\nmodality = "text"\npath = "model"\ndefault = true\n'
    async with start("--listen", "127.0.0.1:0", models=models) as process:
        target = await listening_at(process)
        async with grpc.aio.insecure_channel(target) as channel:
            stub: Any = node_pb2_grpc.NodeStub(channel)  # type: ignore[no-untyped-call]
            call = stub.Execute(codec.task_message(Task(id=TaskId("t"), request=TextRequest(prompt="a"))))
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                async for _ in call:
                    pass
        said = await last_words(process)
    assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
    assert process.returncode == EXIT_HUNG
    assert "a step of model 'talk' has not come back for" in said
    assert "fake.py" in said  # where the thread was


async def test_a_call_that_keeps_the_interpreters_lock_ends_the_process_too() -> None:
    code = (
        "import ctypes; from node.watchdog import Watchdog;"
        "Watchdog(0.5).look(None); ctypes.PyDLL(None).pause()"  # PyDLL: the lock is kept
    )
    async with asyncio.timeout(120):
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=ROOT, stderr=PIPE)
        said = await last_words(process)
    assert process.returncode == 1
    assert "Timeout" in said


async def test_a_taken_port_is_said_in_one_line_with_what_to_change(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        target = f"127.0.0.1:{taken.getsockname()[1]}"
        async with start("--listen", target) as process:
            said = await last_words(process)
    assert process.returncode == 2
    assert f"{target} is taken" in said
    assert "--listen" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("models", "arguments", "says"),
    [
        (FAKE + "colour = 1\n", (), "model 'talk': colour: is no key of a model"),
        (FAKE + 'path = "nowhere"\n', (), "there is no folder"),
        (FAKE, ("--memory-bytes", "1000"), "model 'talk' needs 64.0 MiB"),
        (FAKE, ("--listen", "0.0.0.0:3100"), "listens on loopback"),
        (FAKE, ("--device", "cuda:7"), "NVIDIA devices"),
    ],
)
async def test_a_start_that_cannot_work_is_refused_in_one_line(
    start: Start, models: str, arguments: tuple[str, ...], says: str
) -> None:
    async with start(*arguments, models=models) as process:
        said = await last_words(process)
    assert process.returncode == 2
    assert says in said
    assert "Traceback" not in said
