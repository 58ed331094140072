"""`fabric-node providers`: the places of a running router at a glance, and where a request would go and why.

A client like any other: it knows the router by its URL alone.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx
from rich import box
from rich.console import Console
from rich.table import Table

from protos.errors import InputInvalid, InvalidRequest, NodeUnavailable

_TIMEOUT_S: Final = 10.0
_COLOURS: Final = {"healthy": "green", "degraded": "yellow", "unavailable": "red"}

Json = Mapping[str, Any]  # Any: decoded JSON


def show_providers(url: str, key: str, console: Console) -> None:
    """Raises NodeUnavailable when no router answers, InvalidRequest with what it says when it refuses."""
    with _client(url, key) as client:
        console.print(_table(_answer(client, "GET", "/v1/providers")))


def show_route(url: str, key: str, asked: Json, console: Console) -> None:
    """Where a request would go; raises as `show_providers` does."""
    with _client(url, key) as client:
        route = _answer(client, "POST", "/v1/providers/route", asked)
    if route["refusal"]:
        console.print(f"[red]nobody can have it:[/] {route['refusal']['message']}", highlight=False)
    if route["candidates"]:
        console.print(_choices(route["candidates"]))
    if route["skipped"]:
        console.print(_skipped(route["skipped"]))
    console.print(f"The order: {route['rule']}.", style="dim", highlight=False)


def asked_for(why: str, options: Json) -> Json | None:
    """The request that the options describe, those that are given over what `why` says; None: there are none. Raises
    InputInvalid."""
    given = {name: value for name, value in options.items() if value is not None}
    if not why:
        return {"modality": "text", **given} if given else None
    try:
        request = json.loads(why)
    except ValueError as error:
        raise InputInvalid.at("--why", f"is not JSON ({error}): give a job's body in single quotes") from error
    if not isinstance(request, dict):
        raise InputInvalid.at("--why", f"is {why[:80]!r}: give a JSON object, such as a job's body")
    return {**request, **given}


# ---- asking ----


def _client(url: str, key: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S, trust_env=False)


def _answer(client: httpx.Client, method: str, path: str, body: Json | None = None) -> Any:  # Any: decoded JSON
    try:
        response = client.request(method, path, json=body)
        answer = response.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise NodeUnavailable(
            f"no router answers at {client.base_url} ({error}): start one with `fabric-node up`, or name it with --url"
        ) from error
    if response.is_success and isinstance(answer, dict) and "data" in answer:
        return answer["data"]
    told = answer.get("error") if isinstance(answer, dict) else None
    message = (
        told.get("message") if isinstance(told, dict) else f"an answer that is no router's ({response.status_code})"
    )
    raise InvalidRequest(f"{client.base_url} says: {message}")


# ---- tables ----


def _table(places: Sequence[Json]) -> Table:
    table = Table(box=box.SIMPLE, caption="a request: of medium size, at the default model")
    for column in ("place", "tier", "modalities", "models", "a request", "health"):
        table.add_column(column, overflow="fold")
    for place in places:
        table.add_row(
            place["id"],
            place["tier"],
            ", ".join(place["modalities"]) or "-",
            _models(place),
            _price(place),
            _health(place),
        )
    return table


def _models(place: Json) -> str:
    count = len(place["models"])
    return f"{count}: {place['model']}{', ...' if count > 1 else ''}" if count else "-"


def _price(place: Json) -> str:
    cost = place["estimated_cost_per_request"]
    if cost:
        return f"${cost:.6f}".rstrip("0")
    return "free" if place["tier"] == "basic" else "not known"


def _health(place: Json) -> str:
    status, reason = place["health"]["status"], place["health"]["reason"]
    return f"[{_COLOURS.get(status, 'white')}]{status}[/]{f': {reason}' if reason else ''}"


def _choices(candidates: Sequence[Json]) -> Table:
    table = Table(box=box.SIMPLE, title="would be asked, in this order", title_justify="left")
    for column in ("", "place", "model", "ends in", "because it"):
        table.add_column(column, overflow="fold")
    for number, each in enumerate(candidates, 1):
        ends = "-" if each["expected_s"] is None else f"{each['expected_s']:.1f} s"
        table.add_row(str(number), each["provider_id"], each["model"], ends, each["reason"])
    return table


def _skipped(skipped: Sequence[Json]) -> Table:
    table = Table(box=box.SIMPLE, title="not asked", title_justify="left")
    table.add_column("place")
    table.add_column("because it", overflow="fold")
    for each in skipped:
        table.add_row(each["provider_id"], each["reason"])
    return table
