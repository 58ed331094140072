"""The official client around the four modalities: makes it, calls it with the key of the call, closes it."""

import asyncio
import importlib
import importlib.util
import warnings
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, Final, assert_never

from protos.errors import InputInvalid
from protos.locality import is_local
from protos.types import (
    AudioRequest,
    EmbeddingRequest,
    ImageRequest,
    ModelId,
    TaskId,
    TaskRequest,
    TextRequest,
)
from providers.catalog import VendorModel
from providers.event_stream import events_of
from providers.openai_wire import audio, embeddings, images, text
from providers.openai_wire.dialect import Dialect, Wrong
from providers.remote import CallPart, VendorCall
from providers.vendor_errors import Call, reading

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from providers.openai_wire.sending import Sending

_CONNECT_S: Final = 5.0  # a vendor that takes longer to shake hands is as good as away
_POOL_S: Final = 10.0  # for one of the client's 1,000 connections


class OpenAIWire:
    """An Api. Its client is imported at the start: a router without vendors does without it."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.manners: Final = f"openai {dialect.stop_limit} {sorted(dialect.takes)}"
        self._client: asyncio.Task[AsyncOpenAI] | None = None
        self._chats: Sending | None = None

    async def open(self) -> None:
        if importlib.util.find_spec("openai") is None:
            raise InputInvalid.at(
                self._dialect.key_variable,
                "needs the package `openai`, which is not installed: pip install 'fabric-node[vendors]'",
            )
        self._client = asyncio.create_task(self._made(), name=f"client of {self._dialect.vendor}")

    async def _made(self) -> "AsyncOpenAI":
        """Its import takes seconds, which no start has to wait for: the first call does."""
        openai: Any = await asyncio.to_thread(importlib.import_module, "openai")  # Any: a module
        sending: Any = await asyncio.to_thread(
            importlib.import_module, "providers.openai_wire.sending"
        )  # Any: as above
        http = openai.DefaultAioHttpClient(  # its parser is not Python, and what came at once is read at once
            follow_redirects=False,  # keys go to the host that is named
            trust_env=not is_local(self._dialect.base_url),  # what stays on this machine goes through no proxy
        )
        client: AsyncOpenAI = openai.AsyncOpenAI(
            api_key="given with each call",
            base_url=self._dialect.base_url,
            max_retries=0,  # ours are in wrappers, where they know whether a call may be paid twice
            timeout=openai.Timeout(None, connect=_CONNECT_S, pool=_POOL_S),  # the rest is bounded by wrappers
            http_client=http,
        )
        self._chats = sending.Sending(client, http, "/chat/completions")
        return client

    async def close(self) -> None:
        if self._client is not None:
            await (await self._client).close()
            self._client = None

    def check(self, request: TaskRequest, model: VendorModel) -> None:
        errors = list(self._wrong(request, model))
        if errors:
            raise InputInvalid.of(errors)

    def _wrong(self, request: TaskRequest, model: VendorModel) -> Wrong:
        match request:
            case TextRequest():
                return text.wrong(request, model, self._dialect)
            case EmbeddingRequest():
                return embeddings.wrong(request, model, self._dialect)
            case ImageRequest():
                return images.wrong(request, model, self._dialect)
            case AudioRequest():
                return audio.wrong(request, model, self._dialect)
            case _:
                assert_never(request)

    async def call(self, call: VendorCall) -> AsyncIterator[CallPart]:
        client = await self._open_client()
        told = self._told(call.model.id, call.key)
        with self._translated(told):
            if isinstance(call.request, TextRequest):
                async for part in self._text(call, call.request, told):
                    yield part
            else:
                yield await self._whole(client, call, told)

    async def _text(self, call: VendorCall, request: TextRequest, told: Call) -> AsyncIterator[CallPart]:
        assert self._chats is not None, "it is made with the client: this is a bug"
        sent = text.body(request, call.model, self._dialect)
        response = await self._chats.streamed(sent, _plain_headers(call.key, call.id))
        async with aclosing(response), aclosing(events_of(response.aiter_bytes())) as events:
            with reading(told):
                async for part in text.read(events, request, call.model, told):
                    yield part

    async def _whole(self, client: "AsyncOpenAI", call: VendorCall, told: Call) -> CallPart:
        """Of the modalities whose answer comes in one piece."""
        reply = await _reply(client, call)
        with reading(told):
            match call.request:
                case EmbeddingRequest():
                    return embeddings.answer(reply, call.request)
                case ImageRequest():
                    return images.answer(reply, call.request)
                case AudioRequest():
                    return audio.answer(reply)
                case TextRequest():
                    raise AssertionError("text is streamed: this is a bug")
                case _:
                    assert_never(call.request)

    async def models(self, key: str) -> Sequence[ModelId]:
        """What GET /models lists. Raises FabricError."""
        client = await self._open_client()
        told = self._told(ModelId(""), key)
        with self._translated(told):
            page = await client.models.list(extra_headers=_headers(key))
            with reading(told):
                return [ModelId(str(model.id)) for model in page.data]

    def _told(self, model: ModelId, key: str) -> Call:
        return Call(vendor=self._dialect.vendor, model=model, key_variable=self._dialect.key_variable, key=key)

    @contextmanager
    def _translated(self, told: Call) -> Iterator[None]:
        from providers.openai_wire.errors import translated  # noqa: PLC0415  # imports the client

        with translated(told, self._dialect.base_url):
            yield

    async def _open_client(self) -> "AsyncOpenAI":
        assert self._client is not None, f"{self._dialect.vendor} was called before its start: this is a bug"
        return await asyncio.shield(self._client)  # a caller that goes does not take it along


async def _reply(
    client: "AsyncOpenAI", call: VendorCall
) -> Any:  # Any: each endpoint has its own type, none of them checked
    headers, request = _headers(call.key, call.id), call.request
    match request:
        case EmbeddingRequest():
            return await client.embeddings.create(**embeddings.body(request, call.model), extra_headers=headers)
        case ImageRequest():
            return await client.images.generate(**images.body(request, call.model), extra_headers=headers)
        case AudioRequest(task="translate"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # OpenAI's own is; other servers' is not
                reply = client.audio.translations.create(**audio.body(request, call.model), extra_headers=headers)
            return await reply
        case AudioRequest():
            return await client.audio.transcriptions.create(**audio.body(request, call.model), extra_headers=headers)
        case TextRequest():
            raise AssertionError("text is streamed: this is a bug")
        case _:
            assert_never(request)


def _headers(key: str, task_id: TaskId | None = None) -> dict[str, Any]:  # Any: text, or the client's mark of absence
    from openai import Omit  # noqa: PLC0415  # imported at the start

    return {"Authorization": Omit(), **dict(_plain_headers(key, task_id))}


def _plain_headers(key: str, task_id: TaskId | None) -> list[tuple[str, str]]:
    authorization = [("Authorization", f"Bearer {key}")] if key else []
    return [*authorization, ("Idempotency-Key", task_id)] if task_id else authorization
