"""One routing decision among 50 places and 500 models, all that is done for it: what is known of every place, as the router
takes it, then the order, and the first candidate with what it costs. Nothing is called. Before each decision a call has ended
at one of the places, as in traffic.

    python scripts/bench/routing.py [--places 50] [--models 500] [--rounds 3] [--decisions 500]

`default`: no model named; `model`: one that two places have; `alias`: of five candidates; `picky`: params that each place has
to be asked about; each with a text of 400 words to price. `told`: `default` with every reason in words, as `explain` has
them; `snapshots`: what is known of all places, alone. The places are vendors with all their layers, half of them paid, each
with 200 calls behind it. Milliseconds of computing time, as neighbours on the machine take turns with it: of each round the
median.
"""
# minutes: 1

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from protos.types import Modality, ModelId, ProviderId, TextRequest, Tier
from providers.aliases import Alias, Target
from providers.base import Provider
from providers.catalog import VendorModel
from providers.keys import VendorKey
from providers.openai_wire import Dialect, OpenAIWire
from providers.pricing import Price
from providers.registry import ProviderRegistry
from providers.remote import Remote
from providers.wrappers import Breaking, Limited, Metered, Retrying, Timed, Wrapped
from providers.wrappers.metered import Seen
from router.candidates import Candidate
from router.routing import RoutingRequest, order
from scripts.bench.lib.report import Row, publish

CONTENT = TextRequest(prompt="word " * 400, max_tokens=100)


@dataclass(frozen=True, slots=True)
class Known:
    """The places, and what has been seen of the calls of each."""

    registry: ProviderRegistry
    seen: Sequence[Metered]

    @classmethod
    def of(cls, count: int, models: int) -> "Known":
        """Every place has its part of the models, and the first of the next one's; every second is paid."""
        step = models // 5
        best = Alias("best", tuple(Target(ModelId(f"model-{number * step // 2 * 2}")) for number in range(5)))
        seen = [_seen(place) for place in range(count)]
        places = [_place(place, models // count, models, seen[place]) for place in range(count)]
        return cls(ProviderRegistry(places, [best]), seen)


def _seen(place: int) -> Metered:
    seen = Metered()
    for number in range(200):
        seen.add(Seen(time.monotonic(), "it broke" if number % 50 == place else "", 0.2))
    return seen


def _place(place: int, each: int, models: int, seen: Metered) -> Provider:
    name, is_paid = ProviderId(f"place-{place}"), place % 2 == 1
    wire = OpenAIWire(Dialect(vendor=name, base_url="https://nowhere.invalid/v1", key_variable="KEY"))
    listed = [
        VendorModel(
            vendor=name,
            id=ModelId(f"model-{(place * each + number) % models}"),
            modality=Modality.TEXT if number % 2 == 0 else Modality.EMBEDDING,
            is_default=number < 2,
            context_tokens=128_000,
            price=Price(input_micro=100_000 + place, output_micro=400_000) if is_paid else None,
        )
        for number in range(each + 1)
    ]
    key = VendorKey(name, "KEY", lambda _organization, _variable: None, fixed="")
    vendor = Remote(name, "compatible", wire, key, listed, tier=Tier.PREMIUM if is_paid else Tier.BASIC)
    return Wrapped(vendor, [Retrying(), Breaking(), Limited(64), seen, Timed()])


def timed(decide: Callable[[], object], seen: Sequence[Metered], count: int) -> float:
    """Median milliseconds."""
    decide()
    took = []
    for number in range(count):
        seen[number % len(seen)].add(Seen(time.monotonic(), "", 0.2))
        began = time.thread_time_ns()
        decide()
        took.append((time.thread_time_ns() - began) / 1e6)
    return statistics.median(took)


def ways(registry: ProviderRegistry) -> Mapping[str, Callable[[], object]]:
    """What is decided, by its name."""
    asked = RoutingRequest(modality=Modality.TEXT, content=CONTENT)

    def routed(**more: Any) -> Callable[[], Candidate]:  # Any: fields of a request
        request = replace(asked, **more)
        return lambda: order(request, registry.snapshots()).candidates[0]

    def told() -> list[str]:
        route = order(asked, registry.snapshots())
        return [each.reason for each in route.candidates] + [each.reason for each in route.skipped]

    return {
        "default": routed(),
        "model": routed(model="model-20"),
        "alias": routed(model="best"),
        "picky": routed(content=replace(CONTENT, seed=1, stop=("x",))),
        "told": told,
        "snapshots": registry.snapshots,
    }


def row(name: str, values: Sequence[float], places: int, models: int) -> Row:
    work = f"one routing decision, {places} places, {models} models: {name}"
    at_most = 0.3 if name in ("default", "model", "alias", "picky") else None
    return Row(work=work, peer="", measure="computing time p50", values=values, unit="ms", at_most=at_most)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--places", type=int, default=50)
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--decisions", type=int, default=500)
    options = parser.parse_args()
    known = Known.of(options.places, options.models)
    decisions = ways(known.registry)
    found: dict[str, list[float]] = {name: [] for name in decisions}
    for _ in range(options.rounds):
        for name, decide in decisions.items():
            found[name].append(timed(decide, known.seen, options.decisions))
    rows = [row(name, values, options.places, options.models) for name, values in found.items()]
    publish("routing", rows, decisions=options.decisions)


if __name__ == "__main__":
    main()
