"""What was measured survives a restart."""

from dataclasses import replace
from pathlib import Path

import pytest

from node.engine import DeviceSpec, ModelSpec
from node.memory.measured import Measured, Memories, key_of
from protos.types import Modality, ModelId

SPEC = ModelSpec(id=ModelId("m"), engine="text", modality=Modality.TEXT, path="/m", file_bytes=10)
CPU = DeviceSpec("cpu")


def test_a_peak_is_remembered_across_restarts(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "measured.json"
    Memories(path).remember("k", Measured(123, 4.5))
    assert Memories(path).recall("k") == Measured(123, 4.5)
    assert [file.name for file in path.parent.iterdir()] == ["measured.json"]


def test_nothing_is_known_at_first(tmp_path: Path) -> None:
    assert Memories(tmp_path / "measured.json").recall("k") is None


@pytest.mark.parametrize("text", ["", "[]", '{"k": 3}', '{"k": {"peak_bytes": "x", "load_s": 1}}'])
def test_an_unreadable_file_means_measuring_anew(tmp_path: Path, text: str) -> None:
    path = tmp_path / "measured.json"
    path.write_text(text)
    assert Memories(path).recall("k") is None


@pytest.mark.parametrize(
    "change",
    [
        {"path": "/n"},
        {"file_bytes": 11},
        {"dtype": "bfloat16"},
        {"seats": 3},
        {"step_tokens": 7},
        {"context_tokens": 9},
    ],
)
def test_another_shape_is_another_measure(change: dict[str, object]) -> None:
    assert key_of(replace(SPEC, **change), CPU) != key_of(SPEC, CPU)  # type: ignore[arg-type]
    assert key_of(SPEC, DeviceSpec("cuda")) != key_of(SPEC, CPU)
