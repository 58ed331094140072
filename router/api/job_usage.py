"""What a job has used and cost, all its attempts together and each alone; wire.md's usage of a job.

Not about an organization's usage (usage.py).
"""

from collections.abc import Sequence

from pydantic import Field

from protos.types import Usage
from router.api.usage import Counts, UsageRecord
from router.jobs import Job
from router.spending import CURRENCY, usd
from router.store.usage import Record
from router.tasks import usage_json


class JobUsage(Counts):
    """The counts are of the attempt that gave the result; all 0 while there is none. The cost is of all attempts."""

    job_id: str
    provider_id: str | None
    model: str | None
    estimated_cost_usd: float = Field(description="of the last attempt, as it was estimated before it")
    currency: str
    eta_s: float | None = Field(description="how long the last attempt was expected to take, when it was sent")
    took_s: float | None = Field(description="how long it took")
    attempts: list[UsageRecord] = Field(description="in the order in which they ended")

    @classmethod
    def of(cls, job: Job, records: Sequence[Record]) -> "JobUsage":
        last = records[-1] if records else None
        cost_micro = sum(record.cost_micro for record in records)
        return cls(
            job_id=job.id,
            provider_id=job.provider_id,
            model=job.model,
            **usage_json(job.usage or Usage()),
            estimated_cost_usd=usd(last.estimated_cost_micro) if last else 0.0,
            cost_usd=usd(cost_micro),
            cost_micro=cost_micro,
            currency=CURRENCY,
            eta_s=last.eta_s if last else None,
            took_s=last.took_s if last else None,
            attempts=[UsageRecord.of(record) for record in records],
        )
