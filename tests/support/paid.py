"""Attempts that cost something, for tests of money."""

import itertools
from typing import Any

from protos.types import Modality, ModelId, OrganizationId, ProviderId
from router.spending import AttemptInfo, Outcome, Payer, Quote, Spent

_numbers = itertools.count()


def an_attempt(
    organization: str = "org-1", bound: int = 0, **changes: Any
) -> AttemptInfo:  # Any: fields differ in type
    fields: dict[str, Any] = {  # Any: as above
        "attempt_id": f"attempt-{next(_numbers)}",
        "payer": Payer(organization_id=OrganizationId(organization)),
        "job_id": None,
        "provider_id": ProviderId("vendor"),
        "model": ModelId("big"),
        "modality": Modality.TEXT,
        "quote": Quote(estimated_micro=bound // 2, bound_micro=bound),
    }
    return AttemptInfo(**(fields | changes))


def spent(attempt: AttemptInfo, cost_micro: int = 0, **changes: Any) -> Spent:  # Any: fields differ in type
    return Spent(**({"attempt": attempt, "outcome": Outcome.COMPLETED, "cost_micro": cost_micro} | changes))
