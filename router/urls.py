"""A URL given by a caller, as far as its text tells whether it may be called. Pure.

Not about addresses (targets.py). Apart from it, so that reading the settings does not import an HTTP client.
"""

from typing import Final

import httpx

from router.targets import URL_CHARS, Allowed, TargetRefused, is_address, is_name, refused, shown

_MAX_PORT: Final = 65535


def checked_url(url: str, field: str, allowed: Allowed) -> httpx.URL:
    """The URL, when it may be called as far as its text tells: a name's addresses are judged when it is called. Raises
    TargetRefused at `field`."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as exc:
        raise TargetRefused.at(field, f"{shown(url)} is not a URL: {exc}") from exc
    if (wrong := _wrong(url, parsed)) is not None:
        raise TargetRefused.at(field, f"{shown(url)} {wrong}")
    host = ascii_host(parsed)
    if is_address(host) and (reason := allowed.refusal(host, host)) is not None:
        raise refused(field, url, host, reason)
    return parsed


def ascii_host(url: httpx.URL) -> str:
    """As it is looked up: a name with other letters in its IDNA form."""
    return url.raw_host.decode("ascii")


def _wrong(url: str, parsed: httpx.URL) -> str | None:
    if len(url) > URL_CHARS:
        return f"has {len(url)} characters: at most {URL_CHARS}"
    if parsed.scheme not in ("http", "https"):
        return "is neither http nor https: use one of them"
    if parsed.userinfo:
        return "holds credentials: leave them out, a URL is logged and shown"
    host = ascii_host(parsed)
    if not (is_address(host) or is_name(host)):
        return f"has the host {host[:80]!r}: use a name, or an address in its usual spelling"
    if parsed.port is not None and not 0 < parsed.port <= _MAX_PORT:
        return f"has the port {parsed.port}: use 1 to {_MAX_PORT}, or leave it out"
    return None
