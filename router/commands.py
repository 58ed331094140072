"""The subcommands of `fabric-node`. They wire nothing: each hands its options to the part that does the work.

Not about how the process ends on a mistake (cli.py).
"""

import asyncio
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from node.cli import serve
from node.memory.devices import device_names
from node.replay.cli import replay
from protos.errors import Conflict, InputInvalid, InvalidRequest
from protos.types import Modality, Tier
from router import key_commands
from router.settings import RouterSettings, bind, bind_grpc
from router.supervisor import ChildSpec, Supervisor

Host = Annotated[str | None, typer.Option(help="Address to listen on; any but loopback needs a key: see `keys`.")]
Port = Annotated[int | None, typer.Option(help="HTTP port, by default 3001.", min=1, max=65535)]
GrpcHost = Annotated[
    str | None, typer.Option(help="Address of the gRPC door; any but loopback needs keys and a certificate as well.")
]
GrpcPort = Annotated[int | None, typer.Option(help="Port of the gRPC door, by default 3002.", min=1, max=65535)]
Data = Annotated[Path | None, typer.Option(help="Folder of the database, the logs and what was measured.")]

app = typer.Typer(
    help="One runtime for a GPU box: text, images, transcription and embeddings on one device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(serve)
app.command()(replay)
app.add_typer(key_commands.app, name="keys")


@app.command()
def up(
    *,
    host: Host = None,
    port: Port = None,
    grpc_host: GrpcHost = None,
    grpc_port: GrpcPort = None,
    data: Data = None,
    models: Annotated[Path, typer.Option(help="The catalog of local models.")] = Path("models.toml"),
    devices: Annotated[str, typer.Option(help="auto, cpu, or CUDA devices: cuda:0,cuda:1")] = "auto",
    node_port: Annotated[
        int, typer.Option(help="gRPC port of the first node; the others follow.", min=1, max=65535)
    ] = 3100,
    tour: Annotated[bool, typer.Option("--tour", help="When ready, ask one question of each modality.")] = False,
    once: Annotated[bool, typer.Option("--once", help="With --tour: stop after the answers.")] = False,
) -> None:
    """Start a router and a node per device, and keep them running. Ctrl-C ends everything."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s up: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # the tour's own requests are no news
    if once and not tour:
        raise InputInvalid.at("--once", "is given without --tour, whose end it is about: add --tour, or leave it out")
    names = _device_names(devices)
    targets = tuple(f"127.0.0.1:{node_port + index}" for index in range(len(names)))
    addresses = {"host": host, "port": port, "grpc_host": grpc_host, "grpc_port": grpc_port}
    settings = RouterSettings.load(os.environ, {**addresses, "data_dir": data, "nodes": targets, "models": models})
    _check_ports(settings, range(node_port, node_port + len(names)))
    logs = _log_folder(settings.data_dir) if tour else None
    nodes = [
        _child(f"node-{index}", logs, _serve_arguments(index, name, target, models, settings.data_dir))
        for index, (name, target) in enumerate(zip(names, targets, strict=True))
    ]
    supervisor = Supervisor([*nodes, _child("router", logs, _route_arguments(settings))], time.monotonic)
    sys.exit(asyncio.run(_run_with_tour(supervisor, settings, once=once) if tour else supervisor.run()))


@app.command()
def route(
    *,
    host: Host = None,
    port: Port = None,
    grpc_host: GrpcHost = None,
    grpc_port: GrpcPort = None,
    data: Data = None,
    node: Annotated[list[str] | None, typer.Option(help="gRPC address of a node; may be given again.")] = None,
    models: Annotated[Path | None, typer.Option(help="The models.toml whose aliases count.")] = None,
    exit_with_parent: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Start a router alone. Nodes are named with --node, or FABRIC_NODES."""
    from router.app import serve_forever  # noqa: PLC0415 - FastAPI takes a second to import; --help should not

    addresses = {"host": host, "port": port, "grpc_host": grpc_host, "grpc_port": grpc_port}
    overrides = {**addresses, "data_dir": data, "nodes": tuple(node) if node else None, "models": models}
    serve_forever(RouterSettings.load(os.environ, overrides), exit_with_parent=exit_with_parent)


@app.command()
def tour(
    url: Annotated[str, typer.Option(help="Of a running router.")] = "http://127.0.0.1:3001",
    key: Annotated[str, typer.Option(help="API key, where the router wants one.")] = "",
    pictures: Annotated[Path, typer.Option(help="Folder for the picture that it draws.")] = Path(),
) -> None:
    """Ask a running router one question of each modality and show the answers."""
    from router.tour import visit  # noqa: PLC0415 - httpx takes 0.2 s to import; the servers do without

    sys.exit(asyncio.run(visit(url, key, pictures)))


@app.command()
def providers(
    *,
    url: Annotated[str, typer.Option(help="Of a running router.")] = "http://127.0.0.1:3001",
    key: Annotated[str, typer.Option(help="API key, where the router wants one.")] = "",
    why: Annotated[str, typer.Option(help="A job as JSON: shows where it would go and why, and runs nothing.")] = "",
    modality: Annotated[Modality | None, typer.Option(help="The same for a typical job, or over --why.")] = None,
    model: Annotated[str | None, typer.Option(help="A model, or an alias of models.toml.")] = None,
    tier: Annotated[Tier | None, typer.Option(help="basic: local and free; premium: remote and paid.")] = None,
    privacy: Annotated[str | None, typer.Option(help="any, or local_only.")] = None,
    deadline: Annotated[float | None, typer.Option(help="Seconds until it should end.")] = None,
    max_cost: Annotated[float | None, typer.Option(help="US dollars.")] = None,
) -> None:
    """Show the places that jobs can go: what is on, healthy, and what it costs; or where one job would go, and why."""
    from rich.console import Console  # noqa: PLC0415 - httpx takes 0.2 s to import; the servers do without

    from router.provider_commands import asked_for, show_providers, show_route  # noqa: PLC0415 - as above

    options = {"modality": modality, "model": model, "tier": tier, "privacy": privacy, "deadline_s": deadline}
    asked = asked_for(why, {**options, "max_cost_usd": max_cost})
    if asked is None:
        show_providers(url, key, Console())
    else:
        show_route(url, key, asked, Console())


# ---- up ----


def _device_names(devices: str) -> list[str]:
    names = device_names() if devices == "auto" else [name.strip() for name in devices.split(",")]
    wrong = next((name for name in names if not _DEVICE.fullmatch(name)), None)
    if wrong is not None:
        raise InputInvalid.at("--devices", f"has {wrong!r}: give auto, cpu, or CUDA devices such as cuda:0,cuda:1")
    return names


_DEVICE: Final = re.compile(r"cpu|cuda(:\d+)?")


def _check_ports(settings: RouterSettings, node_ports: Sequence[int]) -> None:
    """Refuses here, at once and with our own options' names, what a child would refuse seconds later with its own."""
    if max(node_ports) > _LAST_PORT:
        raise InputInvalid.at("--node-port", f"gives the nodes ports up to {max(node_ports)}: the last is {_LAST_PORT}")
    with bind(settings), bind_grpc(settings):
        for port in node_ports:
            try:
                socket.create_server(("127.0.0.1", port)).close()
            except OSError as error:
                raise Conflict(
                    f"port {port} on 127.0.0.1, for a node, is taken: stop what listens there, or choose another "
                    "with --node-port"
                ) from error


_LAST_PORT: Final = 65535


def _log_folder(data: Path) -> Path:
    """Where the children write while the screen belongs to the tour."""
    logs = data / "logs"
    try:
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(f"{logs} cannot be written ({error.strerror}): name another folder with --data") from error
    return logs


def _child(name: str, logs: Path | None, arguments: Sequence[str]) -> ChildSpec:
    return ChildSpec(name, [*arguments, "--exit-with-parent"], logs / f"{name}.log" if logs else None)


def _serve_arguments(index: int, device: str, target: str, models: Path, data: Path) -> list[str]:
    identity = ["--listen", target, "--node-id", f"node-{index}", "--device", device]
    return ["node.cli", *identity, "--models", str(models), "--data", str(data)]


def _route_arguments(settings: RouterSettings) -> list[str]:
    nodes = [argument for target in settings.nodes for argument in ("--node", target)]
    return [
        "router.cli",
        "route",
        "--host",
        settings.host,
        "--port",
        str(settings.port),
        "--grpc-host",
        settings.grpc_host,
        "--grpc-port",
        str(settings.grpc_port),
        "--data",
        str(settings.data_dir),
        *(["--models", str(settings.models)] if settings.models else []),
        *nodes,
    ]


async def _run_with_tour(supervisor: Supervisor, settings: RouterSettings, *, once: bool) -> int:
    """The supervisor, and beside it the tour. With `once` the end of the tour ends the supervisor."""
    running = asyncio.create_task(supervisor.run())
    url, key = f"http://127.0.0.1:{settings.port}", next(iter(settings.api_keys), "")
    touring = asyncio.create_task(_take_tour(url, key, settings.data_dir))
    await asyncio.wait([running, touring], return_when=asyncio.FIRST_COMPLETED)
    if not touring.done():
        touring.cancel()
        return await running
    toured = touring.result()
    if once or toured:
        supervisor.interrupt()
    else:
        typer.echo(f"Ctrl-C stops it. The logs are in {settings.data_dir / 'logs'}.")
    return await running or toured


async def _take_tour(url: str, key: str, folder: Path) -> int:
    from router.tour import show  # noqa: PLC0415 - httpx takes 0.2 s to import; the servers do without

    return await show(url, key, folder)
