"""Which places should end a task before its deadline: those go first, also when they are paid. Pure.

A task gets here only with places that its privacy and its max_cost_usd allow (routing.py).
"""

from collections.abc import Sequence

from router.candidates import Candidate


def in_time_first(
    candidates: Sequence[Candidate], etas_s: Sequence[float | None], left_s: float
) -> Sequence[Candidate]:
    """The candidates, those that should be late behind the others; each part in its own order. As they were when all
    should be late: then money buys nothing. etas_s: of each until the end; None: not known, and taken to be in time."""
    late = [eta_s is not None and eta_s > left_s for eta_s in etas_s]
    if all(late) or not any(late):
        return candidates
    judged = list(zip(candidates, etas_s, late, strict=True))
    in_time = [candidate for candidate, _, is_late in judged if not is_late]
    behind = [_told(candidate, eta_s, left_s) for candidate, eta_s, is_late in judged if is_late]
    return [*in_time, *behind]


def _told(candidate: Candidate, eta_s: float | None, left_s: float) -> Candidate:
    why = f"; should end in {eta_s or 0.0:.1f} s, and the deadline is in {max(left_s, 0.0):.1f} s"
    return candidate._replace(why=candidate.reason + why)
