"""Text of an answer while its tokens arrive, never with a broken character.

Not about stop strings (stops.py).
"""

from collections.abc import Callable, Sequence
from typing import Final

Decode = Callable[[Sequence[int]], str]

_BROKEN: Final = "\N{REPLACEMENT CHARACTER}"  # what a decoder writes for bytes that are not (yet) a character


class Detokenizer:
    """Decodes one answer piece by piece. The pieces together are the whole answer decoded at once.

    Some decoders change a token by what stands before it (a space that only the first loses), so each piece is the
    difference of two short decodings that begin at the same earlier token.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._context = 0  # where both decodings begin
        self._shown = 0  # tokens whose text was given

    def push(self, token: int) -> str:
        """The text that is complete with this token; "" while a character is still missing bytes."""
        self._ids.append(token)
        before, now = self._texts()
        if len(now) <= len(before) or now.endswith(_BROKEN):
            return ""
        self._context, self._shown = self._shown, len(self._ids)
        return now[len(before) :]

    def flush(self) -> str:
        """The rest, without the bytes of a character that will not be completed."""
        before, now = self._texts()
        self._context = self._shown = len(self._ids)
        return now[len(before) :].rstrip(_BROKEN)

    def _texts(self) -> tuple[str, str]:
        start = self._context
        return self._decode(self._ids[start : self._shown]), self._decode(self._ids[start:])
