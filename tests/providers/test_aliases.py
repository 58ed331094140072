"""Aliases in models.toml: what they mean, where offers carry them, and each mistake with its place."""

from dataclasses import replace
from pathlib import Path

import pytest

from protos.errors import FabricError, InputInvalid, NotFound
from protos.types import Modality, ModelId, ProviderId, Tier
from providers.aliases import Alias, Naming, Target, read_aliases
from providers.base import Health, Offer, Snapshot
from providers.catalog import load_catalog
from providers.settings import CompatibleServer, DeclaredModel, ProviderSettings

ROOT = Path(__file__).parents[2]
SETTINGS = ProviderSettings(
    nodes=("a:1", "b:2"),
    compatible=(
        CompatibleServer(name="vllm", url="http://v/v1", models=(DeclaredModel(ModelId("org/llama"), Modality.TEXT),)),
        CompatibleServer(name="groq", url="http://g/v1"),
    ),
)


def read(folder: Path, text: str) -> tuple[Alias, ...]:
    path = folder / "models.toml"
    path.write_text('[[model]]\nid = "fabric-chat"\nengine = "text"\n' + text)
    return read_aliases(path, SETTINGS, load_catalog())


def test_candidates_are_models_of_the_file_of_the_price_list_or_of_one_place(tmp_path: Path) -> None:
    listed = '"openai/gpt-4o", "fabric-chat", "org/llama", "groq/any/thing", "node-2/fabric-chat", "echo"'
    (alias,) = read(tmp_path, f'[[alias]]\nid = "best"\ncandidates = [{listed}]\n')
    assert alias.id == "best"
    assert [(each.provider, each.model) for each in alias.candidates] == [
        ("openai", "gpt-4o"),
        (None, "fabric-chat"),
        (None, "org/llama"),
        ("groq", "any/thing"),
        ("node-2", "fabric-chat"),
        (None, "echo"),
    ]


def test_the_file_that_ships_has_small_and_best() -> None:
    aliases = read_aliases(ROOT / "models.toml", ProviderSettings(), load_catalog())
    assert [alias.id for alias in aliases] == ["small", "best"]


def test_without_aliases_there_are_none(tmp_path: Path) -> None:
    assert read(tmp_path, "") == ()


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ('id = "x"\ncandidates = ["gpt-99"]', "alias 'x': candidates", "'gpt-99', which is no model of this file"),
        ('id = "x"\ncandidates = ["openai/llama"]', "alias 'x': candidates", "openai does not have: it has"),
        ('id = "x"\ncandidates = ["vllm/other"]', "alias 'x': candidates", "vllm does not have: it has org/llama"),
        ('id = "x"\ncandidates = ["ollama/"]', "alias 'x': candidates", "which ollama does not have"),
        ('id = "x"\ncandidates = ["node-3/m"]', "alias 'x': candidates", "is no model of this file"),
        ('id = "x"\ncandidates = []', "alias 'x': candidates", "give a list of model names"),
        ('id = "x"\ncandidates = "gpt-4o"', "alias 'x': candidates", "give a list of model names"),
        ('id = "x"', "alias 'x': candidates", "is None"),
        ('id = "gpt-4o"\ncandidates = ["echo"]', "alias 'gpt-4o': id", "is the name of a model"),
        ('id = "fabric-chat"\ncandidates = ["echo"]', "alias 'fabric-chat': id", "is the name of a model"),
        ('id = "x"\ncandidates = ["echo"]\n[[alias]]\nid = "x"\ncandidates = ["echo"]', "alias 'x': id", "twice"),
        ('candidates = ["echo"]', "[[alias]] number 1: id", "give a name"),
        ('id = "x"\nmodels = ["echo"]', "alias 'x': models", "the keys are id, candidates"),
    ],
)
def test_a_mistake_is_named_with_file_entry_and_key(tmp_path: Path, text: str, place: str, says: str) -> None:
    with pytest.raises(InputInvalid) as refused:
        read(tmp_path, f"[[alias]]\n{text}\n")
    assert f"{tmp_path}/models.toml: {place}" in refused.value.message
    assert says in refused.value.message


def test_what_is_no_list_of_tables_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text("alias = 3")
    with pytest.raises(InputInvalid, match=r"write each as \[\[alias\]\]"):
        read_aliases(path, SETTINGS, load_catalog())


@pytest.mark.parametrize(("content", "error"), [(None, NotFound), (b"[[", InputInvalid), (b"\xff", InputInvalid)])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, error: type[FabricError]) -> None:
    path = tmp_path / "other.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=r"other\.toml"):
        read_aliases(path, SETTINGS, load_catalog())


def snapshot(name: str, *models: str) -> Snapshot:
    offers = tuple(Offer(model=ModelId(model), modality=Modality.TEXT) for model in models)
    return Snapshot(id=ProviderId(name), kind=name, tier=Tier.BASIC, offers=offers, health=Health(status="healthy"))


def test_offers_carry_the_place_that_they_have_among_the_candidates() -> None:
    naming = Naming(
        [Alias("best", (Target(ModelId("b"), ProviderId("openai")), Target(ModelId("a")), Target(ModelId("b"))))]
    )
    ours, theirs = naming.named(snapshot("node", "a", "b", "c")), naming.named(snapshot("openai", "b"))
    assert [dict(offer.aliases) for offer in ours.offers] == [{"best": 1}, {"best": 2}, {}]
    assert [dict(offer.aliases) for offer in theirs.offers] == [{"best": 0}]


def test_what_a_place_offers_anew_is_named_anew() -> None:
    naming = Naming([Alias("best", (Target(ModelId("a")),))])
    first = snapshot("node", "a")
    assert naming.named(first).offers is naming.named(replace(first, is_remote=False)).offers
    assert not naming.named(snapshot("node", "b")).offers[0].aliases
