"""A trace file as what it says: the node, its models, what steps cost, and the tasks in the order in which they came.

Not about what would have happened otherwise (plan.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from node.trace import VERSION, CostsLine, Line, ModelLine, NodeLine, TaskLine, read
from protos.errors import InputInvalid, NotFound


@dataclass(frozen=True, slots=True)
class Trace:
    """What a node was, and what came to it."""

    node: NodeLine
    models: Mapping[str, ModelLine]
    costs: Mapping[str, CostsLine]
    tasks: Sequence[TaskLine]  # by the time at which they came


def read_trace(path: Path) -> Trace:
    """Of the last node line, and of the last line of each model. Raises NotFound, or InputInvalid with the line's number.

    A last line without an end is left out: the node was writing it when it died.
    """
    node: NodeLine | None = None
    models: dict[str, ModelLine] = {}
    costs: dict[str, CostsLine] = {}
    tasks: list[TaskLine] = []
    for where, line in _lines(path):
        match line:
            case NodeLine(version=version) if version != VERSION:
                raise InputInvalid.at(
                    where, f"is of version {version}, this is {VERSION}: replay it with its own release"
                )
            case NodeLine():
                node = line
            case ModelLine(model=model):
                models[model] = line
            case CostsLine(model=model):
                costs[model] = line
            case TaskLine(model=model):
                if model not in models:
                    raise InputInvalid.at(where, f"is a task of model {model!r}, of which no line before it tells")
                tasks.append(line)
    if node is None:
        raise InputInvalid.at(str(path), "has no line of a node: a trace is what FABRIC_NODE_TRACE has recorded")
    if not tasks:
        raise InputInvalid.at(str(path), "has no tasks: send the node some, then replay what it recorded")
    return Trace(node, models, costs, sorted(tasks, key=lambda task: task.at_s))


def _lines(path: Path) -> Iterator[tuple[str, Line]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise NotFound(
            f"the trace {str(path)!r} cannot be read ({error.strerror}): give the file that was recorded"
        ) from error
    except UnicodeDecodeError as error:
        raise InputInvalid.at(str(path), f"is no text ({error}): give the file that was recorded") from error
    whole = text.split("\n")[:-1]
    return ((f"{path}, line {n}", read(line, f"{path}, line {n}")) for n, line in enumerate(whole, 1) if line)
