"""ComfyUI: pictures by a workflow that is queued there, followed by its websocket, and fetched.

Not about how a request fills the workflow (workflow.py). Source: https://github.com/comfyanonymous/ComfyUI, server.py,
execution.py and script_examples/websockets_api_example.py.
"""

import asyncio
import importlib
import importlib.util
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx

from protos.errors import InputInvalid
from protos.locality import is_local
from protos.types import (
    GeneratedImage,
    ImageRequest,
    ImageResult,
    ModelId,
    Preview,
    Progress,
    TaskRequest,
    Usage,
)
from providers import comfyui_wire as wire
from providers.catalog import VendorModel
from providers.comfyui_wire import ID, URL_VARIABLE, Place
from providers.http_wire import Refused, client_options, translated
from providers.remote import Answer, CallPart, VendorCall
from providers.vendor_errors import Call, cut, status_error
from providers.watched import Pace, Watched
from providers.workflow import Json, Workflow, read_workflow

_AT_ONCE: Final = 1  # it draws one after the other
_OPEN_S: Final = 5.0  # for the websocket to open
_SILENCE_S: Final = 10.0  # without a message, after which the history is asked: one may have been missed
_POLL_S: Final = 1.0  # between looks at the history where there is no websocket
_STOP_S: Final = 5.0  # to tell it that nobody waits any more
_MESSAGE_BYTES: Final = 64 << 20  # of a preview


def comfyui_provider(
    url: str, workflow: Path | None, on_change: Callable[[], None], *, pace: Pace | None = None
) -> Watched:
    """Raises InputInvalid when the workflow's file is wrong."""
    return Watched(ID, url, ComfyApi(url, read_workflow(workflow)), on_change, at_once=_AT_ONCE, pace=pace)


class ComfyApi:
    manners: Final = ""  # those of its workflow

    def __init__(self, url: str, workflow: Workflow, silence_s: float = _SILENCE_S) -> None:
        self._url, self._workflow, self._silence_s = url, workflow, silence_s

    async def open(self) -> None:
        if importlib.util.find_spec("websockets") is None:
            raise InputInvalid.at(
                URL_VARIABLE,
                "needs the package `websockets`, which is not installed: pip install 'fabric-node[vendors]'",
            )
        self._websockets: Any = await asyncio.to_thread(importlib.import_module, "websockets")  # Any: a module
        self._http = httpx.AsyncClient(base_url=self._url, **client_options(self._url))

    async def close(self) -> None:
        await self._http.aclose()

    async def models(self) -> Sequence[VendorModel]:
        """The checkpoints, where the workflow leaves its own open; else the workflow."""
        with translated(wire.told(ModelId("")), self._url):
            if "checkpoint" not in self._workflow.takes:
                await self._http.get("/queue")
                return [wire.model(self._workflow.name, is_default=True)]
            names = (await self._http.get("/models/checkpoints")).json()
            return [wire.model(str(name), is_default=index == 0) for index, name in enumerate(names)]

    def check(self, request: TaskRequest, model: VendorModel) -> None:  # noqa: ARG002  # any of them is drawn alike
        assert isinstance(request, ImageRequest), "its models draw: this is a bug"
        errors = list(wire.wrong(request, self._workflow))
        if errors:
            raise InputInvalid.of(errors)

    # ---- one call ----

    async def call(self, call: VendorCall) -> AsyncIterator[CallPart]:
        request, told = call.request, wire.told(call.model.id)
        assert isinstance(request, ImageRequest), "its models draw: this is a bug"
        seed = random.getrandbits(32) if request.seed is None else request.seed
        drawn: list[GeneratedImage] = []
        with translated(told, self._url):
            uploaded = await self._uploaded(request)
            for index in range(request.n):
                graph = self._workflow.filled(wire.values(call, request, index, seed + index, uploaded))
                async with aclosing(self._draw(graph, Place(index, request.n), told)) as parts:
                    async for part in parts:
                        if isinstance(part, Progress | Preview):
                            yield part
                        else:
                            drawn += [wire.image(data, kind, request, seed + index) for data, kind in part]
        if not drawn:
            raise InputInvalid.at("model", f"{call.model.id}: the workflow saved no picture: end it with SaveImage")
        yield Answer(ImageResult(tuple(drawn)), Usage(images=len(drawn)))

    async def _draw(
        self, graph: Json, place: Place, told: Call
    ) -> AsyncGenerator[Progress | Preview | Sequence[tuple[bytes, str]], None]:
        """What happens while it draws, then the bytes and the type of each picture. Closed early, it is drawn no more."""
        client_id, prompt_id, is_queued, outputs = uuid4().hex, str(uuid4()), False, None
        try:
            while outputs is None:
                async with self._socket(client_id) as socket:  # before it is queued, so that nothing is missed
                    if not is_queued:
                        is_queued, prompt_id = True, await self._queued(graph, client_id, prompt_id, told)
                    async with aclosing(self._heard(socket, prompt_id, place)) as parts:
                        async for part in parts:
                            yield part
                outputs = await self._outputs(prompt_id, told)
        finally:
            if outputs is None:
                await self._stop(prompt_id)
        yield [await self._fetched(file) for file in wire.files(outputs)]

    async def _queued(self, graph: Json, client_id: str, prompt_id: str, told: Call) -> str:
        """The id that it has there: ours, so that it can be stopped from the first moment on; older servers choose one."""
        body = {"prompt": graph, "client_id": client_id, "prompt_id": prompt_id}
        try:
            reply = await self._http.post("/prompt", json=body)
        except Refused as error:
            raise status_error(told, error.status, wire.refusal(error), retry_after_s=error.retry_after_s) from error
        return str(reply.json()["prompt_id"])

    async def _outputs(self, prompt_id: str, told: Call) -> Json | None:
        """None while it waits or draws. The queue is asked first: what leaves it is in the history then."""
        queue = (await self._http.get("/queue")).json()
        history = (await self._http.get(f"/history/{prompt_id}")).json()
        if prompt_id in history:
            for kind, event in (history[prompt_id].get("status") or {}).get("messages", ()):
                wire.raise_failure(kind, event)
            return history[prompt_id]["outputs"]
        if any(entry[1] == prompt_id for entry in (*queue["queue_running"], *queue["queue_pending"])):
            return None
        raise cut(told, "it has neither in its queue nor in its history what it was given: was it restarted?")

    async def _fetched(self, file: Mapping[str, str]) -> tuple[bytes, str]:
        wanted = {name: file.get(name, "") for name in ("filename", "subfolder", "type")}
        reply = await self._http.get("/view", params=wanted)
        return reply.content, reply.headers.get("content-type", "image/png").partition(";")[0]

    async def _uploaded(self, request: ImageRequest) -> str | None:
        if request.image is None:
            return None
        file = (f"fabric-{uuid4().hex}", request.image.data, request.image.content_type)
        reply = (await self._http.post("/upload/image", files={"image": file})).json()
        return "/".join(part for part in (reply.get("subfolder"), reply["name"]) if part)

    async def _stop(self, prompt_id: str) -> None:
        """Takes it from the queue, or interrupts it where it is being drawn. Nobody is left to tell of a failure."""
        with suppress(httpx.HTTPError, Refused, TimeoutError, ValueError, KeyError):
            async with asyncio.timeout(_STOP_S):
                await self._http.post("/queue", json={"delete": [prompt_id]})
                queue = (await self._http.get("/queue")).json()
                if any(entry[1] == prompt_id for entry in queue["queue_running"]):
                    await self._http.post("/interrupt", json={"prompt_id": prompt_id})

    # ---- its websocket ----

    @asynccontextmanager
    async def _socket(self, client_id: str) -> AsyncIterator[Any]:  # Any: a connection of websockets
        """None where it cannot be opened: then the history alone tells."""
        url = f"{self._url.replace('http', 'ws', 1)}/ws?clientId={client_id}"
        proxy = None if is_local(self._url) else True
        try:
            socket = await self._websockets.connect(
                url, open_timeout=_OPEN_S, max_size=_MESSAGE_BYTES, proxy=proxy, close_timeout=1
            )
        except (OSError, TimeoutError, self._websockets.exceptions.WebSocketException):
            yield None
            return
        try:
            yield socket
        finally:
            await socket.close()

    async def _heard(self, socket: Any, prompt_id: str, place: Place) -> AsyncGenerator[Progress | Preview, None]:
        """Until it says that it has ended, or nothing any more. Raises what it failed with."""
        if socket is None:
            await asyncio.sleep(_POLL_S)
            return
        while True:
            try:
                async with asyncio.timeout(self._silence_s):
                    message = await socket.recv()
            except (TimeoutError, self._websockets.exceptions.ConnectionClosed):
                return
            if isinstance(message, bytes):
                preview = wire.preview(message, place)
                if preview is not None:
                    yield preview
                continue
            told = json.loads(message)
            event = told.get("data") or {}
            if event.get("prompt_id") != prompt_id:
                continue
            if told["type"] == "executing" and event.get("node") is None:
                return
            if told["type"] == "progress":
                yield place.progress(int(event["value"]), int(event["max"]))
            wire.raise_failure(told["type"], event)
