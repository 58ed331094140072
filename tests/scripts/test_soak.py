"""The short form of the soak, with the fake engines; and what it finds wrong."""

from pathlib import Path

import pytest

from protos.errors import Cancelled, InputInvalid, Internal
from protos.types import ModelId, TextRequest
from scripts.soaking.mix import Caller, Plan
from scripts.soaking.soak import soak
from scripts.soaking.tally import Answer, Memory, Tally, judged

ROOT = Path(__file__).parents[2]
LEAST = 12  # requests of each caller in each of six parts, however long they take
FAKES = "".join(
    f'[[model]]\nid = "{modality}"\nengine = "{engine}"\nmodality = "{modality}"\nseats = 2\n'
    for modality, engine in {"text": "fake", "embedding": "fake", "image": "fake", "audio": "fake-beside"}.items()
)


async def test_mixed_load_ends_every_request_once_and_leaks_nothing(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(FAKES)
    tally, faults = await soak(tmp_path / "models.toml", 0.0, growth_limit_mib=16.0, seed=1, least=LEAST)
    assert faults == []
    assert set(tally.outcomes) == {"text", "embedding", "image", "audio"}
    assert all(counts["finished"] and counts["refused"] for counts in tally.outcomes.values())
    assert sum(counts["cancelled"] for counts in tally.outcomes.values()) > 0
    assert sum(counts["left"] for counts in tally.outcomes.values()) > 0


async def test_steps_that_throw_fail_the_poison_alone_and_leak_nothing(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(FAKES)
    tally, faults = await soak(
        tmp_path / "models.toml", 0.0, growth_limit_mib=16.0, seed=2, least=LEAST, has_faults=True
    )
    assert faults == []
    assert sum(counts["poisoned"] for counts in tally.outcomes.values()) > 0
    assert all(counts["finished"] > 10 * counts["broken"] for counts in tally.outcomes.values())


@pytest.mark.long
async def test_a_minute_of_all_the_models_that_ship_with_faults_in_each() -> None:
    tally, faults = await soak(ROOT / "models.toml", 60.0, growth_limit_mib=48.0, seed=3, has_faults=True)
    assert faults == []
    assert len(tally.throws) == 4


def plan(*, is_bad: bool = False, caller: Caller = "reads", is_poison: bool = False) -> Plan:
    return Plan(TextRequest(prompt="a"), is_bad=is_bad, caller=caller, after_events=1, is_poison=is_poison)


def test_each_end_that_a_caller_may_get_is_right_for_it_alone() -> None:
    invalid, cancelled, broken = InputInvalid.at("prompt", "is empty"), Cancelled("by request"), Internal("a bug")
    assert judged(plan(), 1, None).outcome == "finished"
    assert judged(plan(is_bad=True), 0, invalid).outcome == "refused"
    assert judged(plan(caller="cancels"), 0, cancelled).outcome == "cancelled"
    assert judged(plan(caller="cancels"), 1, None).outcome == "finished"  # it was quicker
    wrong = [
        judged(plan(), 0, None),
        judged(plan(), 2, None),
        judged(plan(), 0, broken),
        judged(plan(), 0, invalid),
        judged(plan(), 1, cancelled),
        judged(plan(), 0, cancelled),
        judged(plan(is_bad=True), 1, None),
    ]
    assert {answer.outcome for answer in wrong} == {"wrong"}
    assert judged(plan(is_poison=True), 0, broken, has_faults=True).outcome == "poisoned"
    assert judged(plan(), 0, broken, has_faults=True).outcome == "broken"
    assert judged(plan(is_poison=True), 1, None, has_faults=True).outcome == "wrong"
    assert judged(plan(), 1, broken, has_faults=True).outcome == "wrong"


def test_growth_and_wrong_answers_are_faults() -> None:
    allocated_mib, resident_mib = (100.0, 101.0, 110.0, 121.0, 125.0), (200.0, 230.0, 210.0, 245.0, 205.0)
    looks = [Memory(at_s, *mib) for at_s, mib in enumerate(zip(allocated_mib, resident_mib, strict=True))]
    tally = Tally(memory=looks)
    tally.add(ModelId("m"), Answer("finished"), 0.1)
    assert tally.faults(growth_limit_mib=16.0) == ["the allocator holds 20.0 MiB more than after the warm-up"]
    tally.add(ModelId("m"), Answer("wrong", "two results"), 0.1)
    tally.add(ModelId("silent"), Answer("refused"), 0.1)
    assert tally.faults(growth_limit_mib=30.0) == ["m: two results", "no request of silent finished"]
