"""Which URLs given by callers may be called: public addresses, and those that the settings name. Pure.

A caller's URL is called from inside: without this it reaches the machine itself, its network and its cloud's metadata
(server-side request forgery). Not about names and connections (outbound.py), where each resolved address is judged again.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from protos.errors import InputInvalid

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SETTING: Final = "FABRIC_ALLOW_PRIVATE_TARGETS"
URL_CHARS: Final = 2000


class TargetRefused(InputInvalid):
    """The URL is of a kind that is never called, or leads to an address that may not be called."""


# ---- addresses ----

# Explicit, as is_global of the standard library differs between releases of one Python version.
# Source: the IANA special-purpose address registries (RFC 6890 and its updates) and RFC 5771 (multicast).
_REFUSED_V4: Final = tuple(
    (ipaddress.IPv4Network(network), what)
    for network, what in (
        ("0.0.0.0/8", "an address of this network"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "a carrier's shared address"),
        ("127.0.0.0/8", "a loopback address"),
        ("169.254.0.0/16", "a link-local address"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "a reserved address"),
        ("192.0.2.0/24", "a documentation address"),
        ("192.88.99.0/24", "a 6to4 relay address"),
        ("192.168.0.0/16", "a private address"),
        ("198.18.0.0/15", "a benchmarking address"),
        ("198.51.100.0/24", "a documentation address"),
        ("203.0.113.0/24", "a documentation address"),
        ("224.0.0.0/4", "a multicast address"),
        ("240.0.0.0/4", "a reserved address"),
    )
)
_GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")  # all global unicast; anything outside is special
_REFUSED_V6: Final = tuple(
    (ipaddress.IPv6Network(network), what)
    for network, what in (
        ("::1/128", "a loopback address"),
        ("::/128", "the unspecified address"),
        ("::ffff:0:0/96", "an IPv4 address in IPv6 spelling"),
        ("::/96", "an IPv4 address in IPv6 spelling"),
        ("64:ff9b::/96", "a NAT64 address"),
        ("64:ff9b:1::/48", "a NAT64 address"),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a private address"),
        ("ff00::/8", "a multicast address"),
        ("2001::/23", "a protocol's address"),  # Teredo, ORCHID and others
        ("2001:db8::/32", "a documentation address"),
        ("2002::/16", "a 6to4 address"),
        ("3fff::/20", "a documentation address"),
    )
)


def judge(address: str) -> str | None:
    """Why the address is not a public one, such as "a loopback address"; None when it is."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "not an address"
    if isinstance(parsed, ipaddress.IPv4Address):
        return next((what for network, what in _REFUSED_V4 if parsed in network), None)
    if parsed.scope_id is not None:
        return "an address of one network interface"
    special = next((what for network, what in _REFUSED_V6 if parsed in network), None)
    return special if special or parsed in _GLOBAL_V6 else "a reserved address"


# ---- what the settings allow ----


@dataclass(frozen=True, slots=True)
class Allowed:
    """The targets that may be called though they are not public."""

    everything: bool = False
    networks: Sequence[Network] = ()
    hosts: frozenset[str] = frozenset()

    @classmethod
    def of(cls, entries: Sequence[str]) -> "Allowed":
        """From the setting: `true`, `false`, or networks ("10.0.0.0/8"), addresses and host names. Raises ValueError
        that names the entry."""
        words = {entry.lower() for entry in entries}
        if words & _SWITCHES.keys():
            if len(words) > 1:
                raise ValueError(
                    f"has {', '.join(sorted(words & _SWITCHES.keys()))} beside others: give one or the other"
                )
            return cls(everything=_SWITCHES[words.pop()])
        networks = {word: _network(word) for word in words}
        hosts = frozenset(word for word, network in networks.items() if network is None)
        if wrong := sorted(word for word in hosts if not is_name(word)):
            raise ValueError(f"has {wrong[0]!r}: give true, a network such as 10.0.0.0/8, an address or a host name")
        return cls(networks=tuple(network for network in networks.values() if network), hosts=hosts)

    def refusal(self, host: str, address: str) -> str | None:
        """Why `host` may not be called at `address`; None when it may."""
        if self.everything or host in self.hosts:
            return None
        reason = judge(address)
        return reason if reason is None or not self._has(address) else None

    def _has(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self.networks)


_SWITCHES: Final = {"true": True, "false": False}


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


# ---- URLs ----

_NAME: Final = re.compile(
    r"(?=.{1,253}\.?$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.?"
)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")


def refused(field: str, url: str, address: str, reason: str) -> TargetRefused:
    return TargetRefused.at(
        field,
        f"{shown(url)} leads to {address}, {reason}: only public addresses are called, unless {SETTING} of the router "
        "names the address, its network or its host",
    )


def is_address(host: str) -> bool:
    try:
        return getattr(ipaddress.ip_address(host), "scope_id", None) is None
    except ValueError:
        return False


def is_name(host: str) -> bool:
    """A DNS name. One that ends in a number is an address to some resolvers: 2130706433, 0177.0.0.1, 0x7f.1 are
    127.0.0.1. Source: the WHATWG URL standard, "ends in a number"."""
    last = host.removesuffix(".").rpartition(".")[2]
    return _NAME.fullmatch(host) is not None and _NUMBER.fullmatch(last) is None


def shown(url: str) -> str:
    """The URL in a message: without its credentials and its query, which may be secrets, and not too long."""
    bare = re.sub(r"//[^/@]*@", "//", url.partition("?")[0].partition("#")[0])
    return repr(bare if len(bare) <= 100 else bare[:97] + "...")
