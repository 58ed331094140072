"""Who may be asked next when a place has failed a task: a pure decision.

Not about the order of the places (routing.py), nor about a later attempt at the same job (retries.py).
"""

from collections.abc import Sequence
from typing import Final

from protos.errors import Code, FabricError
from router.candidates import Candidate

# Not retryable at the place that said so, and yet no fault of the request: another may have the model or the memory for
# it, or cost less.
_ELSEWHERE: Final = frozenset({Code.MODEL_NOT_FOUND, Code.QUOTA_EXCEEDED, Code.DOES_NOT_FIT})

# Said by a free place that will have room again: a task waits for that, nobody is paid for it unasked.
_WAITS: Final = frozenset({Code.OVERLOADED, Code.DRAINING, Code.RATE_LIMITED})


def after_failure(
    error: FabricError, by: Candidate, rest: Sequence[Candidate], *, has_output: bool
) -> Sequence[Candidate]:
    """Those of `rest` that may have the task now, in the same order; none: the error stands.

    has_output: the caller has seen some of the answer, and another's would not go on from there.
    """
    if has_output or not (error.retryable or error.code in _ELSEWHERE or _is_refused_here(error, by)):
        return ()
    if (by.is_paid and error.may_have_run) or (not by.is_paid and error.code in _WAITS):
        return tuple(candidate for candidate in rest if not candidate.is_paid)
    return rest


def _is_refused_here(error: FabricError, by: Candidate) -> bool:
    """A model of this box that cannot take the request, such as a prompt beyond its context: another may. What a vendor
    does not take is not offered to the next one, which would be paid for an answer."""
    return error.code is Code.INPUT_VALIDATION_FAILED and not by.is_paid and not error.may_have_run
