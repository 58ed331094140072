"""Offers of one taste refuse the same requests: a route asks one of them and believes it of all."""

from collections import defaultdict
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.types import ImageRequest, Modality, ModelId, OrganizationId, TaskRequest, TextRequest
from providers.anthropic import anthropic_provider
from providers.base import Offer
from providers.catalog import load_catalog
from providers.compatible import compatible_provider
from providers.openai import openai_provider
from providers.settings import CompatibleServer, DeclaredModel


def no_key(_organization: OrganizationId, _variable: str) -> str | None:
    return None


def offers() -> Iterator[Offer]:
    catalog = load_catalog()
    yield from openai_provider("https://openai.invalid/v1", catalog, no_key).snapshot().offers
    yield from anthropic_provider("https://anthropic.invalid", catalog, no_key).snapshot().offers
    for name in ("vllm", "vllm-2", "groq", "other"):
        models = (DeclaredModel(ModelId("m"), Modality.TEXT),)
        server = CompatibleServer(name=name, url="http://127.0.0.1:1/v1", models=models)
        yield from compatible_provider(server, catalog).snapshot().offers


OFFERS = list(offers())

TEXTS = st.builds(
    TextRequest,
    prompt=st.just("hello"),
    max_tokens=st.sampled_from([None, 10, 10_000, 1_000_000]),
    temperature=st.sampled_from([0.0, 1.0, 1.5]),
    top_k=st.sampled_from([0, 5]),
    min_p=st.sampled_from([0.0, 0.1]),
    stop=st.sampled_from([(), ("a",), tuple("abcdef")]),
    seed=st.sampled_from([None, 1]),
    logprobs=st.sampled_from([None, 5, 25]),
    n=st.sampled_from([1, 3]),
)
PICTURES = st.builds(
    ImageRequest,
    prompt=st.just("a cat"),
    width=st.sampled_from([512, 1024]),
    height=st.just(1024),
    n=st.sampled_from([1, 4, 20]),
    steps=st.sampled_from([None, 4]),
)


@pytest.mark.parametrize(("modality", "requests"), [(Modality.TEXT, TEXTS), (Modality.IMAGE, PICTURES)])
@given(data=st.data())
def test_offers_of_one_taste_refuse_the_same(
    modality: Modality, requests: st.SearchStrategy[TaskRequest], data: st.DataObject
) -> None:
    request = data.draw(requests)
    verdicts: defaultdict[str, set[bool]] = defaultdict(set)
    for offer in OFFERS:
        if offer.modality is modality:
            verdicts[offer.taste].add(offer.refusal(request) is None)
    assert "" not in verdicts
    assert all(len(found) == 1 for found in verdicts.values())


def test_servers_of_one_kind_have_one_taste_and_another_kind_has_another() -> None:
    vllm, second, groq = (offer.taste for offer in OFFERS[-4:-1])
    assert vllm == second != groq
