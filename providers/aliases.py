"""Model aliases: names of a user's own, such as "best", that stand for models in an order of preference.

Read from the [[alias]] entries of models.toml, beside the local models; strictly, with file, entry and key in each error.
Not about which candidate gets a task (router/routing.py).
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from protos.errors import InputInvalid, NotFound
from protos.types import ModelId, ProviderId
from providers.base import Menu, Offer, Snapshot
from providers.catalog import Catalog
from providers.settings import RESERVED, ProviderSettings


@dataclass(frozen=True, slots=True)
class Target:
    """One model that an alias stands for."""

    model: ModelId
    provider: ProviderId | None = None  # the only place that counts; None: wherever it is

    def is_at(self, provider_id: ProviderId, offer: Offer) -> bool:
        return offer.model == self.model and self.provider in (None, provider_id)

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}" if self.provider else self.model


@dataclass(frozen=True, slots=True)
class Alias:
    """`candidates`: in the order that they are asked."""

    id: str
    candidates: Sequence[Target]


# ---- in what places offer ----


class Naming:
    """Writes the aliases into what places offer. Keeps what it made of the last snapshots: they seldom change."""

    def __init__(self, aliases: Sequence[Alias]) -> None:
        self._aliases = aliases
        self._made: dict[ProviderId, tuple[Snapshot, Snapshot]] = {}

    def named(self, snapshot: Snapshot) -> Snapshot:
        if not self._aliases:
            return snapshot
        last = self._made.get(snapshot.id)
        if last is not None and last[0] is snapshot:
            return last[1]
        if last is not None and last[0].offers is snapshot.offers:
            offers = last[1].offers
        else:
            offers = Menu(_named(self._aliases, snapshot.id, offer) for offer in snapshot.offers)
        named = replace(snapshot, offers=offers)
        self._made[snapshot.id] = (snapshot, named)
        return named


def _named(aliases: Sequence[Alias], provider_id: ProviderId, offer: Offer) -> Offer:
    places = {
        alias.id: place
        for alias in aliases
        for place, target in reversed(list(enumerate(alias.candidates)))
        if target.is_at(provider_id, offer)
    }
    return replace(offer, aliases=places) if places else offer


# ---- reading ----


def read_aliases(path: Path, settings: ProviderSettings, catalog: Catalog) -> tuple[Alias, ...]:
    """Those of the file, in its order. catalog: the vendors' models, known also where the vendor is off. Raises
    InputInvalid or NotFound."""
    document = _document(path)
    known = _Known(_local_models(document), settings, catalog)
    aliases: list[Alias] = []
    for index, entry in enumerate(_tables(path, document, "alias")):
        alias = _alias(f"{path}: {_label(index, entry)}", entry, known)
        if any(alias.id == earlier.id for earlier in aliases):
            raise InputInvalid.at(f"{path}: alias {alias.id!r}: id", "is there twice: each alias needs its own")
        aliases.append(alias)
    return tuple(aliases)


def _document(path: Path) -> Mapping[str, Any]:  # Any: TOML values before they are checked
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NotFound(
            f"the file of models {str(path)!r} cannot be read ({error.strerror}): name another with --models or "
            "FABRIC_MODELS"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputInvalid.at(str(path), f"is not valid TOML: {error}") from error


def _tables(path: Path, document: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:  # Any: as above
    entries = document.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputInvalid.at(f"{path}: {key}", f"is no list of tables: write each as [[{key}]]")
    return entries


def _local_models(document: Mapping[str, Any]) -> frozenset[str]:  # Any: as above
    """Their names; what else is right of them is the nodes' to say."""
    entries = document.get("model", [])
    named = [entry.get("id") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return frozenset(name for name in named if isinstance(name, str))


_KEYS: Final = ("id", "candidates")


def _label(index: int, entry: Mapping[str, Any]) -> str:  # Any: as above
    return f"alias {entry['id']!r}" if isinstance(entry.get("id"), str) else f"[[alias]] number {index + 1}"


def _alias(where: str, entry: Mapping[str, Any], known: "_Known") -> Alias:  # Any: as above
    for key in entry:
        if key not in _KEYS:
            raise InputInvalid.at(f"{where}: {key}", f"is no key of an alias; the keys are {', '.join(_KEYS)}")
    name, listed = entry.get("id"), entry.get("candidates")
    if not isinstance(name, str) or not name.strip():
        raise InputInvalid.at(f"{where}: id", f"is {name!r}: give a name")
    if known.has(name):
        raise InputInvalid.at(f"{where}: id", "is the name of a model: choose one that no model has")
    if not isinstance(listed, list) or not listed or not all(isinstance(each, str) for each in listed):
        raise InputInvalid.at(f"{where}: candidates", f"is {listed!r}: give a list of model names, the best first")
    return Alias(name, tuple(known.target(f"{where}: candidates", each) for each in listed))


class _Known:
    """What can be told of a name without asking any place."""

    def __init__(self, local: frozenset[str], settings: ProviderSettings, catalog: Catalog) -> None:
        self._catalog = catalog
        self._declared = {server.name: {model.id for model in server.models} for server in settings.compatible}
        nodes = {"node", *(f"node-{number + 1}" for number in range(1, len(settings.nodes)))}
        self._providers = {*RESERVED, *nodes, *self._declared, *(router.name for router in settings.routers)}
        self._models = {*local, "echo", *(model for models in self._declared.values() for model in models)}

    def has(self, name: str) -> bool:
        return name in self._models or bool(self._catalog.owners(ModelId(name)))

    def target(self, where: str, text: str) -> Target:
        """ "gpt-4o", or "openai/gpt-4o"; a slash may also be part of a model's name. Raises InputInvalid."""
        provider, slash, model = text.partition("/")
        if not slash or provider not in self._providers:
            if not self.has(text):
                raise InputInvalid.at(where, self._unknown(text))
            return Target(ModelId(text))
        listed = {each.id for each in self._catalog.of(ProviderId(provider))} if provider in _LISTED else set()
        listed |= self._declared.get(provider, set())
        if not model or (listed and model not in listed):
            raise InputInvalid.at(
                where, f"has {text!r}, which {provider} does not have: it has {', '.join(sorted(listed)) or 'others'}"
            )
        return Target(ModelId(model), ProviderId(provider))

    def _unknown(self, text: str) -> str:
        return (
            f"has {text!r}, which is no model of this file nor of the price list: correct it, or write where it is, as in "
            f"'ollama/llama3.2', with one of {', '.join(sorted(self._providers))}"
        )


_LISTED: Final = ("openai", "anthropic")  # whose models are those of the price list; others say what they have
