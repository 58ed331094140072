"""Who may serve a request, in which order, and that nobody is left without a reason."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.errors import InputInvalid, ModelNotFound, NoProvider
from protos.types import Modality, ModelId, ProviderId, TaskRequest, TextRequest, Tier
from providers.base import Health, Offer, Snapshot, takes_all
from providers.echo import Echo
from providers.pricing import Bounds, Price
from router.quotes import FREE
from router.routing import NeverServed, RoutingRequest, is_unseen, order

TEXT = RoutingRequest(modality=Modality.TEXT)


def place(
    name: str,
    status: str = "healthy",
    *,
    load: int = 0,
    cost: int = 0,
    tier: Tier = Tier.BASIC,
    is_remote: bool = False,
) -> Snapshot:
    price = Price(image_micro=cost) if cost else None  # what a typical request comes to is then just that
    offer = Offer(model=ModelId("m"), modality=Modality.TEXT, is_default=True, max_batch=4, waiting=load, price=price)
    return Snapshot(
        id=ProviderId(name),
        kind="node",
        tier=tier,
        offers=(offer,),
        health=Health(status=status),  # type: ignore[arg-type]  # one of the three
        is_remote=is_remote,
    )


def unseen(name: str) -> Snapshot:
    return Snapshot(id=ProviderId(name), kind="node", tier=Tier.BASIC, offers=(), health=Health(status="unavailable"))


def ids(request: RoutingRequest, *snapshots: Snapshot) -> list[str]:
    return [candidate.provider_id for candidate in order(request, snapshots).candidates]


def test_a_second_default_serves_what_the_first_cannot_take() -> None:
    def refuses(_request: TaskRequest) -> InputInvalid:
        return InputInvalid("params.temperature: is not taken")

    offers = [
        Offer(model=ModelId(name), modality=Modality.TEXT, is_default=True, max_batch=4, refusal=refusal)
        for name, refusal in (("choosy", refuses), ("older", takes_all))
    ]
    both = replace(place("vendor"), offers=offers)
    warm = RoutingRequest(modality=Modality.TEXT, content=TextRequest(prompt="a", temperature=0.5))
    route = order(warm, [both])
    assert [candidate.model for candidate in route.candidates] == ["older"]
    assert [(each.provider_id, "is not taken" in each.reason) for each in route.skipped] == [("vendor", True)]
    assert [candidate.model for candidate in order(replace(warm, model="older"), [both]).candidates] == ["older"]


def test_cost_comes_before_health_and_health_before_load() -> None:
    dear, ill, busy, free = (
        place("dear", cost=5),
        place("ill", "degraded"),
        place("busy", load=9),
        place("free", load=1),
    )
    assert ids(TEXT, dear, ill, busy, free) == ["free", "busy", "ill", "dear"]


def test_equals_keep_the_configured_order() -> None:
    assert ids(TEXT, place("b"), place("a")) == ["b", "a"]


def of_model(snapshot: Snapshot, model: str, **aliases: int) -> Snapshot:
    return replace(snapshot, offers=(replace(snapshot.offers[0], model=ModelId(model), aliases=aliases),))


def test_load_never_decides_between_models_whose_answers_differ() -> None:
    node, ollama = of_model(place("node", load=99), "minilm"), of_model(place("ollama"), "nomic")
    assert ids(TEXT, node, ollama) == ["node", "ollama"]
    assert ids(TEXT, ollama, node) == ["ollama", "node"]


def test_places_of_the_model_that_comes_first_share_its_load_before_another_model_is_asked() -> None:
    busy, other, idle = (
        of_model(place(n, load=load), m) for n, load, m in (("a", 9, "x"), ("b", 0, "y"), ("c", 1, "x"))
    )
    assert ids(TEXT, busy, other, idle) == ["c", "a", "b"]


def test_a_model_keeps_its_rank_while_the_first_place_that_has_it_is_down() -> None:
    down, other, idle = of_model(place("a", "unavailable"), "x"), of_model(place("b"), "y"), of_model(place("c"), "x")
    assert ids(TEXT, down, other, idle) == ["c", "b"]


def test_an_alias_goes_to_its_candidates_in_their_order_whatever_they_cost() -> None:
    asked = RoutingRequest(modality=Modality.TEXT, model="best")
    free, dear, other = (
        of_model(place("free"), "x", best=1),
        of_model(place("dear", cost=9), "y", best=0),
        place("other"),
    )
    route = order(asked, [free, other, dear])
    assert [(each.provider_id, each.model) for each in route.candidates] == [("dear", "y"), ("free", "x")]
    assert route.candidates[0].reason.startswith("is choice 1 of 'best', serves y, costs about $0.000009")
    assert [(each.provider_id, each.reason) for each in route.skipped] == [("other", "has no text model 'best'")]


def test_an_alias_keeps_to_privacy_health_and_the_cost_cap() -> None:
    remote, dear, ill, last = (
        of_model(replace(place("remote", cost=1), is_remote=True), "a", best=0),
        of_model(place("dear", cost=9), "b", best=1),
        of_model(place("ill", "unavailable"), "c", best=2),
        of_model(place("last"), "d", best=3),
    )
    content = TextRequest(prompt="hello")
    dear = replace(dear, offers=(replace(dear.offers[0], price=Price(output_micro=10**9)),))
    asked = RoutingRequest(
        modality=Modality.TEXT, model="best", privacy="local_only", content=content, max_cost_micro=10
    )
    route = order(asked, [remote, dear, ill, last])
    assert [each.provider_id for each in route.candidates] == ["last"]
    assert [each.reason.split(" ")[0:2] for each in route.skipped] == [
        ["is", "remote,"],
        ["may", "cost"],
        ["is", "unavailable:"],
    ]


def test_two_candidates_of_an_alias_at_one_place_are_both_asked() -> None:
    big, small = (replace(place("openai").offers[0], model=ModelId(m), aliases={"best": i}) for i, m in enumerate("bs"))
    asked = RoutingRequest(modality=Modality.TEXT, model="best")
    route = order(asked, [replace(place("openai"), offers=(small, big))])
    assert [each.model for each in route.candidates] == ["b", "s"]


def test_the_tier_asked_for_is_a_must() -> None:
    local, remote = place("local"), place("remote", cost=9, tier=Tier.PREMIUM)
    route = order(RoutingRequest(modality=Modality.TEXT, tier=Tier.PREMIUM), [local, remote])
    assert [candidate.provider_id for candidate in route.candidates] == ["remote"]
    assert [skipped.reason for skipped in route.skipped] == ["is of tier basic, premium was asked for"]


def test_a_local_only_request_never_leaves_the_box() -> None:
    request = RoutingRequest(modality=Modality.TEXT, privacy="local_only")
    with pytest.raises(NeverServed, match="must not leave the box"):
        order(request, [place("remote", tier=Tier.PREMIUM, is_remote=True)])


def test_a_free_place_on_another_machine_is_remote_too() -> None:
    request = RoutingRequest(modality=Modality.TEXT, privacy="local_only")
    route = order(request, [place("ollama-of-a-friend", is_remote=True), place("node")])
    assert [candidate.provider_id for candidate in route.candidates] == ["node"]
    assert [(each.reason, each.is_lasting) for each in route.skipped] == [
        ("is remote, and the request must not leave the box", True)
    ]


def test_a_place_that_does_not_say_where_it_is_counts_as_remote() -> None:
    silent = Snapshot(
        id=ProviderId("new"), kind="new", tier=Tier.BASIC, offers=place("m").offers, health=Health(status="healthy")
    )
    with pytest.raises(NeverServed, match="must not leave the box"):
        order(RoutingRequest(modality=Modality.TEXT, privacy="local_only"), [silent])


def test_echo_serves_only_when_named() -> None:
    echo = Echo().snapshot()
    assert ids(TEXT, echo, place("node")) == ["node"]
    assert ids(RoutingRequest(modality=Modality.TEXT, model="echo"), place("node"), echo) == ["echo"]
    with pytest.raises(NeverServed, match="only requests that name its model"):
        order(TEXT, [echo])


def test_an_unknown_model_names_the_known_ones_of_its_modality() -> None:
    with pytest.raises(ModelNotFound, match="model 'nope' is not here: name one of the text models: echo, m"):
        order(RoutingRequest(modality=Modality.TEXT, model="nope"), [place("node"), Echo().snapshot()])


def test_a_model_of_another_modality_is_said_to_be_that() -> None:
    with pytest.raises(ModelNotFound, match="serves text, not embedding"):
        order(RoutingRequest(modality=Modality.EMBEDDING, model="m"), [place("node")])


def test_a_model_is_not_unknown_while_a_node_still_starts() -> None:
    with pytest.raises(NoProvider, match="late is unavailable") as refused:
        order(RoutingRequest(modality=Modality.TEXT, model="nope"), [place("node"), unseen("late")])
    assert refused.value.retryable


def test_nobody_now_says_why_each_was_skipped() -> None:
    down = replace(place("node"), health=Health(status="unavailable", reason="no status for 3 s"))
    with pytest.raises(NoProvider, match="no status for 3 s") as refused:
        order(TEXT, [down, Echo().snapshot()])
    skipped = refused.value.details["skipped"]
    assert skipped == [
        {"provider_id": "node", "reason": "is unavailable: no status for 3 s"},
        {"provider_id": "echo", "reason": "serves only requests that name its model"},
    ]


def test_without_any_provider_waiting_does_not_help() -> None:
    with pytest.raises(NeverServed, match="no provider is configured"):
        order(TEXT, [])


MODELS = st.sampled_from([ModelId(name) for name in ("a", "b")])
OFFERS = st.builds(
    Offer,
    model=MODELS,
    modality=st.sampled_from([Modality.TEXT, Modality.IMAGE]),
    is_default=st.booleans(),
    max_batch=st.integers(0, 4),
    waiting=st.integers(0, 9),
    running=st.integers(0, 9),
    price=st.none() | st.builds(Price, input_micro=st.integers(0, 10**7), output_micro=st.integers(0, 10**7)),
    aliases=st.dictionaries(st.just("best"), st.integers(0, 3)),
)
SNAPSHOTS = st.lists(
    st.builds(
        Snapshot,
        id=st.integers(0, 99).map(lambda number: ProviderId(f"p{number}")),
        kind=st.just("node"),
        tier=st.sampled_from(Tier),
        offers=st.lists(OFFERS, max_size=6),
        health=st.builds(Health, status=st.sampled_from(["healthy", "degraded", "unavailable"])),
        supports_streaming=st.booleans(),
        only_when_named=st.booleans(),
        is_remote=st.booleans(),
    ),
    max_size=5,
    unique_by=lambda snapshot: snapshot.id,
)
REQUESTS = st.builds(
    RoutingRequest,
    modality=st.sampled_from([Modality.TEXT, Modality.IMAGE]),
    model=st.none() | MODELS | st.just("best"),
    tier=st.none() | st.sampled_from(Tier),
    privacy=st.sampled_from(["any", "local_only"]),
    needs_streaming=st.booleans(),
    content=st.none() | st.builds(TextRequest, prompt=st.text(min_size=1), max_tokens=st.none() | st.integers(1, 9999)),
    max_cost_micro=st.none() | st.integers(0, 10**5),
    paid_before=st.sampled_from([(), ("openai",)]),
)


@given(REQUESTS, SNAPSHOTS)
def test_every_provider_is_a_candidate_or_has_a_reason(request: RoutingRequest, snapshots: list[Snapshot]) -> None:
    try:
        route = order(request, snapshots)
    except ModelNotFound:
        assert not any(is_unseen(snapshot) for snapshot in snapshots)
        return
    except NoProvider as exc:
        skipped: Any = exc.details["skipped"]  # Any: what a client gets
        told = {each["provider_id"]: each["reason"] for each in skipped}
    else:
        told = {each.provider_id: each.reason for each in route.candidates}
        told |= {each.provider_id: each.reason for each in route.skipped}
    assert told.keys() == {snapshot.id for snapshot in snapshots}
    assert all(told.values())


@given(REQUESTS, SNAPSHOTS)
def test_a_candidate_has_all_that_was_asked_for(request: RoutingRequest, snapshots: list[Snapshot]) -> None:
    try:
        route = order(request, snapshots)
    except (NoProvider, ModelNotFound):
        return
    by_id = {snapshot.id: snapshot for snapshot in snapshots}
    ranks = []
    for candidate in route.candidates:
        snapshot = by_id[candidate.provider_id]
        assert snapshot.health.status != "unavailable"
        assert request.tier in (None, snapshot.tier)
        served = [o for o in snapshot.offers if (o.model, o.modality) == (candidate.model, request.modality)]
        assert served
        assert request.model in (None, "best", candidate.model)
        assert request.model or not snapshot.only_when_named
        if request.model == "best":
            assert any("best" in offer.aliases for offer in served)
        else:
            ranks.append(math.inf if candidate.quote is None else candidate.quote.estimated_micro)
    assert ranks == sorted(ranks)


LOADS = st.lists(st.integers(0, 9), min_size=8, max_size=8)


@given(REQUESTS, SNAPSHOTS, LOADS)
def test_load_moves_work_among_the_places_of_a_model_and_never_to_another_model(
    request: RoutingRequest, snapshots: list[Snapshot], loads: list[int]
) -> None:
    """The places of one cost, health and model stand together; under any load the models come in the same order."""
    busier = [
        replace(each, offers=tuple(replace(offer, waiting=load) for offer in each.offers))
        for each, load in zip(snapshots, loads, strict=False)
    ]
    try:
        before, after = order(request, snapshots).candidates, order(request, busier).candidates
    except (NoProvider, ModelNotFound):
        return
    assert [each.model for each in before] == [each.model for each in after]


@given(REQUESTS, SNAPSHOTS)
def test_no_candidate_can_cost_more_than_was_allowed_nor_be_paid_a_second_time(
    request: RoutingRequest, snapshots: list[Snapshot]
) -> None:
    try:
        candidates = order(request, snapshots).candidates
    except (NoProvider, ModelNotFound):
        return
    for candidate in candidates:
        if candidate.is_paid:
            assert not request.paid_before
            if request.max_cost_micro is not None:
                assert candidate.quote is not None
                assert request.content is None or candidate.quote.bound_micro <= request.max_cost_micro
        else:
            assert candidate.quote == FREE or candidate.quote is not None


def test_the_cost_is_of_this_request_and_not_of_a_typical_one() -> None:
    by_input, by_output = (
        replace(place(name), offers=(replace(place(name).offers[0], price=price),))
        for name, price in (("in", Price(input_micro=3_000_000)), ("out", Price(output_micro=1_000_000)))
    )
    long = TextRequest(prompt="word " * 1000, max_tokens=1)
    short = TextRequest(prompt="word", max_tokens=1000)
    assert ids(replace(TEXT, content=long), by_input, by_output) == ["out", "in"]
    assert ids(replace(TEXT, content=short), by_input, by_output) == ["in", "out"]


def test_what_costs_too_much_is_skipped_for_good_and_says_both_amounts() -> None:
    dear = replace(place("dear"), offers=(replace(place("dear").offers[0], price=Price(output_micro=10_000_000)),))
    asked = replace(TEXT, content=TextRequest(prompt="hello", max_tokens=1000), max_cost_micro=9_999)
    with pytest.raises(NeverServed, match=r"dear may cost \$0.01, the request's max_cost_usd is \$0.009999"):
        order(asked, [dear])
    assert ids(replace(asked, max_cost_micro=10_000), dear) == ["dear"]
    assert ids(asked, dear, place("local")) == ["local"]


def test_what_nobody_knows_the_price_of_comes_last_and_not_at_all_under_a_limit() -> None:
    unknown, dear, free = place("unknown", tier=Tier.PREMIUM), place("dear", cost=10**9), place("free")
    assert ids(TEXT, unknown, dear, free) == ["free", "dear", "unknown"]
    assert ids(replace(TEXT, max_cost_micro=10**10), unknown, dear, free) == ["free", "dear"]


def test_nobody_is_paid_for_what_may_have_been_paid_already() -> None:
    asked = replace(TEXT, paid_before=("openai",))
    assert ids(asked, place("dear", cost=1), place("free")) == ["free"]
    with pytest.raises(NeverServed, match="a call of openai may have done this and been paid already"):
        order(asked, [place("dear", cost=1)])


@given(REQUESTS, SNAPSHOTS)
def test_a_local_only_request_has_no_remote_candidate_whatever_else_it_asks(
    request: RoutingRequest, snapshots: list[Snapshot]
) -> None:
    try:
        route = order(replace(request, privacy="local_only"), snapshots)
    except (NoProvider, ModelNotFound):
        return
    here = {snapshot.id for snapshot in snapshots if not snapshot.is_remote}
    assert {candidate.provider_id for candidate in route.candidates} <= here


def choosy(snapshot: Snapshot, field: str) -> Snapshot:
    """The place, whose model takes everything but one param."""

    def refusal(request: TaskRequest) -> InputInvalid | None:
        return InputInvalid.at(f"params.{field}", "is not taken here") if getattr(request, field) else None

    return replace(snapshot, offers=(replace(snapshot.offers[0], refusal=refusal),))


def test_a_place_that_cannot_take_a_param_is_skipped_with_that_as_its_reason() -> None:
    asked = replace(TEXT, content=TextRequest(prompt="hello", top_k=5))
    route = order(asked, [choosy(place("no-top-k"), "top_k"), place("any", cost=9)])
    assert [each.provider_id for each in route.candidates] == ["any"]
    assert [(each.provider_id, each.reason) for each in route.skipped] == [
        ("no-top-k", "cannot take it: params.top_k: is not taken here")
    ]
    assert ids(replace(asked, content=TextRequest(prompt="hello")), choosy(place("plain"), "top_k")) == ["plain"]


def test_what_nobody_that_has_the_model_can_take_is_an_error_of_the_request() -> None:
    asked = replace(TEXT, content=TextRequest(prompt="hello", top_k=5))
    with pytest.raises(InputInvalid, match=r"params\.top_k") as refused:
        order(asked, [choosy(place("one"), "top_k"), Echo().snapshot(), choosy(place("two"), "top_k")])
    assert refused.value.details["errors"] == [{"path": "params.top_k", "message": "is not taken here"}]


def test_a_text_that_is_surely_longer_than_a_context_goes_where_there_is_room() -> None:
    def reads(name: str, tokens: int) -> Snapshot:
        return replace(place(name), offers=(replace(place(name).offers[0], context_tokens=tokens),))

    asked = replace(TEXT, content=TextRequest(prompt="word " * 3000))
    route = order(asked, [reads("small", 1024), reads("near", 2900), reads("unknown", 0)])
    assert [each.provider_id for each in route.candidates] == ["near", "unknown"]  # what is near it says itself
    assert "tokens long: m reads 1024 at most" in route.skipped[0].reason


def test_a_limit_of_the_answer_is_a_capability() -> None:
    short = replace(place("short"), offers=(replace(place("short").offers[0], bounds=Bounds(max_output_tokens=100)),))
    asked = replace(TEXT, content=TextRequest(prompt="hello", max_tokens=101))
    assert ids(asked, short, place("long")) == ["long"]
    assert ids(replace(asked, content=TextRequest(prompt="hello", max_tokens=100)), short) == ["short"]


def test_a_route_says_whether_the_content_may_change_it() -> None:
    assert not order(TEXT, [place("free")]).depends_on_content
    assert order(TEXT, [place("free"), place("paid", cost=1)]).depends_on_content
    assert order(TEXT, [choosy(place("choosy"), "top_k")]).depends_on_content
    assert not order(replace(TEXT, content=TextRequest(prompt="x")), [place("paid", cost=1)]).depends_on_content


def test_of_places_of_one_taste_one_is_asked_while_it_takes_the_request_and_each_says_its_own_refusal() -> None:
    asked: list[str] = []

    def of_taste(name: str) -> Snapshot:
        def refusal(request: TaskRequest) -> InputInvalid | None:
            asked.append(name)
            top_k = isinstance(request, TextRequest) and request.top_k
            return InputInvalid.at("params.top_k", f"is not taken by {name}") if top_k else None

        offer = replace(place(name).offers[0], refusal=refusal, taste="one")
        return replace(place(name), offers=(offer,))

    first, second = of_taste("first"), of_taste("second")
    content = TextRequest(prompt="hello", seed=1)
    assert (ids(replace(TEXT, content=content), first, second), asked) == (["first", "second"], ["first"])
    route = order(replace(TEXT, content=replace(content, top_k=5)), [first, second, place("any")])
    assert [each.reason for each in route.skipped] == [
        "cannot take it: params.top_k: is not taken by first",
        "cannot take it: params.top_k: is not taken by second",
    ]


def test_a_vendor_without_a_key_of_whoever_asks_is_skipped_with_what_to_set() -> None:
    keyless = replace(place("openai", cost=1), key_variable="OPENAI_API_KEY", lacks_key=True)
    route = order(TEXT, [keyless, place("node")])
    assert [each.provider_id for each in route.candidates] == ["node"]
    told = "has no key: set OPENAI_API_KEY, or store it as a secret of the organization"
    assert [(each.provider_id, each.reason) for each in route.skipped] == [("openai", told)]
    with pytest.raises(NeverServed, match="set OPENAI_API_KEY"):
        order(TEXT, [keyless])
