"""A caller of OpenAI's wire that costs next to nothing itself: it says when the first word of a streamed answer came."""

import asyncio
import json
import re
import time
from typing import Final

FLAT_OUT: Final = "gpt-4o-mini"  # as fast as the stand-in can
PACED: Final = "gpt-4o"  # 150 words a second
_WORD: Final = re.compile(rb'"content": ?"w')


class Target:
    """One door of OpenAI's wire. Connections are kept where the other side keeps them."""

    def __init__(self, port: int, words: int) -> None:
        self.port = port
        self._requests = {model: self._request(model, words) for model in (FLAT_OUT, PACED)}
        self._kept: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    def _request(self, model: str, words: int) -> bytes:
        message = {"role": "user", "content": " ".join(["w"] * words)}
        body = json.dumps(
            {
                "model": model,
                "messages": [message],
                "stream": True,
                "stream_options": {"include_usage": True},
                "max_tokens": words,
            }
        ).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        return f"{head}Content-Type: application/json\r\nAuthorization: Bearer sk-standin\r\n\r\n".encode() + body

    async def call(self, model: str) -> tuple[float, float]:
        """Seconds until the first word and until the end."""
        kept = await self._connection()
        began = time.perf_counter()
        kept[1].write(self._requests[model])
        got, first = b"", 0.0
        while not got.endswith(b"0\r\n\r\n"):
            piece = await kept[0].read(1 << 16)
            if not piece:
                break
            got += piece
            if not first and _WORD.search(got):
                first = time.perf_counter() - began
        whole = time.perf_counter() - began
        assert got.startswith(b"HTTP/1.1 200"), got[:2000]
        assert b"[DONE]" in got, got[-2000:]
        if got.endswith(b"0\r\n\r\n"):
            self._kept.append(kept)
        else:
            kept[1].close()
        return first, whole

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._kept:
            kept = self._kept.pop()
            if not kept[0].at_eof():  # servers close what was idle for some seconds
                return kept
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def is_up(self) -> bool:
        try:
            await self.call(FLAT_OUT)
        except (OSError, AssertionError):
            return False
        return True
