"""The `serve` command: one node, alone. router/cli.py mounts it in `fabric-node`.

Not about what a node is made of (daemon.py).
"""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from node.memory.host import keep_freed_memory
from node.settings import NodeSettings, environment
from protos.errors import FabricError


def serve(
    *,
    listen: Annotated[
        str | None, typer.Option(help="host:port on loopback, or unix:/path; by default 127.0.0.1:3100.")
    ] = None,
    node_id: Annotated[str | None, typer.Option(help="How routers call it, by default node-0.")] = None,
    device: Annotated[str | None, typer.Option(help="auto (the default), cpu, cuda or cuda:N.")] = None,
    models: Annotated[Path | None, typer.Option(help="The catalog of models, by default models.toml.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of what was measured, by default data.")] = None,
    threads: Annotated[int | None, typer.Option(help="Of a CPU device; 0: half of the processors.")] = None,
    memory_bytes: Annotated[int | None, typer.Option(help="That models may use; 0: all there is.")] = None,
    exit_with_parent: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Start a node alone: it owns one device and serves gRPC. SIGTERM drains it."""
    from node.daemon import run  # noqa: PLC0415 - gRPC takes a moment to import; --help should not

    overrides = {
        "listen": listen,
        "node_id": node_id,
        "device": device,
        "models_path": models,
        "data_dir": data,
        "threads": threads,
        "memory_bytes": memory_bytes,
    }
    settings = NodeSettings.load(environment(), overrides)
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s %(levelname)s {settings.node_id}: %(message)s")
    keep_freed_memory()
    status = run(settings, exit_with_parent=exit_with_parent)
    logging.shutdown()
    os._exit(status)  # all is closed; the interpreter would wait for the thread of a load that cannot be interrupted


def main() -> None:
    """`python -m node.cli`: the same without a router installed. A wrong setting is one line and exit status 2."""
    try:
        typer.run(serve)
    except FabricError as error:
        typer.echo(f"fabric-node: {error.message}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
