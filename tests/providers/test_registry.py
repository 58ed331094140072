"""The providers of a router by id, started and closed together."""

import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from protos.errors import NotFound
from protos.types import Estimate, ProviderId, Task, TaskEvent, TaskId
from providers.base import Snapshot
from providers.echo import Echo
from providers.registry import ProviderRegistry, configured
from providers.settings import CompatibleServer, ProviderSettings


class Recorded:
    """Echo under another id, that writes down its life."""

    def __init__(self, id_: str, life: list[str], *, breaks: bool = False) -> None:
        self.id = ProviderId(id_)
        self._inner, self._life, self._breaks = Echo(), life, breaks

    def snapshot(self) -> Snapshot:
        return self._inner.snapshot()

    def run(self, task: Task) -> AsyncIterator[TaskEvent]:
        return self._inner.run(task)

    async def cancel(self, task_id: TaskId) -> None:
        await self._inner.cancel(task_id)

    async def estimate(self, task: Task) -> Estimate:
        return await self._inner.estimate(task)

    async def start(self) -> None:
        if self._breaks:
            raise ConnectionError(self.id)
        self._life.append(f"start {self.id}")

    async def close(self) -> None:
        self._life.append(f"close {self.id}")


async def test_they_start_in_order_and_close_in_reverse() -> None:
    life: list[str] = []
    registry = ProviderRegistry([Recorded("a", life), Recorded("b", life)])
    await registry.start()
    await registry.close()
    assert life == ["start a", "start b", "close b", "close a"]


async def test_one_that_cannot_start_closes_those_before_it() -> None:
    life: list[str] = []
    registry = ProviderRegistry([Recorded("a", life), Recorded("b", life, breaks=True)])
    with pytest.raises(ConnectionError):
        await registry.start()
    assert life == ["start a", "close a"]


def test_an_unknown_id_names_the_known_ones() -> None:
    with pytest.raises(NotFound, match="no provider 'openai': there are echo"):
        ProviderRegistry([Echo()]).get(ProviderId("openai"))


def test_two_of_the_same_id_are_refused() -> None:
    with pytest.raises(ValueError, match="the same id: echo, echo"):
        ProviderRegistry([Echo(), Echo()])


def test_a_router_has_its_nodes_first_and_echo_last() -> None:
    providers = configured(ProviderSettings(nodes=("127.0.0.1:1", "127.0.0.1:2")), lambda: None)
    assert [provider.id for provider in providers] == ["node", "node-2", "echo"]


def test_each_vendor_is_switched_on_by_its_key_and_servers_by_their_names() -> None:
    settings = ProviderSettings(
        openai_api_key="sk-1",
        anthropic_api_key="sk-2",
        compatible=(CompatibleServer(name="vllm", url="http://127.0.0.1:1/v1"),),
    )
    assert [provider.id for provider in configured(settings, lambda: None)] == ["vllm", "openai", "anthropic", "echo"]


def test_organizations_that_bring_their_own_keys_need_none_of_ours() -> None:
    providers = configured(ProviderSettings(organization_keys=True), lambda: None)
    assert [provider.id for provider in providers] == ["openai", "anthropic", "echo"]


def test_no_vendor_s_library_is_imported_before_one_is_started() -> None:
    script = (
        "import sys; from providers.registry import configured; from providers.settings import CompatibleServer, ProviderSettings; "
        "configured(ProviderSettings(organization_keys=True), lambda: None); "
        "print(sorted({'openai', 'anthropic', 'httpx2'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
