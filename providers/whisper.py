"""Whisper over HTTP: transcription at a faster-whisper-server, or at what speaks OpenAI's form of it.

Its wire is openai_wire's; here is how such a server is found to be up, and what it has.
Source: https://github.com/fedirz/faster-whisper-server (routers/stt.py, routers/list_models.py, routers/misc.py).
"""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import httpx

from protos.errors import FabricError
from protos.types import Modality, ModelId, ProviderId, TaskRequest
from providers.catalog import VendorModel
from providers.http_wire import Refused, client_options, translated
from providers.openai_wire import Dialect, OpenAIWire
from providers.remote import CallPart, VendorCall
from providers.vendor_errors import Call
from providers.watched import Pace, Watched

ID: Final = ProviderId("whisper")
ITS_OWN: Final = ModelId("whisper-1")  # OpenAI's name; such servers take it for the model that they are set up with
_URL_VARIABLE: Final = "WHISPER_URL"
_AT_ONCE: Final = 4
_LIST_AGAIN_S: Final = 600.0  # its list of models may be that of a hub, asked for anew each time
_TAKES: Final = {"vad": "vad_filter"}


def whisper_provider(url: str, on_change: Callable[[], None], *, pace: Pace | None = None) -> Watched:
    return Watched(ID, url, WhisperApi(url), on_change, at_once=_AT_ONCE, pace=pace)


class WhisperApi:
    """OpenAI's wire for the calls. A server without a list of models serves its own all the same."""

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        root = url.removesuffix("/v1")
        self._root, self._clock = root, clock
        self._wire = OpenAIWire(Dialect(vendor=ID, base_url=f"{root}/v1", key_variable=_URL_VARIABLE, takes=_TAKES))
        self.manners: Final = self._wire.manners
        self._listed: Sequence[ModelId] = ()
        self._list_at = float("-inf")  # when it is asked for again

    async def open(self) -> None:
        await self._wire.open()
        self._http = httpx.AsyncClient(base_url=self._root, **client_options(self._root))

    async def close(self) -> None:
        await self._http.aclose()
        await self._wire.close()

    def check(self, request: TaskRequest, model: VendorModel) -> None:
        self._wire.check(request, model)

    def call(self, call: VendorCall) -> AsyncIterator[CallPart]:
        return self._wire.call(call)

    async def models(self) -> Sequence[VendorModel]:
        try:
            await self._look()
        except FabricError:
            self._list_at = float("-inf")  # another server may come up
            raise
        if self._clock() >= self._list_at:
            self._listed, self._list_at = await self._list(), self._clock() + _LIST_AGAIN_S
        names = dict.fromkeys([ITS_OWN, *self._listed])
        return [_model(name, is_default=name == ITS_OWN) for name in names]

    async def _look(self) -> None:
        """Raises FabricError. Any answer will do but a failure: not every server has /health."""
        with translated(Call(vendor=ID, model=ITS_OWN, key_variable=_URL_VARIABLE), self._root):
            try:
                await self._http.get("/health")
            except Refused as error:
                if error.status >= httpx.codes.INTERNAL_SERVER_ERROR:
                    raise

    async def _list(self) -> Sequence[ModelId]:
        try:
            return await self._wire.models("")
        except FabricError:
            return ()


def _model(name: ModelId, *, is_default: bool) -> VendorModel:
    return VendorModel(vendor=ID, id=name, modality=Modality.AUDIO, is_default=is_default, takes=_TAKES)
