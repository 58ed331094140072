"""The first run: waits until a router is ready, sends one real job of each modality it has, shows the answers.

A client like any other: it knows the router by its URL alone.
"""

import asyncio
import base64
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console
from rich.table import Table
from rich.text import Text

from protos.errors import DeadlineExceeded, FabricError, NodeUnavailable
from protos.types import Modality
from router.picture import half_blocks

READY_TIMEOUT_S: Final = 180.0  # a cold disk and a busy machine load the default models in well under a minute
_ANSWER_TIMEOUT_S: Final = 120.0
_POLL_S: Final = 0.1  # of /readyz, by a person's patience

QUESTION: Final = "What is 3 plus 4?"
TEXTS: Final = ("A cat sleeps on the sofa.", "A kitten naps on the couch.", "The train to Paris leaves at noon.")

PICTURE: Final = "a red circle"
SPOKEN: Final = files("router") / "samples" / "spoken.flac"  # made with espeak-ng

JOBS: Final[dict[Modality, Callable[[], dict[str, Any]]]] = {  # Any: JSON bodies
    Modality.TEXT: lambda: {"input": {"prompt": QUESTION}, "params": {"temperature": 0, "max_tokens": 64}},
    Modality.IMAGE: lambda: {"input": {"prompt": PICTURE}, "params": {"seed": 1}},
    Modality.AUDIO: lambda: {"input": {"audio": base64.b64encode(SPOKEN.read_bytes()).decode()}},
    Modality.EMBEDDING: lambda: {"input": {"texts": list(TEXTS)}},
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished job and how long it took, POST included."""

    job: dict[str, Any]  # decoded JSON
    seconds: float


async def visit(url: str, key: str, folder: Path) -> int:
    """The tour of a router that somebody has started: as `show`, but raises NodeUnavailable where nobody listens."""
    try:
        async with httpx.AsyncClient(base_url=url, timeout=_ANSWER_TIMEOUT_S) as client:
            await client.get("/healthz")
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise NodeUnavailable(
            f"no router answers at {url} ({error}): start one with `fabric-node up`, or name it with --url"
        ) from error
    return await show(url, key, folder)


async def show(url: str, key: str, folder: Path) -> int:
    """The tour on the terminal; its picture goes into `folder`. Exit status 0 when every question was answered."""
    console = Console()
    try:
        await take(url, key, folder, console)
    except FabricError as error:
        console.print(f"[red]{error.message}[/]")
    except httpx.HTTPError as error:
        console.print(f"[red]{url} did not answer as expected:[/] {error}")
    else:
        return 0
    return 1


async def take(url: str, key: str, folder: Path, console: Console) -> None:
    """Waits, sends, shows. Raises FabricError or httpx.HTTPError when an answer does not come. key: "" for none."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=_ANSWER_TIMEOUT_S) as client:
        await wait_until_ready(client, console)
        modalities = await _served(client)
        for modality in [modality for modality in JOBS if modality in modalities]:
            with console.status(f"asking for {modality}"):
                answer = await _ask(client, modality)
                lines = await _lines(client, modality, answer, folder)
            # What is painted with colours says nothing without them.
            console.print(
                _shown(modality, answer, [line for line in lines if console.color_system or isinstance(line, str)])
            )
    console.print(_next_steps(url), highlight=False, soft_wrap=True)  # a line to copy must stay one line


async def wait_until_ready(client: httpx.AsyncClient, console: Console) -> None:
    """Returns when /readyz answers 200; meanwhile shows what is missing. Raises DeadlineExceeded."""
    began = time.monotonic()
    missing = "the router is starting"
    with console.status(missing) as status:
        while time.monotonic() - began < READY_TIMEOUT_S:
            try:
                response = await client.get("/readyz")
                if response.status_code == httpx.codes.OK:
                    console.print(f"[green]ready[/] in {time.monotonic() - began:.1f} s")
                    return
                missing = str(response.json().get("reason", response.text))
            except (httpx.TransportError, ValueError):
                pass  # not listening yet
            status.update(f"{missing} ({time.monotonic() - began:.0f} s)")
            await asyncio.sleep(_POLL_S)
    raise DeadlineExceeded(f"the router was not ready after {READY_TIMEOUT_S:.0f} s: {missing}")


async def _served(client: httpx.AsyncClient) -> set[str]:
    providers = (await client.get("/v1/providers")).raise_for_status().json()["data"]
    local = [provider for provider in providers if provider["id"] != "echo"]
    return {modality for provider in local for modality in provider["modalities"]}


async def _ask(client: httpx.AsyncClient, modality: Modality) -> Answer:
    """Submits the job of a modality and follows its events to the end."""
    began = time.monotonic()
    created = await client.post("/v1/jobs", json={"modality": modality, **JOBS[modality]()})
    path = f"/v1/jobs/{created.raise_for_status().json()['data']['id']}"
    async with client.stream("GET", f"{path}/events") as events:
        async for _ in events.aiter_lines():  # the stream ends after the terminal event
            pass
    seconds = time.monotonic() - began
    return Answer((await client.get(path)).raise_for_status().json()["data"], seconds)


def _shown(modality: Modality, answer: Answer, lines: Sequence[str | Text]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", min_width=10)
    table.add_column()
    table.add_row(modality, lines[0])
    for line in [*lines[1:], f"[dim]{answer.job['model']}, {answer.seconds:.2f} s[/]"]:
        table.add_row("", line)
    return table


async def _lines(client: httpx.AsyncClient, modality: Modality, answer: Answer, folder: Path) -> Sequence[str | Text]:
    if answer.job["status"] != "completed":
        error = answer.job["error"] or {}
        return [f"[red]{answer.job['status']}[/]: {error.get('message', '')}"]
    return await _LINES[modality](client, answer.job["output"], folder)


async def _text_lines(_client: httpx.AsyncClient, output: dict[str, Any], _folder: Path) -> Sequence[str]:
    return [f"{QUESTION} [bold green]{output['text']}[/]"]


async def _image_lines(client: httpx.AsyncClient, output: dict[str, Any], folder: Path) -> Sequence[str | Text]:
    """The picture is kept as a file, and shown as far as a terminal can."""
    path = folder / f"{PICTURE.replace(' ', '-')}.png"
    data = (await client.get(output["images"][0]["url"])).raise_for_status().content
    await asyncio.to_thread(_write, path, data)
    return [f"{PICTURE}: [bold green]{path}[/]", *half_blocks(data)]


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


async def _audio_lines(_client: httpx.AsyncClient, output: dict[str, Any], _folder: Path) -> Sequence[str]:
    return [f"{output['duration_s']:.1f} s of speech: [bold green]{output['text']}[/]"]


async def _embedding_lines(_client: httpx.AsyncClient, output: dict[str, Any], _folder: Path) -> Sequence[str]:
    first, second, similarity = nearest(output["embeddings"])
    return [
        f"{len(TEXTS)} texts, {output['dimensions']} dimensions; the nearest pair (cosine {similarity:.2f}):",
        f"[bold green]{TEXTS[first]}[/]",
        f"[bold green]{TEXTS[second]}[/]",
    ]


_Lines = Callable[[httpx.AsyncClient, dict[str, Any], Path], Awaitable[Sequence[str | Text]]]  # Any: decoded JSON
_LINES: Final[dict[Modality, _Lines]] = {
    Modality.TEXT: _text_lines,
    Modality.IMAGE: _image_lines,
    Modality.AUDIO: _audio_lines,
    Modality.EMBEDDING: _embedding_lines,
}


def nearest(vectors: Sequence[Sequence[float]]) -> tuple[int, int, float]:
    """The two most similar vectors: their indices and the cosine of their angle."""
    pairs = [(i, j) for i in range(len(vectors)) for j in range(i + 1, len(vectors))]
    cosines = {(i, j): _cosine(vectors[i], vectors[j]) for i, j in pairs}
    i, j = max(cosines, key=lambda pair: cosines[pair])
    return i, j, cosines[i, j]


def _cosine(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def _next_steps(url: str) -> str:
    body = '{"modality": "text", "input": {"prompt": "What colour is the sky?"}, "params": {"temperature": 0}}'
    return (
        f"\nThe API is documented at {url}/docs. Try it:\n\n"
        f"  curl -s {url}/v1/jobs -H 'Content-Type: application/json' -d '{body}'\n"
        f"  curl -s '{url}/v1/jobs?limit=1'\n"
    )
