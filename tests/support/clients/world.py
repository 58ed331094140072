"""A router that has everything which the samples of its clients name, on real sockets in the test's own event loop."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge import BOUND_S, Edge, answering, fake_node
from receiver import Receiver, receiving
from vendors.openai_app import OpenAIStandIn
from vendors.serving import serving

from providers.settings import ProviderSettings
from router.settings import RouterSettings

DEFAULT_ORGANIZATION: Final = "00000000-0000-0000-0000-000000000010"
VENDOR_KEY: Final = "sk-standin-0123456789abcdef"
TEXT: Final = {"modality": "text", "input": {"prompt": "one two three"}}


@dataclass(frozen=True)
class World:
    """In development mode, with a node of fake engines and a vendor that answers as OpenAI does.

    `gate`: while it is not set, the node's steps stand still. `done`: a text job of the default organization that has
    completed. `receiver`: where webhooks may go.
    """

    edge: Edge
    gate: threading.Event
    receiver: Receiver
    done: dict[str, Any]  # decoded JSON

    @property
    def url(self) -> str:
        return self.edge.url

    async def job(self, **fields: object) -> str:
        """The id of a new text job."""
        made = await self.edge.client.post("/v1/jobs", json=TEXT | fields)
        assert made.status_code == 202, made.text
        return str(made.json()["data"]["id"])

    async def at_rest(self) -> None:
        """Returns when all jobs have ended: the end of one would be told in a stream that begins before it."""
        async with asyncio.timeout(BOUND_S):
            while any((await self.edge.parts.store.count_unfinished()).values()):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)

    async def jobs_until(self, following: "asyncio.Task[Any]") -> list[str]:
        """Jobs keep coming until the task is done: a live stream starts at a moment that only its reader knows."""
        made = []
        async with asyncio.timeout(BOUND_S):
            while not following.done():
                made.append(await self.job())
                await asyncio.wait({following}, timeout=0.05)
        return made


@asynccontextmanager
async def a_world(folder: Path) -> AsyncIterator[World]:
    gate = threading.Event()
    gate.set()
    async with (
        fake_node(folder / "node", gate) as node,
        serving(OpenAIStandIn(key=VENDOR_KEY).app()) as vendor,
        receiving() as receiver,
        answering(_settings(folder, node.target, vendor)) as edge,
    ):
        await edge.until("/readyz", lambda response: response.is_success)
        made = await edge.client.post("/v1/jobs", json=TEXT)
        yield World(edge, gate, receiver, await edge.ended(made.json()["data"]["id"]))


def _settings(folder: Path, node: str, vendor: str) -> RouterSettings:
    return RouterSettings(
        port=0,
        data_dir=folder,
        nodes=(node,),
        allow_private_targets=("127.0.0.0/8",),
        vendors=ProviderSettings(openai_base_url=f"{vendor}/v1", openai_api_key=VENDOR_KEY),
    )
