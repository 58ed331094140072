"""Which addresses and URLs may be called."""

import ipaddress

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.targets import Allowed, TargetRefused, judge, shown
from router.urls import checked_url

NOTHING = Allowed()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1", "a loopback address"),
        ("0.0.0.0", "an address of this network"),
        ("10.1.2.3", "a private address"),
        ("100.64.0.1", "a carrier's shared address"),
        ("169.254.169.254", "a link-local address"),
        ("224.0.0.1", "a multicast address"),
        ("255.255.255.255", "a reserved address"),
        ("192.0.0.8", "a reserved address"),
        ("::1", "a loopback address"),
        ("::", "the unspecified address"),
        ("::ffff:8.8.8.8", "an IPv4 address in IPv6 spelling"),
        ("::127.0.0.1", "an IPv4 address in IPv6 spelling"),
        ("64:ff9b::7f00:1", "a NAT64 address"),
        ("2002:7f00:1::", "a 6to4 address"),
        ("2001:0:1::1", "a protocol's address"),
        ("fd00::1", "a private address"),
        ("fe80::1", "a link-local address"),
        ("2606:4700::1%eth0", "an address of one network interface"),
        ("ff02::1", "a multicast address"),
        ("100::1", "a reserved address"),
        ("localhost", "not an address"),
        ("2130706433", "not an address"),
    ],
)
def test_an_address_that_is_not_public_is_named_for_what_it_is(address: str, reason: str) -> None:
    assert judge(address) == reason


@pytest.mark.parametrize("address", ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1", "2a00:1450::1"])
def test_a_public_address_passes(address: str) -> None:
    assert judge(address) is None


@given(st.ip_addresses())
def test_what_passes_is_global_unicast(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if judge(str(address)) is None:
        assert address.is_global
        special = ("private", "loopback", "link_local", "multicast", "reserved", "unspecified")
        assert not [kind for kind in special if getattr(address, f"is_{kind}")]


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_inside_an_ipv6_one_never_passes(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    embedded = (number, 0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80)
    assert all(judge(str(ipaddress.IPv6Address(each))) for each in embedded)


@given(st.ip_addresses())
def test_the_same_address_is_judged_the_same_whatever_its_spelling(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert judge(address.exploded) == judge(address.compressed)


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("ftp://example.com/x", "is neither http nor https"),
        ("/relative", "is neither http nor https"),
        ("https://user:secret@example.com/", "holds credentials"),
        ("https://", "has the host ''"),
        ("http://2130706433/", "has the host '2130706433'"),
        ("http://127.1/", "has the host '127.1'"),
        ("http://0177.0.0.1/", "is not a URL: Invalid IPv4"),
        ("http://0x7f.0.0.1/", "leads to|has the host"),
        ("http://0x7f000001/", "has the host '0x7f000001'"),
        ("http://127.0.0.1./", "has the host '127.0.0.1.'"),
        ("http://%31%32%37.0.0.1/", "has the host"),
        ("http://[fe80::1%25eth0]/", "has the host 'fe80::1%25eth0'"),
        ("http://exa mple/", "has the host"),
        ("http://example.com:99999/", "has the port 99999"),
        ("http://example.com:0/", "has the port 0"),
        ("http://\uff11\uff12\uff17.0.0.1/", "is not a URL"),
        ("http://[::1/", "is not a URL"),
        ("https://example.com/" + "x" * 2000, "has 2020 characters"),
        ("http://127.0.0.1:9000/hook", "leads to 127.0.0.1, a loopback address: only public"),
        ("http://[::ffff:7f00:1]/", "an IPv4 address in IPv6 spelling"),
        ("http://169.254.169.254/latest", "a link-local address.*FABRIC_ALLOW_PRIVATE_TARGETS"),
    ],
)
def test_a_url_that_can_never_be_called_is_refused_at_its_field(url: str, wrong: str) -> None:
    with pytest.raises(TargetRefused, match=wrong) as refused:
        checked_url(url, "webhook_url", NOTHING)
    assert refused.value.message.startswith("webhook_url: ")
    assert "secret" not in refused.value.message


@pytest.mark.parametrize(
    "url", ["https://example.com/a?b=c", "http://8.8.8.8:8080", "https://exämple.com", "https://[2606:4700::1]/"]
)
def test_a_public_url_passes(url: str) -> None:
    assert checked_url(url, "url", NOTHING) == httpx.URL(url)


def test_the_setting_lets_through_what_it_names_and_nothing_else() -> None:
    allowed = Allowed.of(["10.0.0.0/8", "127.0.0.1", "Receiver.internal"])
    assert allowed.refusal("any", "10.9.8.7") is None
    assert allowed.refusal("any", "127.0.0.1") is None
    assert allowed.refusal("receiver.internal", "192.168.0.1") is None
    assert allowed.refusal("any", "127.0.0.2") == "a loopback address"
    assert allowed.refusal("other.internal", "192.168.0.1") == "a private address"


def test_true_allows_every_address_and_false_only_the_public() -> None:
    assert Allowed.of(["true"]).refusal("any", "::1") is None
    assert Allowed.of(["false"]) == Allowed.of([]) == NOTHING


@pytest.mark.parametrize("entries", [["10.0.0.0/99"], ["a b"], ["true", "10.0.0.0/8"], ["127.1"]])
def test_a_setting_that_cannot_be_read_is_named(entries: list[str]) -> None:
    with pytest.raises(ValueError, match=r"has "):
        Allowed.of(entries)


def test_a_url_is_shown_without_its_secrets() -> None:
    assert shown("https://u:p@example.com/hook?token=abc#frag") == "'https://example.com/hook'"
