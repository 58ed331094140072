"""ComfyUI's API as its server.py and execution.py have it, small: draws one colour, one task after the other.

Source: https://github.com/comfyanonymous/ComfyUI (server.py, main.py's prompt_worker, execution.py).
"""

import asyncio
import contextlib
import json
import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from vendors.faults import Cut, FailsWithin, Fault, Garbage, Plan, Status, always

from providers.echo import png


@dataclass
class Prompt:
    """One that was queued."""

    id: str
    graph: dict[str, Any]  # Any: JSON
    client_id: str
    is_interrupted: bool = False
    messages: list[Any] = field(default_factory=list)  # that its history tells; Any: JSON


@dataclass
class ComfyStandIn:
    """`plan`: what the next POST /prompt meets: Status, or Cut (the websocket breaks after so many messages), FailsWithin
    (a node of the workflow fails), Garbage (what /view gives)."""

    checkpoints: tuple[str, ...] = ("sd15.safetensors", "sdxl.safetensors")
    plan: Plan = field(default_factory=lambda: always(None))
    has_socket: bool = True
    go: asyncio.Event = field(default_factory=asyncio.Event)  # while it is clear, drawing stands still
    saves: bool = True  # its workflow keeps a picture
    forgets: bool = False  # loses what it was given, as a restart does
    graphs: list[dict[str, Any]] = field(default_factory=list)  # as they arrived; Any: JSON
    uploads: dict[str, bytes] = field(default_factory=dict)
    interrupts: list[dict[str, Any]] = field(default_factory=list)  # Any: JSON
    deleted: list[str] = field(default_factory=list)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)  # set when one was interrupted or deleted
    drawing: asyncio.Event = field(default_factory=asyncio.Event)  # set when one begins
    _pending: list[Prompt] = field(default_factory=list)
    _running: Prompt | None = None
    _history: dict[str, Any] = field(default_factory=dict)  # Any: JSON
    _files: dict[str, bytes] = field(default_factory=dict)
    _sockets: dict[str, WebSocket] = field(default_factory=dict)
    _faults: dict[str, Fault | None] = field(default_factory=dict)
    _worker: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.go.set()

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/prompt", self.post_prompt, methods=["POST"]),
                Route("/queue", self.get_queue, methods=["GET"]),
                Route("/queue", self.post_queue, methods=["POST"]),
                Route("/history/{prompt_id}", self.get_history, methods=["GET"]),
                Route("/interrupt", self.interrupt, methods=["POST"]),
                Route("/view", self.view, methods=["GET"]),
                Route("/upload/image", self.upload, methods=["POST"]),
                Route("/models/checkpoints", self.list_checkpoints, methods=["GET"]),
                *([WebSocketRoute("/ws", self.websocket)] if self.has_socket else []),
            ]
        )

    # ---- over HTTP ----

    async def list_checkpoints(self, _request: Request) -> Response:
        return JSONResponse(list(self.checkpoints))

    async def post_prompt(self, request: Request) -> Response:
        body = await request.json()
        fault = self.plan()
        if isinstance(fault, Status):
            return JSONResponse(
                {"error": {"type": "x", "message": fault.said, "details": "", "extra_info": {}}, "node_errors": {}},
                status_code=fault.status,
                headers=dict(fault.headers),
            )
        wrong = self._wrong_nodes(body["prompt"])
        if wrong:
            error = {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation"}
            return JSONResponse({"error": {**error, "details": "", "extra_info": {}}, "node_errors": wrong}, 400)
        self.graphs.append(body["prompt"])
        prompt = Prompt(body.get("prompt_id") or str(uuid.uuid4()), body["prompt"], body.get("client_id", ""))
        self._faults[prompt.id] = fault
        if not self.forgets:
            self._pending.append(prompt)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return JSONResponse({"prompt_id": prompt.id, "number": len(self.graphs), "node_errors": {}})

    def _wrong_nodes(self, graph: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
        return {
            number: {
                "errors": [
                    {
                        "type": "value_not_in_list",
                        "message": "Value not in list",
                        "details": f"ckpt_name: '{node['inputs']['ckpt_name']}' not in {list(self.checkpoints)}",
                        "extra_info": {},
                    }
                ],
                "dependent_outputs": ["9"],
                "class_type": node["class_type"],
            }
            for number, node in graph.items()
            if node["class_type"] == "CheckpointLoaderSimple" and node["inputs"]["ckpt_name"] not in self.checkpoints
        }

    async def get_queue(self, _request: Request) -> Response:
        running = [self._entry(self._running)] if self._running else []
        return JSONResponse({"queue_running": running, "queue_pending": [self._entry(p) for p in self._pending]})

    def _entry(self, prompt: Prompt) -> list[Any]:  # Any: JSON
        return [0, prompt.id, prompt.graph, {"client_id": prompt.client_id}, ["9"]]

    async def post_queue(self, request: Request) -> Response:
        for prompt_id in (await request.json()).get("delete", []):
            before = len(self._pending)
            self._pending = [prompt for prompt in self._pending if prompt.id != prompt_id]
            if len(self._pending) < before:
                self.deleted.append(prompt_id)
                self.stopped.set()
        return Response()

    async def interrupt(self, request: Request) -> Response:
        self.interrupts.append(await request.json())
        self.interrupt_now()
        self.stopped.set()
        return Response()

    def interrupt_now(self) -> None:
        """As its own page does."""
        if self._running is not None:
            self._running.is_interrupted = True
            self.go.set()

    async def get_history(self, request: Request) -> Response:
        prompt_id = request.path_params["prompt_id"]
        return JSONResponse({prompt_id: self._history[prompt_id]} if prompt_id in self._history else {})

    async def view(self, request: Request) -> Response:
        data = self._files.get(request.query_params["filename"])
        if data is None or request.query_params["type"] != "output":
            return Response(status_code=404)
        return Response(data, media_type="image/png")

    async def upload(self, request: Request) -> Response:
        async with request.form() as form:
            file: Any = form["image"]  # Any: an UploadFile
            self.uploads[file.filename] = await file.read()
            return JSONResponse({"name": file.filename, "subfolder": "in", "type": "input"})

    # ---- the websocket ----

    async def websocket(self, socket: WebSocket) -> None:
        await socket.accept()
        client_id = socket.query_params["clientId"]
        self._sockets[client_id] = socket
        status = {"status": {"exec_info": {"queue_remaining": len(self._pending)}}, "sid": client_id}
        await socket.send_text(json.dumps({"type": "status", "data": status}))
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await socket.receive_text()
        if self._sockets.get(client_id) is socket:
            del self._sockets[client_id]

    async def _tell(self, prompt: Prompt, kind: str, **data: Any) -> None:  # Any: JSON
        event = {"type": kind, "data": {**data, "prompt_id": prompt.id}}
        if kind.startswith("execution_"):
            prompt.messages.append([kind, event["data"]])
        await self._send(prompt, lambda socket: socket.send_text(json.dumps(event)))

    async def _send(self, prompt: Prompt, send: Callable[[WebSocket], Any]) -> None:  # Any: a coroutine
        fault, socket = self._faults[prompt.id], self._sockets.get(prompt.client_id)
        if socket is None:
            return
        is_cut = isinstance(fault, Cut) and not fault.chunks
        if isinstance(fault, Cut):
            self._faults[prompt.id] = None if is_cut else Cut(fault.chunks - 1)
        if is_cut:
            del self._sockets[prompt.client_id]
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # its reader goes: as the real one, it draws on
            await (socket.close(1011) if is_cut else send(socket))

    # ---- drawing ----

    async def _work(self) -> None:
        while self._pending:
            self._running = prompt = self._pending.pop(0)
            self.drawing.set()
            outputs = await self._draw(prompt)
            end = {"status_str": "success" if outputs else "error", "completed": bool(outputs)}
            status = {**end, "messages": prompt.messages}
            self._history[prompt.id] = {"prompt": self._entry(prompt), "outputs": outputs, "status": status}
            self._running = None
            await self._tell(prompt, "executing", node=None)

    async def _draw(self, prompt: Prompt) -> dict[str, Any]:  # Any: JSON
        """The outputs; none where it failed or was interrupted."""
        inputs = {node["class_type"]: node["inputs"] for node in prompt.graph.values()}
        sampler, size = inputs.get("KSampler", {}), inputs.get("EmptyLatentImage", {"width": 8, "height": 8})
        await self._tell(prompt, "execution_start", timestamp=1)
        await self._tell(prompt, "execution_cached", nodes=["4"], timestamp=1)
        fault = self._faults[prompt.id]
        if isinstance(fault, FailsWithin):
            where = {"node_id": "3", "node_type": "KSampler", "executed": ["4"]}
            await self._tell(
                prompt, "execution_error", **where, exception_message=fault.said, exception_type=fault.kind
            )
            return {}
        await self._tell(prompt, "executing", node="3", display_node="3")
        steps = int(sampler.get("steps", 1))
        for step in range(1, steps + 1):
            await self.go.wait()
            if prompt.is_interrupted:
                await self._tell(prompt, "execution_interrupted", node_id="3", node_type="KSampler", executed=["4"])
                return {}
            await self._tell(prompt, "progress", value=step, max=steps, node="3")
        picture = png(int(size["width"]), int(size["height"]), struct.pack(">I", int(sampler.get("seed", 0)))[1:])
        preview = struct.pack(">II", 1, 2) + picture
        await self._send(prompt, lambda socket: socket.send_bytes(preview))
        name = f"{inputs['SaveImage']['filename_prefix']}_00001_.png"
        self._files[name] = fault.text.encode() if isinstance(fault, Garbage) else picture
        images = [{"filename": name, "subfolder": "", "type": "output"}]
        await self._tell(prompt, "executed", node="9", display_node="9", output={"images": images})
        await self._tell(prompt, "execution_success", timestamp=2)
        return {"9": {"images": images} if self.saves else {"text": ["done"]}}
