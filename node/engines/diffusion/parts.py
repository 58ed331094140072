"""The components of a diffusers pipeline, read from the folder that its model_index.json describes.

Only what a family names is read: no safety checker, no feature extractor, and no class from anywhere but diffusers and
transformers. Not about what the components do (family.py).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import torch
from diffusers.utils import is_accelerate_available
from safetensors import SafetensorError, safe_open
from transformers.utils.logging import disable_progress_bar

from node.engine import DeviceSpec, ModelSpec
from protos.errors import DoesNotFit, LoadFailed

_LIBRARIES: Final = frozenset({"diffusers", "transformers"})
_DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_STORED_DTYPES: Final = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


@dataclass(frozen=True, slots=True)
class Index:
    """What a model_index.json says."""

    folder: Path
    pipeline: str  # the class that it was saved from
    entries: Mapping[str, tuple[str, str]]  # component: (library, class)
    options: Mapping[str, Any]  # whatever else it says


@dataclass(frozen=True, slots=True)
class Parts:
    """Loaded components by the names that their pipeline gives them; an absent optional one is None."""

    by_name: Mapping[str, Any]  # modules, tokenizers and a scheduler have no common type
    device: torch.device
    dtype: torch.dtype  # of all but a VAE that must not compute in half precision
    options: Mapping[str, Any]  # of the index

    def __getitem__(self, name: str) -> Any:
        return self.by_name[name]

    def modules(self) -> Iterator[torch.nn.Module]:
        return (part for part in self.by_name.values() if isinstance(part, torch.nn.Module))

    @property
    def bytes(self) -> int:
        tensors = (tensor for module in self.modules() for tensor in (*module.parameters(), *module.buffers()))
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def release(self) -> None:
        """Gives the device memory back. Without a collection of all objects, which would hold the device loop for 1 s."""
        for module in self.modules():
            module.to("meta")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def read_index(spec: ModelSpec) -> Index:
    """Raises LoadFailed."""
    folder = Path(spec.path)
    try:
        said = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        entries = {name: (entry[0], entry[1]) for name, entry in said.items() if _names_a_class(entry)}
        return Index(folder, said["_class_name"], entries, {name: said[name] for name in said.keys() - entries.keys()})
    except (OSError, ValueError, KeyError, AttributeError) as exc:
        raise LoadFailed(f"{spec.id} has no readable model_index.json in {spec.path}: {exc!r}") from exc


@dataclass(frozen=True, slots=True)
class Usual:
    """What a request that says nothing gets; None: what the pipeline gives it."""

    steps: int | None = None
    guidance_scale: float | None = None


def read_usual(spec: ModelSpec) -> Usual:
    """From fabric.json beside the model_index.json, where there is one. Raises LoadFailed."""
    file = Path(spec.path) / "fabric.json"
    try:
        return Usual(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else Usual()
    except (OSError, ValueError, TypeError) as exc:
        raise LoadFailed(f"{file} of {spec.id} is wrong ({exc}): it may hold steps and guidance_scale") from exc


def load_parts(
    spec: ModelSpec, device: DeviceSpec, index: Index, needed: Sequence[str], optional: Sequence[str]
) -> Parts:
    """The first needed component is the denoiser; its files decide about the type. Raises LoadFailed or DoesNotFit."""
    missing = [name for name in needed if name not in index.entries]
    if missing:
        raise LoadFailed(f"{spec.id} lacks {', '.join(missing)} in its model_index.json, which {index.pipeline} needs")
    disable_progress_bar()
    target, dtype = torch.device(device.torch_name), _dtype(spec, device, index.folder / needed[0])
    try:
        found = {name: _component(index, name, dtype) for name in (*needed, *optional) if name in index.entries}
        parts = Parts({**dict.fromkeys(optional), **found}, target, dtype, index.options)
        for module in parts.modules():
            module.to(target).eval().requires_grad_(False)
    except torch.OutOfMemoryError as exc:
        raise DoesNotFit(f"{spec.id} does not fit on {target}: {exc}") from exc
    except (OSError, ValueError, TypeError, AttributeError, ImportError, RuntimeError, SafetensorError) as exc:
        raise LoadFailed(f"{spec.id} could not be read from {spec.path}: {exc}") from exc
    return parts


def _names_a_class(entry: object) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and all(isinstance(word, str) for word in entry)


def _component(index: Index, name: str, dtype: torch.dtype) -> Any:  # a module, a tokenizer or a scheduler
    library, class_name = index.entries[name]
    if library not in _LIBRARIES:
        raise ImportError(f"{name} is a {library}.{class_name}: only classes of diffusers and transformers are loaded")
    folder = index.folder / name
    cls = getattr(import_module(library), class_name)
    if not issubclass(cls, torch.nn.Module):
        return cls.from_pretrained(folder, local_files_only=True)
    files = {"local_files_only": True, "use_safetensors": True, "variant": _variant(folder, dtype)}
    if library == "transformers":
        return cls.from_pretrained(folder, dtype=dtype, **files)
    module = cls.from_pretrained(folder, torch_dtype=dtype, low_cpu_mem_usage=is_accelerate_available(), **files)
    if module.dtype != dtype and cls._keep_in_fp32_modules is None:
        module = module.to(dtype)  # seen left as its file has it: SD3's in bfloat16
    return module.float() if dtype == torch.float16 and module.config.get("force_upcast") else module


def _weights(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _variant(folder: Path, dtype: torch.dtype) -> str | None:
    """fp16 where that is asked for and there, as in most of the hub's pipelines, or where there is nothing else."""
    is_half = [".fp16" in file.name for file in _weights(folder)]
    return "fp16" if any(is_half) and (dtype == torch.float16 or all(is_half)) else None


def _dtype(spec: ModelSpec, device: DeviceSpec, denoiser: Path) -> torch.dtype:
    if spec.dtype != "auto":
        return _DTYPES[spec.dtype]
    files = _weights(denoiser)
    return torch.float32 if device.kind == "cpu" or not files else _stored_dtype(files[0])


def _stored_dtype(file: Path) -> torch.dtype:
    with safe_open(file, framework="pt") as tensors:
        first = next(iter(tensors.keys()))
        return _STORED_DTYPES.get(tensors.get_slice(first).get_dtype(), torch.float32)
