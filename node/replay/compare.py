"""A trace as it was and with what is to be changed, played and compared."""

from node.replay.plan import Changes, planned
from node.replay.reading import Trace
from node.replay.report import Report, reported
from node.replay.run import played


def compared(trace: Trace, changes: Changes) -> Report:
    """Raises InputInvalid for changes that do not go with the trace, DoesNotFit for a model that never can be loaded."""
    plan = planned(trace, changes)
    is_changed = changes != Changes(seed=changes.seed)
    before = played(planned(trace, Changes())) if is_changed else None
    return reported(plan, played(plan), before)
