"""prices.toml and a user's own file: what ships can be trusted, and what is wrong is named."""

import datetime
from pathlib import Path

import pytest

from protos.errors import InputInvalid
from protos.types import Modality, ModelId, ProviderId, Usage
from providers.catalog import Catalog, load_catalog, read_catalog
from providers.pricing import Price, cost_micro

OPENAI, ANTHROPIC = ProviderId("openai"), ProviderId("anthropic")
OWN = """
version = 1
[[model]]
vendor = "groq"
id = "llama"
modality = "text"
takes = { top_k = "top_k" }
input_micro = 59_000
output_micro = 79_000
as_of = 2026-01-31
source = "https://groq.com/pricing"
[[model]]
vendor = "openai"
id = "gpt-4o"
modality = "text"
"""


@pytest.fixture(scope="module")
def shipped() -> Catalog:
    return load_catalog()


def test_every_price_that_ships_has_a_day_and_a_source(shipped: Catalog) -> None:
    models = [*shipped.of(OPENAI), *shipped.of(ANTHROPIC)]
    assert len(models) > 30
    for model in models:
        assert model.price is not None, model.id
        assert model.price.source.startswith("https://"), model.id
        assert datetime.date(2025, 1, 1) < model.price.as_of, model.id


def test_a_vendor_has_a_default_of_each_modality_that_it_serves(shipped: Catalog) -> None:
    for vendor, modalities in ((OPENAI, set(Modality)), (ANTHROPIC, {Modality.TEXT})):
        assert {model.modality for model in shipped.of(vendor) if model.is_default} == modalities


def test_text_models_say_how_much_they_read_and_write(shipped: Catalog) -> None:
    for model in [*shipped.of(OPENAI), *shipped.of(ANTHROPIC)]:
        if model.modality is Modality.TEXT:
            assert 0 < model.bounds.max_output_tokens <= model.context_tokens, model.id
            assert model.price
            assert 0 < model.price.input_micro < model.price.output_micro, model.id


def test_a_published_price_is_there_to_the_microdollar(shipped: Catalog) -> None:
    model = shipped.find(OPENAI, ModelId("gpt-4o-mini"))
    assert model
    assert model.price
    assert (model.price.input_micro, model.price.cached_micro, model.price.output_micro) == (150_000, 75_000, 600_000)


def test_the_defaults_are_models_that_are_there(shipped: Catalog) -> None:
    """Of text also one whose end nobody has announced: see the head of the file."""
    defaults = [(model.modality, model.id) for model in shipped.of(OPENAI) if model.is_default]
    assert defaults == [
        ("text", "gpt-6-luna"),
        ("text", "gpt-4o-mini"),
        ("embedding", "text-embedding-3-small"),
        ("image", "gpt-image-2.6-sunburst"),
        ("audio", "whisper-1"),
    ]


def test_another_name_of_a_model_is_the_same_model_and_no_default(shipped: Catalog) -> None:
    model = shipped.find(OPENAI, ModelId("gpt-4o-mini"))
    dated = shipped.find(OPENAI, ModelId("gpt-4o-mini-2024-07-18"))
    assert model
    assert dated
    assert (dated.price, dated.context_tokens, dated.is_default) == (model.price, model.context_tokens, False)


def test_the_owners_of_a_model_are_known_without_its_vendor(shipped: Catalog) -> None:
    assert [model.vendor for model in shipped.owners(ModelId("whisper-1"))] == [OPENAI]
    assert shipped.owners(ModelId("gone")) == []


def test_the_users_file_adds_models_and_replaces_others(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(OWN)
    catalog = load_catalog(path)
    llama = catalog.find(ProviderId("groq"), ModelId("llama"))
    assert llama
    assert llama.price == Price(
        input_micro=59_000,
        output_micro=79_000,
        as_of=datetime.date(2026, 1, 31),
        source="https://groq.com/pricing",
    )
    assert llama.takes == {"top_k": "top_k"}
    replaced = catalog.find(OPENAI, ModelId("gpt-4o"))
    assert replaced
    assert replaced.price is None
    assert catalog.find(OPENAI, ModelId("gpt-4.1"))


def test_a_kind_of_server_is_known_by_the_name_that_it_is_given(shipped: Catalog) -> None:
    assert shipped.server("vllm").takes["top_k"] == "top_k"
    assert shipped.server("vllm-2") == shipped.server("vllm")
    assert shipped.server("llamacpp").takes["repetition_penalty"] == "repeat_penalty"
    assert shipped.server("groq").takes == {}


HEAD = 'version = 1\n[[model]]\nvendor = "v"\nid = "m"\nmodality = "text"\n'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("version = ", "is not TOML"),
        ("version = 2", "version 2: this release reads version = 1"),
        ("version = 1\nmodels = []", "has 'models'"),
        ('version = 1\n[[model]]\nvendor = "v"', "has no id"),
        (HEAD + "colour = 1", "has 'colour': the keys are"),
        (HEAD + 'input_micro = "1"', "input_micro = '1': use a value of type int"),
        (HEAD + "input_micro = 0.15", "input_micro = 0.15: use a value of type int"),
        (HEAD + "input_micro = -1", "use 0 or more"),
        (HEAD + "size_micro = { a = -1 }", "use 0 or more"),
        (HEAD + "input_micro = 1", "a price without as_of and source"),
        ("version = 1\n[[server]]\ntakes = {}", "has no name"),
        ("version = 1\n[[server]]\nname = 1", "name = 1: use a value of type str"),
        (HEAD.replace("text", "smell"), "modality = 'smell': use one of text"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(text: str, why: str) -> None:
    with pytest.raises(InputInvalid, match=f"^own.toml.*{why}"):
        read_catalog(text, "own.toml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match=r"^FABRIC_PRICES: .*gone\.toml cannot be read"):
        load_catalog(tmp_path / "gone.toml")


def test_a_model_that_was_shut_down_is_not_offered_and_its_price_is_still_known(shipped: Catalog) -> None:
    assert ModelId("gpt-4") not in {model.id for model in shipped.of(OPENAI)}
    (gone,) = shipped.owners(ModelId("gpt-4"))
    assert gone.price is not None
    assert gone.price.input_micro == 30_000_000


def test_a_request_that_reads_more_than_a_border_has_its_own_price(shipped: Catalog) -> None:
    (luna,) = shipped.owners(ModelId("gpt-6-luna"))
    assert luna.price is not None
    short, long = (Usage(input_tokens=read, output_tokens=1_000, cached_tokens=100_000) for read in (272_000, 272_001))
    assert cost_micro(short, luna.price) == 17_200 + 1_000 + 500
    assert cost_micro(long, luna.price) == 34_401 + 2_000 + 750  # all of it, rounded up once


def test_the_border_and_its_prices_come_together() -> None:
    with pytest.raises(InputInvalid, match="has some of long_tokens"):
        read_catalog(
            'version = 1\n[[model]]\nvendor = "v"\nid = "m"\nmodality = "text"\nlong_tokens = 5\n', "prices.toml"
        )
