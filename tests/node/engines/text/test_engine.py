"""The text engine over a tiny real Llama: batched equals alone, whoever comes and goes."""

import random
from typing import Any

import pytest
import torch
from tiny import CPU, greedy, spec_of

from node.engine import Engine
from node.engines.text import load
from node.scheduler.costs import StepCosts
from protos.errors import Internal
from protos.types import TaskId, TextRequest, TextResult


def mixed_request(choice: random.Random) -> TextRequest:
    length = choice.randrange(1, 50)
    return TextRequest(
        prompt="".join(choice.choices("abc xyz", k=length)) + "!",
        temperature=choice.choice([0.0, 0.7, 1.3]),
        top_p=choice.choice([1.0, 0.8]),
        top_k=choice.choice([0, 20]),
        repetition_penalty=choice.choice([1.0, 1.2]),
        max_tokens=choice.randrange(1, 24),
        seed=choice.randrange(1 << 40),
        stop=choice.choice([(), ("a", "Zq")]),
    )


@pytest.mark.parametrize("seed", range(4))
def test_batched_equals_alone_while_others_come_leave_and_are_cancelled(desk: Any, seed: int) -> None:
    choice = random.Random(seed)
    requests = {f"t{seed}-{i}": mixed_request(choice) for i in range(14)}
    cancelled = {name for name in requests if choice.random() < 0.2}
    waiting = list(requests)
    while waiting or desk.engine.seated:
        while waiting and choice.random() < 0.6 and desk.admit(waiting[0], requests[waiting[0]]):
            waiting.pop(0)
        if desk.engine.seated:
            desk.step(choice.choice([None, None, 1e-9]))
        for name in cancelled - set(waiting):
            if choice.random() < 0.3:
                desk.engine.cancel(TaskId(name))
    kept = [name for name in requests if name in desk.done]
    assert set(requests) - cancelled <= set(kept)
    together = dict(desk.done)
    for name in kept:
        assert desk.alone(f"alone-{name}", requests[name]) == together[name]
        assert "".join(desk.deltas.get(name, [])) == together[name].text


def test_a_prompt_in_chunks_answers_as_one_in_a_piece(desk: Any, llama_path: str) -> None:
    request = TextRequest(
        prompt="a prompt of many more tokens than a step has, as it happens", temperature=0.0, max_tokens=20
    )
    whole = load(spec_of(llama_path, step_tokens=512), CPU)
    desk_type = type(desk)
    in_a_piece = desk_type(whole)
    assert in_a_piece.alone("whole", request) == desk.alone("chunks", request)
    assert in_a_piece.sizes[0] > 16 >= max(desk.sizes)


def test_a_full_batch_has_no_room_until_someone_leaves(desk: Any) -> None:
    assert [desk.admit(f"r{i}", greedy("hi", 3 + i)) for i in range(5)] == [True] * 4 + [False]
    desk.engine.cancel(TaskId("r2"))
    assert desk.engine.seated == 3
    assert desk.admit("late", greedy("hi", 2))
    desk.run()
    assert set(desk.done) == {"r0", "r1", "r3", "late"}


def test_a_cancelled_task_is_in_no_later_step(desk: Any) -> None:
    for name in ("goes", "stays"):
        desk.admit(name, greedy(name, 6))
    desk.step()
    desk.engine.cancel(TaskId("goes"))
    while desk.engine.seated:
        assert set(desk.step()) == {"stays"}
    assert desk.done.keys() == {"stays"}


def test_cancelling_who_has_no_seat_does_nothing(desk: Any) -> None:
    desk.admit("here", greedy("hi", 2))
    desk.engine.cancel(TaskId("nobody"))
    assert desk.engine.seated == 1
    desk.run()


def taught() -> StepCosts:
    """A step of n tokens takes n seconds."""
    costs = StepCosts()
    for units in (1, 100):
        costs.observe(units, float(units))
    return costs


def test_a_step_is_as_large_as_its_quantum_allows(desk: Any, llama_path: str) -> None:
    request = greedy("ask " * 12, 4)
    bounded = type(desk)(load(spec_of(llama_path, step_tokens=64), CPU))
    bounded.admit("asked", request)
    for quantum_s in (11.5, 1.5, None):
        bounded.engine._costs = taught()
        bounded.step(quantum_s)
    assert bounded.sizes == [11, 8, 52 - 11 - 8 + 1]
    bounded.run()
    assert bounded.done["asked"] == desk.alone("again", request)


def test_a_seed_gives_the_same_answer_and_another_seed_another(desk: Any) -> None:
    texts = [
        desk.alone(f"s{i}", TextRequest(prompt="tell", max_tokens=20, seed=seed)).text
        for i, seed in enumerate([5, 5, 6, -3, 1 << 70])
    ]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 4


def test_without_a_seed_answers_differ(desk: Any) -> None:
    request = TextRequest(prompt="tell", max_tokens=20)
    assert desk.alone("one", request) != desk.alone("two", request)


def test_a_stop_string_over_several_tokens_ends_the_answer_before_it(desk: Any) -> None:
    full = desk.alone("full", greedy("stop test", 30)).text
    stop = full[9:13]
    cut = full.index(stop)
    result = desk.alone("cut", greedy("stop test", 30, stop=(stop,)))
    assert result == TextResult(full[:cut], "stop")
    assert "".join(desk.deltas["cut"]) == full[:cut]
    assert desk.usage["cut"].output_tokens == cut + 4


def test_the_end_token_ends_the_answer_and_is_not_shown(desk: Any, llama_path: str) -> None:
    full = desk.alone("full", greedy("end test", 30)).text
    engine = load(spec_of(llama_path), CPU)
    last = engine._reader._backend.token_to_id(full[7])
    engine._end_tokens = frozenset({last})
    found = type(desk)(engine).alone("end", greedy("end test", 30))
    assert found == TextResult(full[: full.index(full[7])], "stop")


def test_max_tokens_ends_with_length_and_counts(desk: Any) -> None:
    result = desk.alone("count", greedy("abc", 7))
    assert result.finish_reason == "length"
    assert len(result.text) == desk.usage["count"].output_tokens == 7
    assert desk.usage["count"].input_tokens == len("u:abc\na:")


def test_a_poisoned_request_fails_alone_and_leaves_no_trace(desk: Any) -> None:
    expected = [desk.alone(f"fine{i}", greedy(f"fine {i}", 12)) for i in range(2)]
    for name in ("mate0", "bad", "mate1"):
        desk.admit(name, greedy(f"fine {name[-1]}" if name != "bad" else "spoilt", 12))
    while desk.engine._seats[1].pending > 1:
        desk.step()
    desk.engine._pool._values[0][1, :, 0] = float("nan")
    desk.run()
    assert [desk.done["mate0"], desk.done["mate1"]] == expected
    assert isinstance(desk.failed["bad"], Internal)
    assert all(torch.isfinite(tensor).all() for tensor in desk.engine._pool._values)


def test_a_step_that_the_device_fails_can_be_tried_again(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    request = TextRequest(prompt="once more", max_tokens=12, seed=3)
    expected = desk.alone("expected", request)
    desk.admit("again", request)
    desk.step()
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.functional, "silu", _raise)
        with pytest.raises(torch.OutOfMemoryError):
            desk.step()
    assert desk.engine.seated == 1
    desk.run()
    assert desk.done["again"] == expected


def _raise(*_: object, **__: object) -> None:
    raise torch.OutOfMemoryError("no memory left")


def test_warming_up_teaches_the_cost_and_changes_no_answer(llama_path: str, desk: Any) -> None:
    engine = load(spec_of(llama_path, step_tokens=16), CPU)
    fresh = type(desk)(engine)
    assert fresh.prepare("before", greedy("hi")).expected_s == 0
    engine.warm_up()
    assert fresh.prepare("after", greedy("hi")).expected_s > 0
    assert fresh.alone("warm", greedy("hi")) == desk.alone("cold", greedy("hi"))


def test_held_bytes_are_the_weights_and_the_cache(desk: Any) -> None:
    engine: Engine = desk.engine
    cache = 2 * 2 * 4 * 96 * 2 * 8 * 4  # keys and values, layers, seats, context, heads, dim, bytes
    weights = sum(p.numel() * 4 for p in engine._model.module.parameters())
    assert cache + weights <= engine.held_bytes() <= cache + weights + 1024
