"""Folders that cannot be loaded say why; a folder may say what requests get that say nothing."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny
from tiny import CPU

from node.engine import DeviceSpec, ModelSpec
from node.engines.diffusion.engine import DiffusionEngine, load
from node.engines.diffusion.family import load_family
from node.engines.diffusion.parts import load_parts, read_index
from protos.errors import LoadFailed
from protos.types import ImageRequest, Modality, ModelId, Task, TaskId

Stock = Any  # a pipeline of diffusers
Load = Callable[[Path], DiffusionEngine]


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def say(folder: Path, name: str, entry: object) -> None:
    file = folder / "model_index.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), name: entry}))


def test_a_folder_without_an_index_is_refused(tmp_path: Path, load_folder: Load) -> None:
    with pytest.raises(LoadFailed, match=r"has no readable model_index\.json"):
        load_folder(tmp_path)


def test_an_unknown_pipeline_is_refused_with_those_that_run(copied: Path, load_folder: Load) -> None:
    say(copied, "_class_name", "WanPipeline")
    with pytest.raises(LoadFailed, match="is a WanPipeline, which this engine cannot step: use one of StableDiff"):
        load_folder(copied)


def test_a_missing_component_is_named(copied: Path, load_folder: Load) -> None:
    say(copied, "vae", [None, None])
    with pytest.raises(LoadFailed, match="lacks vae"):
        load_folder(copied)


def test_classes_of_other_libraries_are_not_imported(copied: Path, load_folder: Load) -> None:
    say(copied, "scheduler", ["subprocess", "Popen"])
    with pytest.raises(LoadFailed, match=r"subprocess\.Popen: only classes of diffusers and transformers"):
        load_folder(copied)


def test_a_broken_weights_file_is_refused(copied: Path, load_folder: Load) -> None:
    (copied / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"broken")
    with pytest.raises(LoadFailed, match="could not be read"):
        load_folder(copied)


def test_a_folder_may_name_its_own_usual_steps_and_guidance(copied: Path, load_folder: Load, family: str) -> None:
    (copied / "fabric.json").write_text('{"steps": 12, "guidance_scale": 3.5}')
    drawing = load_folder(copied).prepare(Task(id=TaskId("task"), request=ImageRequest(prompt="a dog"))).payload
    assert (drawing.steps, drawing.guidance_scale) == (12, 0.0 if family == "schnell" else 3.5)


def test_an_unknown_key_beside_them_is_refused(copied: Path, load_folder: Load) -> None:
    (copied / "fabric.json").write_text('{"stepps": 12}')
    with pytest.raises(LoadFailed, match="may hold steps and guidance_scale"):
        load_folder(copied)


@pytest.mark.parametrize(("kind", "dtype"), [("cpu", torch.float32), ("cuda", torch.float16)])
def test_auto_means_float32_on_a_cpu_and_the_files_own_type_on_a_gpu(
    copied: Path, kind: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ModelSpec(id=ModelId("tiny"), engine="diffusion", modality=Modality.IMAGE, path=str(copied))
    index = read_index(spec)
    denoiser = "unet" if "unet" in index.entries else "transformer"
    module = load_parts(spec, CPU, index, [denoiser], [])[denoiser]
    module.half().save_pretrained(copied / denoiser)
    monkeypatch.setattr(DeviceSpec, "torch_name", "cpu")
    assert load_parts(spec, DeviceSpec(kind), index, [denoiser], []).dtype == dtype


def test_files_of_half_precision_only_are_found_by_their_variant(copied: Path, load_folder: Load) -> None:
    plain = copied / "vae" / "diffusion_pytorch_model.safetensors"
    plain.rename(plain.with_suffix(".fp16.safetensors"))
    assert load_folder(copied).held_bytes() > 0


@pytest.mark.parametrize(
    ("dtype", "precisions"),  # of the denoiser and of the autoencoder
    [
        ("auto", (torch.float16, torch.float32)),
        ("float16", (torch.float16, torch.float32)),
        ("bfloat16", (torch.bfloat16, torch.bfloat16)),
        ("float32", (torch.float32, torch.float32)),
    ],
)
def test_a_folder_as_the_hub_has_it_loads_in_each_precision_on_a_gpu(
    stock: Stock,
    tmp_path: Path,
    dtype: str,
    precisions: tuple[torch.dtype, torch.dtype],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both variants side by side; the autoencoder overflows in float16 where its configuration says so."""
    stock.save_pretrained(tmp_path)
    for name, part in stock.components.items():
        if isinstance(part, torch.nn.Module):
            copy.deepcopy(part).half().save_pretrained(tmp_path / name, variant="fp16")
    (tmp_path / "sd_xl_base_1.0.safetensors").write_bytes(b"one file of all, for other programs")
    monkeypatch.setattr(DeviceSpec, "torch_name", "cpu")
    spec = ModelSpec(id=ModelId("t"), engine="diffusion", modality=Modality.IMAGE, path=str(tmp_path), dtype=dtype)
    parts = load_family(spec, DeviceSpec("cuda")).parts
    denoiser = parts["unet" if "unet" in parts.by_name else "transformer"]
    assert (denoiser.dtype, parts["vae"].dtype) == precisions


def test_weights_in_several_files_are_read(stock: Stock, tmp_path: Path, load_folder: Load) -> None:
    stock.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*/diffusion_pytorch_model-0000*-of-*.safetensors"))) > 1
    assert load_folder(tmp_path).held_bytes() > 0


def test_an_autoencoder_of_another_kind_is_refused(copied: Path, load_folder: Load) -> None:
    shutil.rmtree(copied / "vae")
    AutoencoderTiny(
        encoder_block_out_channels=(8,),
        decoder_block_out_channels=(8,),
        num_encoder_blocks=(1,),
        num_decoder_blocks=(1,),
    ).save_pretrained(copied / "vae")
    say(copied, "vae", ["diffusers", "AutoencoderTiny"])
    with pytest.raises(LoadFailed, match="the vae of tiny is a AutoencoderTiny: only AutoencoderKL runs"):
        load_folder(copied)


def test_it_counts_its_weights_and_gives_them_back(folder: Path) -> None:
    spec = ModelSpec(id=ModelId("tiny"), engine="diffusion", modality=Modality.IMAGE, path=str(folder))
    engine = load(spec, CPU)
    stored = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    assert engine.held_bytes() == pytest.approx(stored, rel=0.3)
    engine.close()
    assert all(tensor.is_meta for module in engine._family.parts.modules() for tensor in module.parameters())
