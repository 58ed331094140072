"""Who is put aside, and who is found guilty."""

from hypothesis import given
from hypothesis import strategies as st

from node.scheduler.blame import Suspect, judge
from protos.types import TaskId

SEATED = st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=20).map(
    lambda rows: [
        Suspect(TaskId(f"t{i}"), steps, has_output and steps > 0) for i, (steps, has_output) in enumerate(rows)
    ]
)


@given(SEATED)
def test_each_verdict_makes_the_next_batch_smaller(seated: list[Suspect]) -> None:
    verdict = judge(seated)
    assert len(verdict.aside) + len(verdict.guilty) > 0


@given(SEATED)
def test_who_has_shown_output_is_never_put_aside(seated: list[Suspect]) -> None:
    streamed = {s.task_id for s in seated if s.has_output}
    assert not streamed & set(judge(seated).aside)


def test_newcomers_are_suspected_first() -> None:
    old, new = Suspect(TaskId("old"), 5, has_output=False), Suspect(TaskId("new"), 0, has_output=False)
    assert judge([old, new]).guilty == ["new"]


def test_when_all_have_streamed_nobody_can_be_told_apart() -> None:
    seated = [Suspect(TaskId(name), 3, has_output=True) for name in "ab"]
    assert judge(seated).guilty == ["a", "b"]
