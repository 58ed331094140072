"""The flat client of fabric-platform 0.8.1, in a process and an environment of its own, fed with snippets of code."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from edge import BOUND_S

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv-fabric-0.8.1" / "bin" / "python"
RUNNER = Path(__file__).with_name("runner.py")
LINE_BYTES = 1 << 24  # of an answer


@dataclass(frozen=True)
class Raised:
    """What the client raised. `type`: with the package that it is of."""

    type: str
    message: str
    status: int | None
    code: str | None
    request_id: str | None
    retry_after: float | None


@dataclass(frozen=True)
class Ran:
    """How a snippet went. `value`: of its last statement; `printed`: the arguments of each print."""

    value: Any  # decoded JSON
    printed: list[list[Any]]  # as above
    error: Raised | None


@dataclass(frozen=True)
class Flat:
    process: asyncio.subprocess.Process

    async def ran(self, code: str, names: Mapping[str, object] | None = None, prints: int | None = None) -> Ran:
        """`names`: what the snippet finds beside `fabric` and `FabricClient`. `prints`: it is ended after so many."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        asked = {"code": code, "names": names or {}, "prints": prints}
        self.process.stdin.write(json.dumps(asked).encode() + b"\n")
        async with asyncio.timeout(BOUND_S):
            told = json.loads(await self.process.stdout.readline())
        error = told["error"]
        return Ran(told["value"], told["printed"], None if error is None else Raised(**error))

    async def value(self, code: str, **names: object) -> Any:
        """What the snippet comes to."""
        ran = await self.ran(code, names)
        assert ran.error is None, (code, ran.error)
        return ran.value

    async def raised(self, code: str, **names: object) -> Raised:
        """What the snippet raises."""
        ran = await self.ran(code, names)
        assert ran.error is not None, (code, ran.value)
        return ran.error


@asynccontextmanager
async def flat_client(base_url: str, organization_id: str) -> AsyncIterator[Flat]:
    if not PYTHON.exists():
        pytest.fail(f"there is no {PYTHON.relative_to(ROOT)}: run scripts/setup dev, which makes it")
    process = await asyncio.create_subprocess_exec(
        PYTHON,
        RUNNER,
        base_url,
        organization_id,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES,
    )
    try:
        yield Flat(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(BOUND_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            raise
