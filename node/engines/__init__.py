"""The engines by name. The next engine is one module and one line here; nothing heavy is imported until it is used."""

import gc
from collections.abc import Mapping
from importlib import import_module
from typing import Final, cast

from node.engine import LoadEngine
from protos.types import Modality

MODULES: Final[Mapping[str, tuple[str, frozenset[Modality]]]] = {
    "text": ("node.engines.text", frozenset({Modality.TEXT})),
    "embedding": ("node.engines.embedding", frozenset({Modality.EMBEDDING})),
    "diffusion": ("node.engines.diffusion", frozenset({Modality.IMAGE})),
    "whisper": ("node.engines.whisper", frozenset({Modality.AUDIO})),
    "fake": ("node.engines.fake", frozenset(Modality)),
    "fake-beside": ("node.engines.fake", frozenset(Modality)),  # its steps run beside the device loop
}


def loader(name: str) -> LoadEngine:
    """The `load` function of the engine's module, imported now."""
    gc.disable()  # it finds nothing in the objects of an import, and takes a fifth of the seconds of torch's
    try:
        return cast(LoadEngine, import_module(MODULES[name][0]).load)
    finally:
        gc.enable()
