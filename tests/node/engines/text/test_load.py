"""What cannot be loaded is refused with the reason and the way out."""

import gc
import shutil
from pathlib import Path

import pytest
from tiny import CPU, Desk, greedy, spec_of

from node.engines.text import load
from protos.errors import DoesNotFit, LoadFailed


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match=r"tiny could not be read from .*nowhere"):
        load(spec_of(str(tmp_path / "nowhere")), CPU)


def test_broken_weights_are_named(tmp_path: Path, llama_path: str) -> None:
    shutil.copytree(llama_path, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(LoadFailed, match="tiny could not be read"):
        load(spec_of(str(tmp_path)), CPU)


def test_a_missing_tokenizer_is_named(tmp_path: Path, llama_path: str) -> None:
    shutil.copytree(llama_path, tmp_path, dirs_exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    with pytest.raises(LoadFailed, match="tokenizer"):
        load(spec_of(str(tmp_path)), CPU)


def test_more_context_than_the_model_has_is_refused(llama_path: str) -> None:
    with pytest.raises(LoadFailed, match="context_tokens of tiny is 500 and the model was made for 96"):
        load(spec_of(llama_path, context_tokens=500), CPU)


def test_less_context_than_the_model_has_is_taken(llama_path: str) -> None:
    assert load(spec_of(llama_path, context_tokens=32), CPU).context_tokens == 32


def test_more_seats_than_memory_are_refused_with_the_numbers(llama_path: str) -> None:
    with pytest.raises(DoesNotFit, match=r"1000000000000 seats of 96 tokens needs \d+"):
        load(spec_of(llama_path, seats=10**12), CPU)


def test_a_closed_engine_holds_no_weights(llama_path: str) -> None:
    engine = load(spec_of(llama_path), CPU)
    engine.close()
    assert all(parameter.is_meta for parameter in engine._model.module.parameters())


def test_closing_does_not_stop_for_the_garbage_collector(llama_path: str) -> None:
    """It would stand still for seconds, and the device loop with it."""
    engine = load(spec_of(llama_path), CPU)
    collections: list[str] = []
    gc.callbacks.append(lambda phase, _: collections.append(phase))
    gc.disable()
    try:
        engine.close()
    finally:
        gc.enable()
        gc.callbacks.pop()
    assert collections == []


def test_half_the_bytes_in_bfloat16(llama_path: str) -> None:
    full, half = load(spec_of(llama_path), CPU), load(spec_of(llama_path, dtype="bfloat16"), CPU)
    desk = Desk(half)
    assert half.held_bytes() < 0.51 * full.held_bytes()
    assert len(desk.alone("half", greedy("hello", 8)).text) == 8
