"""`fabric-node keys`: make, list and disable keys in a data directory whose router does not run.

Not about keys themselves (keyring.py). A router that runs has its own door for this: /v1/api-keys.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protos.errors import Conflict
from router.settings import RouterSettings

if TYPE_CHECKING:
    from router.keyring import Keyring
    from router.store.keys import ApiKey

Data = Annotated[Path | None, typer.Option(help="Folder of the router's database.")]

app = typer.Typer(help="API keys, for a router that does not run now.", no_args_is_help=True)


@app.command()
def create(
    *,
    name: Annotated[str, typer.Option(help="To tell it from others.")],
    organization: Annotated[str, typer.Option(help="Whose things it may touch; * is everybody's.")] = "*",
    scope: Annotated[
        list[str] | None, typer.Option(help="May be given again; default: admin for *, else all that work needs.")
    ] = None,
    data: Data = None,
) -> None:
    """Make a key. Its secret is printed once, alone, on standard output."""
    key, secret = asyncio.run(_create(data, name, organization, scope))
    typer.echo(f"{key.id} of organization {key.organization_id} may: {', '.join(key.scopes)}", err=True)
    typer.echo(secret)


@app.command("list")
def list_(*, data: Data = None) -> None:
    """List the keys, newest first."""
    for key in asyncio.run(_list(data)):
        typer.echo(_line(key))


@app.command()
def disable(key_id: Annotated[str, typer.Argument(help="key_...")], *, data: Data = None) -> None:
    """End a key, for good."""
    typer.echo(_line(asyncio.run(_disable(data, key_id))))


# The imports below take half a second, which --help should not.


async def _create(data: Path | None, name: str, organization: str, grants: list[str] | None) -> "tuple[ApiKey, str]":
    from router.keyring import NewKey  # noqa: PLC0415 - see above
    from router.principals import Scope, administrator, organization_named  # noqa: PLC0415
    from router.store.keys import EVERY_ORGANIZATION  # noqa: PLC0415

    everybody = organization == EVERY_ORGANIZATION
    default = (Scope.ADMIN.value,) if everybody else None
    asked = NewKey(
        name=name,
        organization_id=EVERY_ORGANIZATION if everybody else organization_named(organization),
        grants=tuple(grants) if grants else default,
    )
    async with _keyring(data) as keyring:
        return await keyring.create(asked, administrator("command line"))


async def _list(data: Path | None) -> "Sequence[ApiKey]":
    async with _keyring(data) as keyring:
        return keyring.listed(None)


async def _disable(data: Path | None, key_id: str) -> "ApiKey":
    from router.principals import administrator  # noqa: PLC0415 - see above

    async with _keyring(data) as keyring:
        return await keyring.disable(key_id, None, administrator("command line"))


@asynccontextmanager
async def _keyring(data: Path | None) -> "AsyncGenerator[Keyring, None]":
    """That of a data directory. Raises Conflict while a router has it."""
    from router.keyring import Keyring  # noqa: PLC0415 - see above
    from router.store.lock import FileTaken  # noqa: PLC0415
    from router.store.sql import SqlStore  # noqa: PLC0415

    # Loopback: nobody is served here, so no key has to exist before the first is made.
    settings = RouterSettings.load(os.environ, {"data_dir": data, "host": "127.0.0.1", "grpc_host": "127.0.0.1"})
    store, keyring = SqlStore(settings.database_url, lambda _events: None), Keyring(settings, time.time)
    try:
        await store.open()
    except FileTaken as error:
        raise Conflict(
            f"a router runs on {settings.data_dir}: use its own /v1/api-keys with an administrator's key, or stop it first"
        ) from error
    try:
        await keyring.open(store)
        yield keyring
        await keyring.close()
    finally:
        await store.close()


def _line(key: "ApiKey") -> str:
    state = "disabled" if key.disabled else "ends " + _day(key.expires_at) if key.expires_at else "good"
    used = _day(key.last_used_at) if key.last_used_at else "never used"
    shown = (key.id, f"{key.prefix}...", key.organization_id, state, used, ",".join(key.scopes), key.name)
    return "  ".join(shown)


def _day(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).date().isoformat()
