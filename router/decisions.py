"""What the audit log keeps of routing: every call that leaves the box and why it went there, and every request that must
not leave the box, with the places that were not asked for that.

Not about the decision itself (routing.py). Work that could go nowhere else leaves no row: it is not slowed by this.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from protos.errors import FabricError, NoProvider
from protos.types import OrganizationId
from providers.base import Snapshot
from router.candidates import Candidate
from router.routing import BOXED, Route, RoutingRequest, order
from router.store import audit
from router.store.audit import Deed
from router.store.base import Records

log = logging.getLogger(__name__)

_DETAIL_CHARS: Final = 1000  # of one row
_FINISH_S: Final = 5.0  # for rows that are being written when the router ends
_TOLD: Final = 10_000  # requests whose row is known to be there: one that waits is routed again every second


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Whose request it is. `resource_id`: the job's id, or the task's."""

    organization_id: OrganizationId
    key_id: str | None
    resource_id: str
    is_job: bool


def leaving(asker: Asker, candidate: Candidate) -> Deed | None:
    """Of a call that is about to be made; None: it stays on the box. Pure."""
    if not candidate.is_remote:
        return None
    told = f"leaves the box: {candidate.provider_id} {candidate.reason}"
    return _deed(asker, "success", told)


def staying(asker: Asker, taken: Candidate | None, skipped: Sequence[tuple[str, str]]) -> Deed | None:
    """Of a request that may be local_only; None: no place was ruled out by that. skipped: (place, reason). taken: None:
    nobody can have it. Pure."""
    away = [place for place, reason in skipped if reason == BOXED]
    if not away:
        return None
    where = f"{taken.provider_id} {taken.reason}" if taken else "no place on it can have it now"
    told = f"local_only stays on the box: {where}; not asked, as they are remote: {', '.join(away)}"
    return _deed(asker, "success" if taken else "denied", told)


def _deed(asker: Asker, outcome: str, detail: str) -> Deed:
    return Deed(
        organization_id=asker.organization_id,
        actor=asker.key_id or "router",
        action="job.route" if asker.is_job else "call.route",
        resource_id=asker.resource_id,
        outcome=outcome,
        detail=detail[:_DETAIL_CHARS],
    )


class Decisions:
    """Writes them behind the request that they are about. One event loop."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._told: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._writing: set[asyncio.Task[None]] = set()

    def route(self, request: RoutingRequest, snapshots: Sequence[Snapshot], asker: Asker) -> Route:
        """As `order` decides and raises; of a local_only request it is told."""
        if request.privacy != "local_only":
            return order(request, snapshots)
        try:
            route = order(request, snapshots)
        except NoProvider as error:
            told: Any = error.details.get("skipped", ())  # Any: as a client gets it
            self._tell(staying(asker, None, [(each["provider_id"], each["reason"]) for each in told]))
            raise
        self._tell(staying(asker, route.candidates[0], [(each.provider_id, each.reason) for each in route.skipped]))
        return route

    async def close(self) -> None:
        """Waits for what is being written."""
        if self._writing:
            await asyncio.wait(self._writing, timeout=_FINISH_S)

    def _tell(self, deed: Deed | None) -> None:
        """Once for each outcome of a request: one that waits is routed again and again."""
        if deed is None or (key := (deed.resource_id or "", deed.outcome)) in self._told:
            return
        self._told[key] = None
        if len(self._told) > _TOLD:
            self._told.popitem(last=False)
        writing = asyncio.create_task(self._write(deed), name="audit")
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)

    async def _write(self, deed: Deed) -> None:
        try:
            await self._records.change(lambda connection, now: audit.record(connection, now, deed))
        except FabricError:
            log.exception("where %s went could not be written to the audit log", deed.resource_id)
