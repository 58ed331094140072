"""Recorded decoding steps: what they give, what they touch, and what becomes of a model that cannot be recorded."""

import logging
import random
from collections.abc import Callable

import pytest
import torch
from company import check_answers, requests
from host_recorder import HostRecorder
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from reference_varlen import reference_varlen
from tiny import Desk, build, greedy, llama_config, spec_of

from node.engine import Engine
from node.engines.text.attention import Chunk
from node.engines.text.graphs import Graphs
from node.engines.text.kv import TokenPool
from node.engines.text.load import around
from node.engines.text.model import TextModel, prove
from node.engines.text.path import row_counts
from protos.types import TextRequest

CPU = torch.device("cpu")
CONTEXT = 32
SEATS = 6


@pytest.fixture(scope="module")
def model() -> TextModel:
    return prove("tiny", build(llama_config()), CPU, reference_varlen)


@pytest.fixture
def pool(model: TextModel) -> TokenPool:
    """With something in every slot."""
    pool = model.new_pool(SEATS, CONTEXT)
    torch.manual_seed(1)
    for tensor in (*pool._keys, *pool._values):
        tensor.normal_()
    return pool


@pytest.fixture
def graphs(model: TextModel, pool: TokenPool) -> Graphs:
    with torch.inference_mode():
        return Graphs(model, pool, HostRecorder(), row_counts(SEATS, CONTEXT))


@torch.inference_mode()
def spoil(graphs: Graphs) -> None:
    """No token, position or slot is this large: a step that reads what the last one left fails."""
    for buffer in (graphs._ids, graphs._positions, graphs._slots, graphs._begins):
        buffer.fill_(1 << 40)


def test_steps_are_recorded_for_powers_of_two_and_for_all_seats() -> None:
    assert row_counts(16, 96) == [1, 2, 4, 8, 16]
    assert row_counts(12, 96) == [1, 2, 4, 8, 12]
    assert row_counts(1, 96) == [1]
    assert row_counts(64, 5) == [1, 2, 4, 5]  # a slot has no more padding rows


@torch.inference_mode()
def test_a_replay_gives_the_logits_of_the_plain_step_whatever_came_before(
    model: TextModel, pool: TokenPool, graphs: Graphs
) -> None:
    choice = random.Random(5)
    for _ in range(20):
        slots = sorted(choice.sample(range(SEATS), choice.randrange(1, SEATS + 1)))
        chunks = [Chunk(slot, choice.randrange(CONTEXT), 1) for slot in slots]
        ids = torch.tensor([choice.randrange(model.vocabulary) for _ in slots])
        rows = choice.choice([range(len(slots)), [choice.randrange(len(slots)) for _ in range(3)]])
        spoil(graphs)
        found = graphs.run(ids, chunks, pool, rows)
        assert torch.allclose(found, model.run(ids, chunks, pool, rows), atol=1e-5)


@torch.inference_mode()
def test_padding_writes_to_the_scratch_slot_alone(pool: TokenPool, graphs: Graphs) -> None:
    chunks = [Chunk(slot, 3 + slot, 1) for slot in (0, 2, 5)]  # replayed as four rows
    for tensor in (*pool._keys, *pool._values):
        tensor.normal_()
    before = [tensor.clone() for tensor in (*pool._keys, *pool._values)]
    graphs.run(torch.tensor([1, 2, 3]), chunks, pool, range(3))
    written = {chunk.slot * CONTEXT + chunk.start for chunk in chunks} | {pool.scratch * CONTEXT}
    for tensor, old in zip((*pool._keys, *pool._values), before, strict=True):
        changed = (tensor != old).flatten(1).any(1).nonzero()[:, 0].tolist()
        assert set(changed) == written


@torch.inference_mode()
def test_what_the_scratch_slot_holds_changes_no_answer(pool: TokenPool, graphs: Graphs) -> None:
    chunks = [Chunk(slot, 9, 1) for slot in (0, 1, 4)]
    ids = torch.tensor([1, 2, 3])
    before = graphs.run(ids, chunks, pool, range(3)).clone()
    for tensor in (*pool._keys, *pool._values):
        tensor[pool.scratch * CONTEXT :] = float("nan")
    assert torch.equal(graphs.run(ids, chunks, pool, range(3)), before)


# ---- the engine over them ----


def engine_over(path: str, recorder: HostRecorder) -> Engine:
    return around(prove("tiny", build(llama_config()), CPU, reference_varlen), spec_of(path, step_tokens=16), recorder)


def test_an_engine_replays_its_decoding_steps_and_answers_as_ever(llama_path: str, desk: Desk) -> None:
    recorder = HostRecorder()
    engine = engine_over(llama_path, recorder)
    engine.warm_up()
    over, before = Desk(engine), recorder.replays
    for name in ("one", "two", "three"):
        assert over.admit(name, greedy(f"say {name}", 12))
    while over.engine.seated:
        over.step()
        spoil(engine._compute._graphs)
    assert recorder.replays - before == sum(size <= 3 for size in over.sizes) >= 11
    assert over.done == {name: desk.alone(name, greedy(f"say {name}", 12)) for name in over.done}


def test_an_engine_is_not_recorded_before_it_is_warm(llama_path: str) -> None:
    recorder = HostRecorder()
    over = Desk(engine_over(llama_path, recorder))
    assert len(over.alone("cold", greedy("hello", 8)).text) == 8
    assert recorder.replays == 0


def test_what_the_graphs_hold_is_held_by_the_model(llama_path: str) -> None:
    recorder = HostRecorder()
    engine = engine_over(llama_path, recorder)
    engine.warm_up()
    before = engine.held_bytes()
    recorder.bytes = 4096
    assert engine.held_bytes() == before + 4096


class WrongRecorder(HostRecorder):
    """Always gives what the first step gave: as if a buffer were not read at its place."""

    def record(self, compute: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        first = compute().clone()
        return lambda: first


class RefusingRecorder(HostRecorder):
    def record(self, compute: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:  # noqa: ARG002
        raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.parametrize(
    ("recorder", "why"),
    [(WrongRecorder(), "logits that differ"), (RefusingRecorder(), "not permitted when stream is capturing")],
    ids=["wrong", "refused"],
)
def test_a_model_that_cannot_be_recorded_decodes_without(
    llama_path: str, desk: Desk, recorder: HostRecorder, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = engine_over(llama_path, recorder)
    with caplog.at_level(logging.WARNING, "node.engines.text.compute"):
        engine.warm_up()
    assert "model tiny decodes without graphs" in caplog.text
    assert why in caplog.text
    assert Desk(engine).alone("plain", greedy("hello", 8)) == desk.alone("other", greedy("hello", 8))


@pytest.fixture(scope="module")
def recorded_engine(llama_path: str) -> Engine:
    engine = engine_over(llama_path, HostRecorder())
    engine.warm_up()
    return engine


@settings(max_examples=6, phases=(Phase.reuse, Phase.generate))
@given(st.lists(requests, min_size=2, max_size=7), st.integers(0, 1 << 32))
def test_no_company_changes_an_answer_of_recorded_steps(
    recorded_engine: Engine, llama_engine: Engine, asked: list[TextRequest], chances: int
) -> None:
    check_answers(recorded_engine, asked, chances, llama_engine)
