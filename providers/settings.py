"""Which providers a router has: the conventional variables of each vendor, read into one frozen object.

Not about prices and capabilities (catalog.py), nor about the router itself (router/settings.py, which calls this).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from protos.errors import InputInvalid
from protos.types import Modality, ModelId

OPENAI_URL: Final = "https://api.openai.com/v1"
ANTHROPIC_URL: Final = "https://api.anthropic.com"
_OLLAMA_PORT: Final = 11434
RESERVED: Final = frozenset({"node", "echo", "openai", "anthropic", "ollama", "whisper", "comfyui"})  # provider ids
_NAME: Final = re.compile(r"[a-z][a-z0-9-]*")
_OURS: Final = re.compile(
    r"FABRIC_(COMPATIBLE|ROUTERS)(_[A-Z0-9_]+_(KEY|MODELS|LOCAL|CA))?"
    r"|FABRIC_(PRICES|ORGANIZATION_KEYS|OLLAMA_PULL|COMFYUI_WORKFLOW)"
)


@dataclass(frozen=True, slots=True)
class DeclaredModel:
    """A model that the user names because its server does not say what it is."""

    id: ModelId
    modality: Modality


@dataclass(frozen=True, slots=True, kw_only=True)
class CompatibleServer:
    """An OpenAI-compatible server. `name` is its provider id."""

    name: str
    url: str  # with its /v1
    key: str = field(default="", repr=False)  # "": it wants none
    models: tuple[DeclaredModel, ...] = ()  # empty: what GET /v1/models lists
    is_local: bool = False  # it runs on this box and sends nothing on: free, and open to what must not leave the box


@dataclass(frozen=True, slots=True, kw_only=True)
class FabricRouter:
    """Another router, by its gRPC door. `name` is its provider id."""

    name: str
    target: str  # host:port
    key: str = field(default="", repr=False)
    authority: Path | None = None  # PEM of who signed its certificate; None: the usual authorities


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """Every place that tasks can go. What is empty is off."""

    nodes: tuple[str, ...] = ()  # gRPC addresses
    openai_api_key: str = field(default="", repr=False)
    openai_base_url: str = OPENAI_URL
    anthropic_api_key: str = field(default="", repr=False)
    anthropic_base_url: str = ANTHROPIC_URL
    organization_keys: bool = False  # vendors are on without a key of ours too: organizations bring their own
    compatible: tuple[CompatibleServer, ...] = ()
    ollama_url: str = ""
    ollama_pull: tuple[str, ...] = ()  # models that it is told to fetch where it lacks them
    whisper_url: str = ""
    comfyui_url: str = ""
    comfyui_workflow: Path | None = None  # in ComfyUI's API format, with placeholders; None: the one that ships
    routers: tuple[FabricRouter, ...] = ()
    prices: Path | None = None  # a file whose models override those that ship


def is_provider_variable(variable: str) -> bool:
    """A FABRIC_ variable that is read here and not by the router's own settings."""
    return _OURS.fullmatch(variable) is not None


def provider_settings(environ: Mapping[str, str], nodes: tuple[str, ...] = ()) -> ProviderSettings:
    """Raises InputInvalid that names the variable, never its value where that may be a key."""
    _check_suffixed(environ)
    compatible, routers = tuple(_compatible(environ)), tuple(_routers(environ))
    both = sorted({server.name for server in compatible} & {router.name for router in routers})
    if both:
        raise InputInvalid.at("FABRIC_ROUTERS", f"names {both[0]!r}, as FABRIC_COMPATIBLE does: choose another name")
    return ProviderSettings(
        nodes=nodes,
        openai_api_key=environ.get("OPENAI_API_KEY", "").strip(),
        openai_base_url=_url(environ, "OPENAI_BASE_URL") or OPENAI_URL,
        anthropic_api_key=environ.get("ANTHROPIC_API_KEY", "").strip(),
        anthropic_base_url=_url(environ, "ANTHROPIC_BASE_URL") or ANTHROPIC_URL,
        compatible=compatible,
        ollama_url=_url(environ, "OLLAMA_URL") or _ollama(environ.get("OLLAMA_HOST", "").strip()),
        ollama_pull=tuple(_entries(environ.get("FABRIC_OLLAMA_PULL", ""))),
        whisper_url=_url(environ, "WHISPER_URL"),
        comfyui_url=_url(environ, "COMFYUI_URL"),
        comfyui_workflow=Path(environ["FABRIC_COMFYUI_WORKFLOW"]) if environ.get("FABRIC_COMFYUI_WORKFLOW") else None,
        routers=routers,
        organization_keys=_yes(environ, "FABRIC_ORGANIZATION_KEYS"),
        prices=Path(environ["FABRIC_PRICES"]) if environ.get("FABRIC_PRICES") else None,
    )


def _compatible(environ: Mapping[str, str]) -> Iterator[CompatibleServer]:
    for name, url in _named(environ, "FABRIC_COMPATIBLE", "vllm=http://localhost:8000/v1"):
        stem = _stem("FABRIC_COMPATIBLE", name)
        yield CompatibleServer(
            name=name,
            url=_checked_url("FABRIC_COMPATIBLE", url),
            key=environ.get(f"{stem}_KEY", "").strip(),
            models=tuple(_declared(f"{stem}_MODELS", environ.get(f"{stem}_MODELS", ""))),
            is_local=_yes(environ, f"{stem}_LOCAL"),
        )


def _routers(environ: Mapping[str, str]) -> Iterator[FabricRouter]:
    for name, target in _named(environ, "FABRIC_ROUTERS", "attic=attic.lan:3002"):
        host, _, port = target.rpartition(":")
        if not host or not port.isdecimal():
            raise InputInvalid.at("FABRIC_ROUTERS", f"has {target!r} for {name}: use host:port of its gRPC door")
        stem = _stem("FABRIC_ROUTERS", name)
        yield FabricRouter(
            name=name,
            target=target,
            key=environ.get(f"{stem}_KEY", "").strip(),
            authority=Path(environ[f"{stem}_CA"]) if environ.get(f"{stem}_CA") else None,
        )


def _declared(variable: str, text: str) -> Iterator[DeclaredModel]:
    """ "llama-3-8b, bge-m3:embedding": text where no modality is named."""
    known = {modality.value for modality in Modality}
    for entry in _entries(text):
        model, _, kind = entry.rpartition(":")
        if not model or kind not in known:
            model, kind = entry, Modality.TEXT.value
        if not model.strip(":"):
            raise InputInvalid.at(variable, f"has {entry!r}: use model or model:modality, {', '.join(sorted(known))}")
        yield DeclaredModel(ModelId(model), Modality(kind))


def _named(environ: Mapping[str, str], variable: str, example: str) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for entry in _entries(environ.get(variable, "")):
        name, equals, value = (part.strip() for part in entry.partition("="))
        if not equals or not value:
            raise InputInvalid.at(variable, f"has {entry!r}: write name=address, as in {example}")
        if not _NAME.fullmatch(name) or name in RESERVED or name.startswith("node-"):
            raise InputInvalid.at(variable, f"names {name!r}: use a-z, 0-9 and -, and none of {_reserved()}")
        if name in seen:
            raise InputInvalid.at(variable, f"names {name!r} twice: a name is a provider's id")
        seen.add(name)
        yield name, value


def _reserved() -> str:
    return ", ".join(sorted(RESERVED))


def _entries(text: str) -> Iterator[str]:
    return (part.strip() for part in text.split(",") if part.strip())


def _stem(variable: str, name: str) -> str:
    return f"{variable}_{name.upper().replace('-', '_')}"


def _check_suffixed(environ: Mapping[str, str]) -> None:
    """A key or a list for a server that is not named is a misspelling."""
    for variable in environ:
        found = _OURS.fullmatch(variable)
        if found is None or found[2] is None:
            continue
        list_variable = f"FABRIC_{found[1]}"
        entries = _entries(environ.get(list_variable, ""))
        stems = {_stem(list_variable, entry.partition("=")[0].strip()) for entry in entries}
        suffixes = ("_KEY", "_LOCAL", "_MODELS") if found[1] == "COMPATIBLE" else ("_KEY", "_CA")
        known = sorted(stem + suffix for stem in stems for suffix in suffixes)
        if variable not in known:
            raise InputInvalid.at(
                variable, f"belongs to nothing in {list_variable}: there are {', '.join(known) or 'none'}"
            )


def _ollama(host: str) -> str:
    """OLLAMA_HOST is an address or a URL, and may be what the server binds: 0.0.0.0 means this machine."""
    if not host:
        return ""
    url = host if "://" in host else f"http://{host}"
    parts = urlsplit(_checked_url("OLLAMA_HOST", url))
    name = "127.0.0.1" if parts.hostname in ("0.0.0.0", "::") else parts.hostname  # noqa: S104  # read, not bound
    name = f"[{name}]" if name and ":" in name else name
    port = parts.port or (_OLLAMA_PORT if "://" not in host else None)
    return f"{parts.scheme}://{name}{f':{port}' if port else ''}{parts.path}"


_YES_OR_NO: Final = {"": False, "0": False, "no": False, "false": False, "1": True, "yes": True, "true": True}


def _yes(environ: Mapping[str, str], variable: str) -> bool:
    text = environ.get(variable, "").strip().lower()
    if text not in _YES_OR_NO:
        raise InputInvalid.at(variable, f"is {text!r}: use yes or no")
    return _YES_OR_NO[text]


def _url(environ: Mapping[str, str], variable: str) -> str:
    text = environ.get(variable, "").strip()
    return _checked_url(variable, text) if text else ""


def _checked_url(variable: str, text: str) -> str:
    """Without the slash at its end. A URL with a password in it is refused without being shown."""
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018  # raises when it is no number
    except ValueError:
        raise InputInvalid.at(variable, f"is {text!r}: use http://host:port or https://host") from None
    if parts.username or parts.password:
        raise InputInvalid.at(variable, "has a user or a password in its URL: give the key in its own variable")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InputInvalid.at(variable, f"is {text!r}: use http://host:port or https://host, with its path")
    return text.rstrip("/")
