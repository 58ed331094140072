"""What is known of the vendors' models before any call: capabilities, limits and prices, read from prices.toml.

Data with a date and a source, versioned; a user's own file overrides it model by model. Not about what a use costs
(pricing.py).
"""

import datetime
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from protos.errors import InputInvalid
from protos.types import Modality, ModelId, ProviderId
from providers.pricing import Bounds, Price

VERSION: Final = 1  # of the form of the file


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorModel:
    """One model of one vendor."""

    vendor: ProviderId
    id: ModelId  # as the vendor calls it
    modality: Modality
    is_default: bool = False  # of its modality there
    is_retired: bool = False  # its vendor has shut it down: what it did cost is still known, and nobody is sent there
    context_tokens: int = 0
    bounds: Bounds = field(default_factory=Bounds)
    price: Price | None = None  # None: nobody has said
    sizes: tuple[str, ...] = ()  # of pictures, "1024x1024"; empty: any
    max_images: int = 0  # of one call; 0: any number
    quality: str = ""  # of pictures, as the vendor names it
    is_inline: bool = False  # its pictures come in the answer without being asked for
    refuses: frozenset[str] = frozenset()  # our params that its vendor takes and this model does not
    takes: Mapping[str, str] = field(default_factory=dict)  # our params that it takes beside the usual -> its names


@dataclass(frozen=True, slots=True)
class Server:
    """A kind of OpenAI-compatible server, known by the name that a user gives it: "vllm", or "vllm-2"."""

    name: str
    takes: Mapping[str, str] = field(default_factory=dict)  # our params beyond OpenAI's -> its names


class Catalog:
    """The models by vendor and name, and the kinds of servers by name."""

    def __init__(self, models: Iterable[VendorModel], servers: Iterable[Server] = ()) -> None:
        self._models = {(model.vendor, model.id): model for model in models}
        self._servers = {server.name: server for server in servers}

    def of(self, vendor: ProviderId) -> Sequence[VendorModel]:
        """Those that are there, in the order of the file."""
        return [model for (owner, _), model in self._models.items() if owner == vendor and not model.is_retired]

    def find(self, vendor: ProviderId, model: ModelId) -> VendorModel | None:
        return self._models.get((vendor, model))

    def owners(self, model: ModelId) -> Sequence[VendorModel]:
        """The model at every vendor that has it: what it would cost, also where the vendor is not switched on."""
        return [known for (_, name), known in self._models.items() if name == model]

    def server(self, name: str) -> Server:
        """What is known of a server of that name; nothing but OpenAI's own params where the name says nothing."""
        kind = next((kind for kind in self._servers if name == kind or name.startswith(f"{kind}-")), None)
        return Server(name) if kind is None else self._servers[kind]

    def with_changes(self, other: "Catalog") -> "Catalog":
        """With those of another added, or in the place of those of the same name."""
        models = [*self._models.values(), *other._models.values()]
        return Catalog(models, [*self._servers.values(), *other._servers.values()])


def load_catalog(own: Path | None = None) -> Catalog:
    """What ships, then `own` on top. Raises InputInvalid that names the file, the entry and the key."""
    shipped = files("providers") / "prices.toml"
    catalog = read_catalog(shipped.read_text(encoding="utf-8"), "providers/prices.toml")
    if own is None:
        return catalog
    try:
        text = own.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputInvalid.at("FABRIC_PRICES", f"{own} cannot be read ({error}): name a TOML file") from error
    return catalog.with_changes(read_catalog(text, str(own)))


# ---- reading ----

_MODEL_KEYS: Final[Mapping[str, type]] = {
    "vendor": str,
    "id": str,
    "also": list,  # other names of the same model
    "modality": str,
    "default": bool,
    "retired": bool,
    "context_tokens": int,
    "max_images": int,
    "quality": str,
    "inline": bool,
    "sizes": list,
    "refuses": list,
    "takes": dict,
}
_BOUNDS_KEYS: Final[Mapping[str, type]] = {"max_output_tokens": int, "thinking_tokens": int, "image_tokens": dict}
_AMOUNTS: Final = ("input_micro", "cached_micro", "output_micro", "reasoning_micro", "image_micro", "minute_micro")
_LONG: Final = ("long_tokens", "long_input_micro", "long_cached_micro", "long_output_micro")
_PRICE_KEYS: Final[Mapping[str, type]] = {
    **dict.fromkeys((*_AMOUNTS, *_LONG), int),
    "size_micro": dict,
    "as_of": datetime.date,
    "source": str,
}
_KEYS: Final[Mapping[str, type]] = {**_MODEL_KEYS, **_BOUNDS_KEYS, **_PRICE_KEYS}


_SERVER_KEYS: Final[Mapping[str, type]] = {"name": str, "takes": dict, "source": str}


def read_catalog(text: str, file: str) -> Catalog:
    """What a file's text says. file: its name, for messages. Raises InputInvalid."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputInvalid.at(file, f"is not TOML: {error}") from error
    unknown = sorted(document.keys() - {"version", "model", "server"})
    if unknown:
        raise InputInvalid.at(file, f"has {unknown[0]!r}: only version, [[model]] and [[server]] stand there")
    if document.get("version") != VERSION:
        raise InputInvalid.at(file, f"has version {document.get('version')!r}: this release reads version = {VERSION}")
    entries = enumerate(document.get("model", []))
    models = [model for index, entry in entries for model in _models(entry, f"{file} model[{index}]")]
    servers = enumerate(document.get("server", []))
    return Catalog(models, [_server(entry, f"{file} server[{index}]") for index, entry in servers])


def _server(entry: Mapping[str, Any], where: str) -> Server:  # Any: TOML's values
    _check_keys(entry, _SERVER_KEYS, where)
    if not entry.get("name"):
        raise InputInvalid.at(where, "has no name")
    return Server(entry["name"], entry.get("takes", {}))


def _models(entry: Mapping[str, Any], where: str) -> list[VendorModel]:  # Any: TOML's values
    _check(entry, where)
    first = _model(entry, ModelId(entry["id"]), is_default=entry.get("default", False))
    others = [_model(entry, ModelId(name), is_default=False) for name in entry.get("also", [])]
    return [first, *others]


def _model(entry: Mapping[str, Any], name: ModelId, *, is_default: bool) -> VendorModel:  # Any: TOML's values
    return VendorModel(
        vendor=ProviderId(entry["vendor"]),
        id=name,
        modality=Modality(entry["modality"]),
        is_default=is_default,
        is_retired=entry.get("retired", False),
        context_tokens=entry.get("context_tokens", 0),
        bounds=Bounds(**_only(entry, _BOUNDS_KEYS)),
        price=_price(entry),
        sizes=tuple(entry.get("sizes", ())),
        max_images=entry.get("max_images", 0),
        quality=entry.get("quality", ""),
        is_inline=entry.get("inline", False),
        refuses=frozenset(entry.get("refuses", ())),
        takes=entry.get("takes", {}),
    )


def _price(entry: Mapping[str, Any]) -> Price | None:  # Any: TOML's values
    stated = _only(entry, _PRICE_KEYS)
    if not stated.keys() & {*_AMOUNTS, "size_micro"}:
        return None
    long = {key.removeprefix("long_"): stated.pop(key) for key in _LONG if key in stated}
    if not long:
        return Price(sizes=stated.pop("size_micro", {}), **stated)
    beyond_tokens = long.pop("tokens")
    told = {key: stated[key] for key in ("as_of", "source")}
    return Price(**stated, long_tokens=beyond_tokens, long=Price(**long, **told))


def _only(entry: Mapping[str, Any], keys: Mapping[str, type]) -> dict[str, Any]:  # Any: TOML's values
    return {key: value for key, value in entry.items() if key in keys}


def _check(entry: Mapping[str, Any], where: str) -> None:  # Any: TOML's values
    for key in ("vendor", "id", "modality"):
        if not entry.get(key):
            raise InputInvalid.at(where, f"has no {key}")
    named = f"{where} ({entry['id']})"
    _check_keys(entry, _KEYS, named)
    if entry["modality"] not in [modality.value for modality in Modality]:
        raise InputInvalid.at(named, f"has modality = {entry['modality']!r}: use one of {', '.join(Modality)}")
    if entry.keys() & {*_LONG} not in (set(), {*_LONG}):
        raise InputInvalid.at(named, f"has some of {', '.join(_LONG)}: give all of them, or none")
    if entry.keys() & {*_AMOUNTS, "size_micro"} and not entry.keys() >= {"as_of", "source"}:
        raise InputInvalid.at(named, "has a price without as_of and source: say when and where you read it")


def _check_keys(entry: Mapping[str, Any], keys: Mapping[str, type], where: str) -> None:  # Any: TOML's values
    for key, value in entry.items():
        if key not in keys:
            raise InputInvalid.at(where, f"has {key!r}: the keys are {', '.join(sorted(keys))}")
        if type(value) is not keys[key]:
            raise InputInvalid.at(where, f"has {key} = {value!r}: use a value of type {keys[key].__name__}")
        if any(type(amount) is int and amount < 0 for amount in _amounts(value)):
            raise InputInvalid.at(where, f"has {key} = {value!r}: use 0 or more")


def _amounts(value: object) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else [value]
