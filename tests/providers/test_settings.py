"""The vendors' conventional variables: what each switches on, and what stops the start."""

from pathlib import Path

import pytest

from protos.errors import InputInvalid
from protos.types import Modality, ModelId
from providers.settings import (
    ANTHROPIC_URL,
    OPENAI_URL,
    CompatibleServer,
    DeclaredModel,
    FabricRouter,
    ProviderSettings,
    provider_settings,
)
from router.settings import RouterSettings

KEY = "sk-never-shown-0123456789"


def test_nothing_set_switches_nothing_on() -> None:
    assert provider_settings({"PATH": "/bin"}) == ProviderSettings()


def test_each_vendor_has_its_own_variables() -> None:
    environ = {
        "OPENAI_API_KEY": KEY,
        "ANTHROPIC_API_KEY": KEY[::-1],
        "OLLAMA_URL": "http://gpu:11434/",
        "WHISPER_URL": "http://whisper:8000",
        "COMFYUI_URL": "http://comfy:8188",
        "FABRIC_PRICES": "/etc/prices.toml",
    }
    settings = provider_settings(environ)
    assert (settings.openai_api_key, settings.openai_base_url) == (KEY, OPENAI_URL)
    assert (settings.anthropic_api_key, settings.anthropic_base_url) == (KEY[::-1], ANTHROPIC_URL)
    assert (settings.ollama_url, settings.whisper_url) == ("http://gpu:11434", "http://whisper:8000")
    assert (settings.comfyui_url, settings.prices) == ("http://comfy:8188", Path("/etc/prices.toml"))


def test_compatible_servers_are_named_with_a_key_and_models_each() -> None:
    environ = {
        "FABRIC_COMPATIBLE": "vllm=http://host:8000/v1, lm-studio=http://localhost:1234/v1/",
        "FABRIC_COMPATIBLE_LM_STUDIO_KEY": KEY,
        "FABRIC_COMPATIBLE_LM_STUDIO_LOCAL": "yes",
        "FABRIC_COMPATIBLE_LM_STUDIO_MODELS": "llama3:8b, bge-m3:embedding",
    }
    models = (
        DeclaredModel(ModelId("llama3:8b"), Modality.TEXT),
        DeclaredModel(ModelId("bge-m3"), Modality.EMBEDDING),
    )
    assert provider_settings(environ).compatible == (
        CompatibleServer(name="vllm", url="http://host:8000/v1"),
        CompatibleServer(name="lm-studio", url="http://localhost:1234/v1", key=KEY, models=models, is_local=True),
    )


def test_other_routers_are_named_with_a_key_each() -> None:
    environ = {"FABRIC_ROUTERS": "attic=attic.lan:3002", "FABRIC_ROUTERS_ATTIC_KEY": KEY}
    assert provider_settings(environ).routers == (FabricRouter(name="attic", target="attic.lan:3002", key=KEY),)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:11434"),
        ("0.0.0.0:11500", "http://127.0.0.1:11500"),
        ("gpu.lan", "http://gpu.lan:11434"),
        ("https://gpu.lan", "https://gpu.lan"),
        ("[::1]:11434", "http://[::1]:11434"),
    ],
)
def test_ollama_host_is_read_as_its_own_client_does(host: str, url: str) -> None:
    assert provider_settings({"OLLAMA_HOST": host}).ollama_url == url


@pytest.mark.parametrize(
    ("environ", "variable", "why"),
    [
        ({"FABRIC_COMPATIBLE": "http://host:8000/v1"}, "FABRIC_COMPATIBLE", "write name=address"),
        ({"FABRIC_COMPATIBLE": "vllm=host:8000"}, "FABRIC_COMPATIBLE", "use http://host:port"),
        ({"FABRIC_COMPATIBLE": "openai=http://host/v1"}, "FABRIC_COMPATIBLE", "names 'openai'"),
        ({"FABRIC_COMPATIBLE": "a=http://b, a=http://c"}, "FABRIC_COMPATIBLE", "names 'a' twice"),
        ({"FABRIC_ROUTERS": "attic=attic.lan"}, "FABRIC_ROUTERS", "use host:port"),
        ({"FABRIC_COMPATIBLE": "a=http://b", "FABRIC_ROUTERS": "a=b:1"}, "FABRIC_ROUTERS", "choose another name"),
        ({"FABRIC_COMPATIBLE_GROQ_KEY": KEY}, "FABRIC_COMPATIBLE_GROQ_KEY", "belongs to nothing"),
        ({"FABRIC_ORGANIZATION_KEYS": "perhaps"}, "FABRIC_ORGANIZATION_KEYS", "use yes or no"),
        ({"OPENAI_BASE_URL": "api.openai.com"}, "OPENAI_BASE_URL", "use http://host:port"),
        ({"OPENAI_BASE_URL": "http://host:port"}, "OPENAI_BASE_URL", "use http://host:port"),
        ({"COMFYUI_URL": f"http://me:{KEY}@host"}, "COMFYUI_URL", "password in its URL"),
    ],
)
def test_a_bad_value_stops_the_start_and_names_the_variable(environ: dict[str, str], variable: str, why: str) -> None:
    with pytest.raises(InputInvalid, match=f"^{variable}: .*{why}") as caught:
        provider_settings(environ)
    assert KEY not in caught.value.message


def test_a_router_reads_them_beside_its_own() -> None:
    environ = {
        "OPENAI_API_KEY": KEY,
        "FABRIC_ORGANIZATION_KEYS": "yes",
        "FABRIC_COMPATIBLE": "a=http://b/v1",
        "FABRIC_COMPATIBLE_A_LOCAL": "yes",
        "FABRIC_NODES": "n:1",
    }
    settings = RouterSettings.load(environ)
    assert (settings.providers.nodes, settings.providers.openai_api_key) == (("n:1",), KEY)
    assert [(server.name, server.is_local) for server in settings.providers.compatible] == [("a", True)]
    assert settings.providers.organization_keys


def test_keys_do_not_show_in_the_settings_text() -> None:
    environ = {
        "OPENAI_API_KEY": KEY,
        "ANTHROPIC_API_KEY": KEY,
        "FABRIC_COMPATIBLE": "a=http://b/v1",
        "FABRIC_COMPATIBLE_A_KEY": KEY,
        "FABRIC_ROUTERS": "c=d:1",
        "FABRIC_ROUTERS_C_KEY": KEY,
    }
    assert KEY not in repr(RouterSettings.load(environ))


def test_local_servers_have_what_they_need_beside_their_url() -> None:
    environ = {
        "OLLAMA_URL": "http://localhost:11434",
        "FABRIC_OLLAMA_PULL": "llama3.2, nomic-embed-text",
        "COMFYUI_URL": "http://localhost:8188",
        "FABRIC_COMFYUI_WORKFLOW": "/etc/flux.json",
        "FABRIC_ROUTERS": "attic=attic.lan:3002",
        "FABRIC_ROUTERS_ATTIC_CA": "/etc/attic.pem",
    }
    settings = provider_settings(environ)
    assert settings.ollama_pull == ("llama3.2", "nomic-embed-text")
    assert settings.comfyui_workflow == Path("/etc/flux.json")
    assert settings.routers == (FabricRouter(name="attic", target="attic.lan:3002", authority=Path("/etc/attic.pem")),)
    assert RouterSettings.load(environ).vendors.ollama_pull == settings.ollama_pull
