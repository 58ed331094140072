"""One routing decision among 50 places and 500 models, all that is done for it: what is known of every place, as the router
takes it, then the order. Nothing is called.

    python scripts/bench/routing.py [--places 50] [--models 500] [--decisions 2000]

`default`: no model named; `model`: one that two places have; `alias`: of five candidates; `picky`: params that each place has
to be asked about; each with a text of 400 words to price. `told`: `default` with every reason in words, as `explain` has
them; `snapshots`: what is known of all places, alone. The places are vendors with all their layers, half of them paid, each
with 200 calls behind it. Milliseconds of computing time, as neighbours on the machine take turns with it. Prints a table for
people, then one line of JSON. Aim: 0.3 ms.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
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
from router.routing import Route, RoutingRequest, order

CONTENT = TextRequest(prompt="word " * 400, max_tokens=100)


def registry(count: int, models: int) -> ProviderRegistry:
    """Every place has its part of the models, and the first of the next one's; every second is paid."""
    step = models // 5
    best = Alias("best", tuple(Target(ModelId(f"model-{number * step // 2 * 2}")) for number in range(5)))
    return ProviderRegistry([_place(place, models // count, models) for place in range(count)], [best])


def _place(place: int, each: int, models: int) -> Provider:
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
    seen = Metered()
    for number in range(200):
        seen.add(Seen(time.monotonic(), "it broke" if number % 50 == place else "", 0.2))
    return Wrapped(vendor, [Retrying(), Breaking(), Limited(64), seen, Timed()])


def timed(decide: Callable[[], object], count: int) -> dict[str, float]:
    decide()
    took = []
    for _ in range(count):
        began = time.thread_time_ns()
        decide()
        took.append((time.thread_time_ns() - began) / 1e6)
    cuts = statistics.quantiles(took, n=100)
    return {"p50_ms": round(cuts[49], 4), "p99_ms": round(cuts[98], 4)}


def measured(count: int, models: int, decisions: int) -> dict[str, dict[str, float]]:
    known = registry(count, models)
    asked = RoutingRequest(modality=Modality.TEXT, content=CONTENT)

    def routed(**more: Any) -> Callable[[], Route]:  # Any: fields of a request
        request = replace(asked, **more)
        return lambda: order(request, known.snapshots())

    def told() -> list[str]:
        route = order(asked, known.snapshots())
        return [each.reason for each in (*route.candidates, *route.skipped)]

    return {
        "default": timed(routed(), decisions),
        "model": timed(routed(model="model-20"), decisions),
        "alias": timed(routed(model="best"), decisions),
        "picky": timed(routed(content=replace(CONTENT, seed=1, stop=("x",))), decisions),
        "told": timed(told, decisions),
        "snapshots": timed(known.snapshots, decisions),
    }


def _commit() -> str:
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return git.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--places", type=int, default=50)
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--decisions", type=int, default=2000)
    options = parser.parse_args()
    figures = measured(options.places, options.models, options.decisions)
    for name, row in figures.items():
        print(f"{name:10} {row['p50_ms']:>8} ms p50 {row['p99_ms']:>8} ms p99")
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "load": round(os.getloadavg()[0], 1)}
    asked = {"places": options.places, "models": options.models}
    print(
        json.dumps(
            {
                "bench": "routing",
                **asked,
                **figures,
                **machine,
                "python": platform.python_version(),
                "commit": _commit(),
            }
        )
    )


if __name__ == "__main__":
    main()
