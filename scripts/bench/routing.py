"""One routing decision among 50 places and 500 models: how long it takes, without any call.

    python scripts/bench/routing.py [--places 50] [--models 500] [--decisions 2000]

`default`: no model named; `model`: one that two places have; `alias`: of five candidates; each with a text of 400 words to
price, and `snapshots`: what is known of all places, taken as the router takes it. Prints a table for people, then one line
of JSON. Aim: 0.3 ms.
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

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from protos.types import Modality, ModelId, ProviderId, TextRequest, Tier
from providers.aliases import Alias, Naming, Target
from providers.base import Health, Offer, Snapshot
from providers.pricing import Price
from router.routing import RoutingRequest, order

CONTENT = TextRequest(prompt="word " * 400, max_tokens=100)


def places(count: int, models: int) -> list[Snapshot]:
    """Every place has its part of the models, and the first of the next one's; every second is paid."""
    each = models // count
    return [
        Snapshot(
            id=ProviderId(f"place-{place}"),
            kind="node",
            tier=Tier.PREMIUM if place % 2 else Tier.BASIC,
            offers=tuple(
                Offer(
                    model=ModelId(f"model-{(place * each + number) % models}"),
                    modality=Modality.TEXT if number % 2 == 0 else Modality.EMBEDDING,
                    is_default=number < 2,
                    max_batch=16,
                    waiting=place % 5,
                    price=Price(input_micro=100_000 + place, output_micro=400_000) if place % 2 else None,
                )
                for number in range(each + 1)
            ),
            health=Health(status="degraded" if place % 7 == 0 else "healthy"),
            is_remote=place % 2 == 1,
        )
        for place in range(count)
    ]


def timed(decide: Callable[[], object], count: int) -> dict[str, float]:
    decide()
    took = []
    for _ in range(count):
        began = time.perf_counter()
        decide()
        took.append((time.perf_counter() - began) * 1000)
    cuts = statistics.quantiles(took, n=100)
    return {"p50_ms": round(cuts[49], 4), "p99_ms": round(cuts[98], 4)}


def measured(count: int, models: int, decisions: int) -> dict[str, dict[str, float]]:
    known = places(count, models)
    step = models // 5
    naming = Naming([Alias("best", tuple(Target(ModelId(f"model-{number * step // 2 * 2}")) for number in range(5)))])
    named = [naming.named(each) for each in known]
    asked = RoutingRequest(modality=Modality.TEXT, content=CONTENT)
    return {
        "default": timed(lambda: order(asked, named), decisions),
        "model": timed(lambda: order(replace(asked, model="model-20"), named), decisions),
        "alias": timed(lambda: order(replace(asked, model="best"), named), decisions),
        "snapshots": timed(lambda: [naming.named(each) for each in known], decisions),
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
