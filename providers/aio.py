"""What carries the calls of the vendors' official clients: aiohttp, under the names of another library. Whether a call that
failed may have reached the vendor.

Not about what a client itself raises (each vendor's own file).
"""

from typing import Final

import aiohttp
import httpx2

# The names that the clients give these are no help: a connection that broke after the call was sent is a "connect timeout"
# there too.
_NOT_SENT: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)


def was_sent(cause: BaseException | None) -> bool:
    """cause: of the client's error about the connection. Where it cannot be told: True, as nobody may be paid twice."""
    root = cause.__cause__ if isinstance(cause, httpx2.HTTPError) else cause
    return not isinstance(root, _NOT_SENT) and not isinstance(cause, httpx2.UnsupportedProtocol)
