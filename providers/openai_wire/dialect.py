"""How servers of this wire differ, as data; and the words in which a param is refused. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from protos.types import ProviderId
from providers.catalog import VendorModel

Wrong = Iterator[tuple[str, str]]
"""(path, message) of each field that is not taken."""

Body = dict[str, Any]  # Any: JSON, which differs by field


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One server. `takes`: our params that it takes beside OpenAI's -> the names that it gives them."""

    vendor: ProviderId
    base_url: str
    key_variable: str
    max_tokens: Literal["max_completion_tokens", "max_tokens"] = "max_tokens"
    bounds_itself: bool = False  # it is sent no max_tokens where none is stated and nobody pays: it knows its context
    stop_limit: int = 0  # 0: any number
    takes: Mapping[str, str] = field(default_factory=dict)

    def taken(self, model: VendorModel) -> Mapping[str, str]:
        return {**self.takes, **model.takes}


def refused(dialect: Dialect, model: VendorModel, params: Mapping[str, bool], usual: frozenset[str]) -> Wrong:
    """params: our name of each, and whether the request sets it to anything but what it means to leave it out. usual:
    those that the endpoint takes."""
    taken = dialect.taken(model)
    for name, is_set in params.items():
        if is_set and name in model.refuses:
            yield f"params.{name}", f"is not taken by {model.id}: leave it out"
        elif is_set and name not in taken and name not in usual:
            yield f"params.{name}", f"is not taken by {dialect.vendor}: leave it out, or use a model on this box"


def extras(dialect: Dialect, model: VendorModel, values: Mapping[str, object]) -> Body:
    """The params that this server takes beside the usual, under its names."""
    taken = dialect.taken(model)
    return {taken[name]: value for name, value in values.items() if value is not None and name in taken}
