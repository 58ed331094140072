"""A workflow of ComfyUI with places left open: {{prompt}}, {{steps=20}} ... filled from a request. Pure.

In ComfyUI's API format ("Save (API Format)"). A value that is one placeholder alone gets the value itself, a number for a
number; within a longer text it gets its words. What stands behind `=` is the default, as JSON.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeAlias

from protos.errors import InputInvalid

Json: TypeAlias = Any  # a JSON value: their types differ

VARIABLE: Final = "FABRIC_COMFYUI_WORKFLOW"
NAMES: Final = (
    "prompt",
    "negative",
    "seed",
    "steps",
    "cfg",
    "sampler",
    "width",
    "height",
    "denoise",
    "image",  # the name of the uploaded picture
    "checkpoint",  # the model
    "id",  # of the task and the picture: no two the same, so that nothing is taken from ComfyUI's cache
)
_OTHERWISE: Final[Mapping[str, Json]] = {"negative": ""}  # where neither the request nor the workflow says
_HOLE: Final = re.compile(r"\{\{\s*([a-z]+)\s*(?:=(.*?))?\}\}")


@dataclass(frozen=True, slots=True)
class Workflow:
    """`name`: what its model is called where it has its checkpoint built in."""

    name: str
    graph: Mapping[str, Json]
    holes: Mapping[str, Json]  # the placeholders that it has -> their defaults; _NONE: it has none

    @property
    def takes(self) -> frozenset[str]:
        return frozenset(self.holes)

    def lacking(self, values: Mapping[str, Json]) -> list[str]:
        """The placeholders that neither the values nor a default fill."""
        return [name for name, default in self.holes.items() if default is _NONE and values.get(name) is None]

    def filled(self, values: Mapping[str, Json]) -> Json:
        """The graph to queue. None of `values` is None for a placeholder without a default."""
        given = {name: value for name, value in values.items() if value is not None}
        return _filled(self.graph, {**self.holes, **given})


_NONE: Final = object()


def read_workflow(path: Path | None) -> Workflow:
    """The one that ships where no path is given. Raises InputInvalid that names the file and what is wrong in it."""
    if path is None:
        return parse_workflow(
            (files("providers") / "comfyui.json").read_text(encoding="utf-8"), "providers/comfyui.json"
        )
    try:
        return parse_workflow(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputInvalid.at(VARIABLE, f"{path} cannot be read ({error}): name a JSON file") from error


def parse_workflow(text: str, file: str) -> Workflow:
    try:
        graph = json.loads(text)
    except ValueError as error:
        raise InputInvalid.at(VARIABLE, f"{file} is not JSON: {error}") from error
    if not isinstance(graph, dict) or not all(_is_node(node) for node in graph.values()) or not graph:
        raise InputInvalid.at(
            VARIABLE,
            f"{file} is not in the API format (nodes by number, each with class_type and inputs): export it so",
        )
    holes = _holes(graph, file)
    if "prompt" not in holes:
        raise InputInvalid.at(VARIABLE, f"{file} has no {{{{prompt}}}}: write it where the text goes")
    return Workflow(Path(file).stem, graph, holes)


def _is_node(node: Json) -> bool:
    return isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)


def _holes(graph: Json, file: str) -> Mapping[str, Json]:
    found: dict[str, Json] = {}
    for text in _texts(graph):
        for name, default in _HOLE.findall(text):
            if name not in NAMES:
                known = ", ".join(f"{{{{{known}}}}}" for known in NAMES)
                raise InputInvalid.at(VARIABLE, f"{file} has {{{{{name}}}}}: there are {known}")
            found[name] = _default(default, text, file) if default else found.get(name, _OTHERWISE.get(name, _NONE))
    return found


def _default(text: str, whole: str, file: str) -> Json:
    try:
        return json.loads(text)
    except ValueError:
        raise InputInvalid.at(
            VARIABLE, f"{file} has {whole}: write its default as JSON, as in {{{{steps=20}}}}"
        ) from None


def _texts(value: Json) -> list[str]:
    match value:
        case str():
            return [value]
        case dict():
            return [text for each in value.values() for text in _texts(each)]
        case list():
            return [text for each in value for text in _texts(each)]
        case _:
            return []


def _filled(value: Json, values: Mapping[str, Json]) -> Json:
    match value:
        case str():
            alone = _HOLE.fullmatch(value)
            return values[alone[1]] if alone else _HOLE.sub(lambda hole: str(values[hole[1]]), value)
        case dict():
            return {name: _filled(each, values) for name, each in value.items()}
        case list():
            return [_filled(each, values) for each in value]
        case _:
            return value
