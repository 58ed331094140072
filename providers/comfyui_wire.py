"""What ComfyUI is sent and what it says, read and written: no connection, no waiting. Pure.

Not about how a task is followed there (comfyui.py) nor how a workflow is filled (workflow.py).
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from protos.errors import Cancelled, FabricError, NodeUnavailable, OutOfMemory
from protos.types import GeneratedImage, ImageRequest, Modality, ModelId, Preview, Progress, ProviderId
from providers.catalog import VendorModel
from providers.http_wire import Refused
from providers.keys import sanitized
from providers.remote import VendorCall
from providers.vendor_errors import Call
from providers.workflow import Json, Workflow

ID: Final = ProviderId("comfyui")
URL_VARIABLE: Final = "COMFYUI_URL"
_PICTURES: Final = 16  # of one request
_SAMPLERS: Final = {"flow_euler": "euler"}  # where its name differs from ours
_PREVIEW_TYPES: Final = {1: "image/jpeg", 2: "image/png"}


@dataclass(frozen=True, slots=True)
class Place:
    """Of one picture among those of its request."""

    index: int
    of: int

    def progress(self, step: int, steps: int) -> Progress:
        fraction = (self.index + step / max(steps, 1)) / self.of
        return Progress(min(fraction, 1.0), self.index * steps + step, self.of * steps)


def wrong(request: ImageRequest, workflow: Workflow) -> Iterator[tuple[str, str]]:
    if not request.prompt:
        yield "input.prompt", "is empty: say what to draw"
    if not 1 <= request.n <= _PICTURES:
        yield "params.n", f"is {request.n}: use 1 to {_PICTURES}"
    stated = given(request)
    for (path, hole), value in stated.items():
        if value is not None and hole not in workflow.takes:
            yield path, f"is not taken by the workflow {workflow.name}: leave it out, or write {{{{{hole}}}}} into it"
    lacking = workflow.lacking({hole: value for (_, hole), value in stated.items()})
    for path, hole in stated:
        if hole in lacking and hole != "seed":
            yield path, f"is missing: the workflow {workflow.name} has no default for it"


def given(request: ImageRequest) -> Mapping[tuple[str, str], object]:
    """(our field, the placeholder) -> what the request says; None: nothing."""
    return {
        ("input.negative_prompt", "negative"): request.negative_prompt or None,
        ("input.image", "image"): request.image,
        ("params.width", "width"): request.width,
        ("params.height", "height"): request.height,
        ("params.steps", "steps"): request.steps,
        ("params.guidance_scale", "cfg"): request.guidance_scale,
        ("params.scheduler", "sampler"): _SAMPLERS.get(request.scheduler or "", request.scheduler),
        ("params.strength", "denoise"): request.strength,
        ("params.seed", "seed"): request.seed,
    }


def values(call: VendorCall, request: ImageRequest, index: int, seed: int, uploaded: str | None) -> Mapping[str, Json]:
    fields = {hole: value for (_, hole), value in given(request).items()}
    own = {"prompt": request.prompt, "checkpoint": call.model.id, "id": f"{call.id}-{index}"}
    return {**fields, **own, "seed": seed, "image": uploaded}


def files(outputs: Json) -> list[Mapping[str, str]]:
    """What was saved; what was only shown where nothing was."""
    files = [file for output in outputs.values() for file in output.get("images") or ()]
    return [file for file in files if file.get("type") == "output"] or files


def image(data: bytes, kind: str, request: ImageRequest, seed: int) -> GeneratedImage:
    width, height = request.width or 0, request.height or 0
    if data.startswith(b"\x89PNG\r\n\x1a\n"):  # its own word counts. Source: ISO/IEC 15948, the IHDR chunk
        width, height = struct.unpack(">II", data[16:24])
    return GeneratedImage(data, kind, width, height, seed)


def preview(message: bytes, place: Place) -> Preview | None:
    """Type 1 of its binary messages: a picture on its way, after 4 bytes of what it is."""
    if len(message) < 8:
        return None
    event, kind = struct.unpack(">II", message[:8])
    if event != 1 or kind not in _PREVIEW_TYPES:
        return None
    return Preview(place.index, message[8:], _PREVIEW_TYPES[kind])


def raise_failure(kind: str, event: Json) -> None:
    """Raises the error of a message that tells of one."""
    if kind == "execution_interrupted":
        raise Cancelled("it was interrupted at comfyui", may_have_run=True)
    if kind != "execution_error":
        return
    said = sanitized(f"{event.get('node_type', 'a node')}: {event.get('exception_message', '')}")
    failure: type[FabricError] = OutOfMemory if "OutOfMemory" in str(event.get("exception_type")) else NodeUnavailable
    raise failure(f"comfyui failed while it drew ({said}): look at its log", may_have_run=True)


def refusal(error: Refused) -> str:
    """Which node of the workflow it refuses and why, beside the general word."""
    nodes = error.body.get("node_errors") if isinstance(error.body, dict) else None
    details = [
        f"{node}: {each.get('message', '')} {each.get('details', '')}".strip()
        for node, told in (nodes or {}).items()
        for each in told.get("errors", ())
    ]
    return "; ".join([error.said, *details])


def model(name: str, *, is_default: bool) -> VendorModel:
    return VendorModel(vendor=ID, id=ModelId(name), modality=Modality.IMAGE, is_default=is_default)


def told(model: ModelId) -> Call:
    return Call(vendor=ID, model=model, key_variable=URL_VARIABLE)
