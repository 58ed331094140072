"""Talking with a client that blocks, beside the router that answers it in the test's own event loop."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from edge import BOUND_S

Result = TypeVar("Result")


async def told(talk: Callable[[], Result]) -> Result:
    """What the client, which blocks, comes to beside the router's loop."""
    return await asyncio.wait_for(asyncio.to_thread(talk), BOUND_S)
