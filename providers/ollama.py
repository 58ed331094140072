"""Ollama: text and embeddings, by the official client. It loads its models and keeps them alive as it likes.

Nothing is pulled but what the settings name, and its cloud models are not offered: they run elsewhere, without anybody
having said so. Source: https://github.com/ollama/ollama/blob/main/docs/api.md.
"""

import asyncio
import importlib
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence, Set
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any, Final, cast

import httpx
import numpy as np

from protos.errors import FabricError, InputInvalid, NodeUnavailable
from protos.types import (
    DEFAULT_MAX_TOKENS,
    EmbeddingRequest,
    EmbeddingResult,
    Modality,
    ModelId,
    ProviderId,
    ResponseFormat,
    TaskRequest,
    TextDelta,
    TextRequest,
    TextResult,
    Usage,
)
from providers.catalog import VendorModel
from providers.http_wire import client_options, translated
from providers.keys import sanitized
from providers.remote import Answer, CallPart, VendorCall
from providers.tokens import expected_tokens
from providers.vendor_errors import Call, cut
from providers.watched import Pace, Watched

log = logging.getLogger(__name__)

ID: Final = ProviderId("ollama")
_URL_VARIABLE: Final = "OLLAMA_URL"
_AT_ONCE: Final = 4  # its own default of OLLAMA_NUM_PARALLEL where memory allows
_LATEST: Final = ":latest"  # the tag that a name without one has


def ollama_provider(
    url: str, pull: Sequence[str], on_change: Callable[[], None], *, pace: Pace | None = None
) -> Watched:
    return Watched(ID, url, OllamaApi(url, pull), on_change, at_once=_AT_ONCE, pace=pace)


class OllamaApi:
    """Its client is imported at the start: a router without it starts without it."""

    manners: Final = "ollama"

    def __init__(self, url: str, pull: Sequence[str] = ()) -> None:
        self._url, self._pull = url, pull
        self._client: Any = None  # Any: ollama.AsyncClient, whose package may be missing
        self._known: dict[str, VendorModel | None] = {}  # by digest and name; None: serves neither modality
        self._pulling: dict[str, asyncio.Task[None]] = {}

    async def open(self) -> None:
        try:
            ollama: Any = await asyncio.to_thread(importlib.import_module, "ollama")  # Any: a module
        except ImportError as error:
            raise InputInvalid.at(
                _URL_VARIABLE,
                f"is set, but the package `ollama` is not installed ({error}): pip install 'fabric-node[vendors]'",
            ) from error
        self._response_error = ollama.ResponseError
        self._client = ollama.AsyncClient(self._url, **client_options(self._url))
        # For the lists: the official client drops what tells a cloud model from a local one.
        self._http = httpx.AsyncClient(base_url=self._url, **client_options(self._url))

    async def close(self) -> None:
        for pulling in self._pulling.values():
            pulling.cancel()
        if self._pulling:
            await asyncio.wait(self._pulling.values())
        await self._client.close()
        await self._http.aclose()

    # ---- calls ----

    def check(self, request: TaskRequest, model: VendorModel) -> None:
        errors = list(_wrong(request, model))
        if errors:
            raise InputInvalid.of(errors)

    async def call(self, call: VendorCall) -> AsyncIterator[CallPart]:
        told, request = _told(call.model.id), call.request
        with self._translated(told):
            if isinstance(request, TextRequest):
                async for part in self._text(call.model.id, request, told):
                    yield part
            else:
                assert isinstance(request, EmbeddingRequest), "checked before it is called: this is a bug"
                yield await self._embedding(call.model.id, request)

    async def _text(self, model: ModelId, request: TextRequest, told: Call) -> AsyncIterator[CallPart]:
        said: list[str] = []
        async with aclosing(await self._stream(model, request)) as parts:
            async for part in parts:
                text = part.response if request.prompt is not None else part.message.content
                if text:
                    said.append(text)
                    yield TextDelta(text)
                if part.done:
                    whole = "".join(said)
                    reason = "length" if part.done_reason == "length" else "stop"
                    yield Answer(TextResult(whole, cast(Any, reason)), _usage(part, request, whole))
                    return
        raise cut(told, f"it ended after {sum(map(len, said))} characters without its last message")

    async def _stream(self, model: ModelId, request: TextRequest) -> AsyncGenerator[Any, None]:  # Any: the client's
        options, form = _options(request), _format(request.response_format)
        if request.prompt is not None:
            parts = await self._client.generate(model, request.prompt, options=options, format=form, stream=True)
        else:
            messages = [{"role": message.role, "content": message.content} for message in request.messages]
            parts = await self._client.chat(model, messages, options=options, format=form, stream=True)
        return cast(AsyncGenerator[Any, None], parts)

    async def _embedding(self, model: ModelId, request: EmbeddingRequest) -> CallPart:
        # Not truncated: a text that is too long is refused, where by default its end is dropped without a word.
        reply = await self._client.embed(model, list(request.texts), truncate=False, dimensions=request.dimensions)
        vectors = np.asarray(reply.embeddings, dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != len(request.texts) or not vectors.shape[1]:
            raise ValueError(f"vectors of shape {vectors.shape} for {len(request.texts)} texts")
        dimensions = vectors.shape[1]
        if request.dimensions not in (None, dimensions):
            raise InputInvalid.at(
                "params.dimensions",
                f"is {request.dimensions}, and {model} gave {dimensions} all the same: leave it out",
            )
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit = vectors / np.where(lengths == 0, 1, lengths)
        tokens = reply.prompt_eval_count or expected_tokens(request.texts)
        return Answer(EmbeddingResult(dimensions, unit.astype("<f4").tobytes()), Usage(input_tokens=tokens))

    @contextmanager
    def _translated(self, told: Call) -> Iterator[None]:
        try:
            with translated(told, self._url):
                yield
        except self._response_error as error:  # within a stream: a status comes as http_wire.Refused
            raise NodeUnavailable(
                f"ollama failed while it answered ({sanitized(str(error))}): retry later, or look at its log",
                may_have_run=True,
            ) from error

    # ---- what it has ----

    async def models(self) -> Sequence[VendorModel]:
        with self._translated(_told(ModelId(""))):
            listed = (await self._http.get("/api/tags")).json()["models"]
            names = {str(entry["name"]): f"{entry['digest']} {entry['name']}" for entry in listed}
            for name, key in names.items():
                if key not in self._known:
                    shown = await self._http.post("/api/show", json={"model": name})
                    self._known[key] = _model_of(name, shown.json())
        self._start_pulls(names.keys())
        served = [self._known[key] for key in names.values()]
        return _with_defaults([model for model in served if model is not None])

    def _start_pulls(self, listed: Set[str]) -> None:
        for name in self._pull:
            if name not in self._pulling and not listed & {name, name + _LATEST}:
                self._pulling[name] = asyncio.create_task(self._fetch(name), name=f"pull {name}")

    async def _fetch(self, name: str) -> None:
        """Once in the life of the router; the next look finds the model."""
        log.info("ollama is told to pull %s", name)
        try:
            with self._translated(_told(ModelId(name))):
                async for _ in await self._client.pull(name, stream=True):
                    pass
        except FabricError as error:
            log.warning("ollama did not pull %s: %s", name, error.message)
        else:
            log.info("ollama has pulled %s", name)


# ---- requests and answers, pure ----


def _wrong(request: TaskRequest, model: VendorModel) -> Iterator[tuple[str, str]]:
    match request:
        case TextRequest():
            yield from _wrong_text(request)
        case EmbeddingRequest(texts=texts):
            if not texts:
                yield "input.texts", "is empty: give at least one text to embed"
            for index, text in enumerate(texts):
                if not text:
                    yield f"input.texts[{index}]", "is empty: give a text to embed"
            if not request.normalize:
                yield "params.normalize", "is false: ollama gives vectors of length 1 only"
            if request.prompt_name:
                yield "params.prompt_name", "is not taken by ollama: write the prompt before the text"
        case _:
            yield "", f"{model.id} at ollama serves {model.modality} only"


def _wrong_text(request: TextRequest) -> Iterator[tuple[str, str]]:
    if not request.prompt and not request.messages:
        yield "input.prompt", "is empty: give a prompt, or messages"
    for name, is_set in (("logprobs", request.logprobs is not None), ("n", request.n != 1)):
        if is_set:
            yield f"params.{name}", "is not taken by ollama: leave it out, or use a model on this box"
    form = request.response_format
    if form is not None and form.kind not in ("json_object", "json_schema"):
        yield "params.response_format", f"is a {form.kind}: ollama takes json_object and json_schema"


def _format(wanted: ResponseFormat | None) -> Any:  # Any: the client's: a word, or a schema
    if wanted is None:
        return None
    return "json" if wanted.kind == "json_object" else json.loads(wanted.definition)


def _options(request: TextRequest) -> Mapping[str, object]:
    """All of them, as Ollama's own defaults differ from ours."""
    options: dict[str, object] = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "min_p": request.min_p,
        "repeat_penalty": request.repetition_penalty,
        "frequency_penalty": request.frequency_penalty,
        "presence_penalty": request.presence_penalty,
        "num_predict": request.max_tokens or DEFAULT_MAX_TOKENS,
    }
    if request.stop:
        options["stop"] = list(request.stop)
    if request.seed is not None:
        options["seed"] = request.seed
    return options


def _usage(last: Any, request: TextRequest, said: str) -> Usage:  # Any: the client's
    """As reported; a prompt that was in its cache is not counted by some versions."""
    texts = [request.prompt] if request.prompt is not None else [message.content for message in request.messages]
    return Usage(
        input_tokens=last.prompt_eval_count or expected_tokens(texts),
        output_tokens=last.eval_count if last.eval_count is not None else expected_tokens([said]),
    )


def _model_of(name: str, shown: Mapping[str, Any]) -> VendorModel | None:  # Any: decoded JSON
    """By its capabilities; a server before 0.6.4 tells none, there the family has to do. None: nothing that we offer."""
    family = str((shown.get("details") or {}).get("family") or "")
    capabilities = shown.get("capabilities") or (["embedding"] if "bert" in family else ["completion"])
    if not {"completion", "embedding"} & set(capabilities) or shown.get("remote_host") or shown.get("remote_model"):
        return None
    lengths = [value for key, value in (shown.get("model_info") or {}).items() if key.endswith(".context_length")]
    return VendorModel(
        vendor=ID,
        id=ModelId(name),
        modality=Modality.TEXT if "completion" in capabilities else Modality.EMBEDDING,
        context_tokens=int(lengths[0]) if lengths else 0,
    )


def _with_defaults(models: Sequence[VendorModel]) -> Sequence[VendorModel]:
    """The first of each modality is its default, as listed: the last one that was pulled. A name without its tag will
    do where the tag is `latest`, as it does for Ollama."""
    seen: set[Modality] = set()
    offered: list[VendorModel] = []
    for model in models:
        offered.append(replace(model, is_default=model.modality not in seen))
        seen.add(model.modality)
        if model.id.endswith(_LATEST):
            offered.append(replace(model, id=ModelId(model.id.removesuffix(_LATEST))))
    return offered


def _told(model: ModelId) -> Call:
    return Call(vendor=ID, model=model, key_variable=_URL_VARIABLE)
