"""Is an address on this machine? What `privacy: local_only` and keys depend on. Pure: a name is never looked up."""

import ipaddress
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Only what surely never leaves the machine: `localhost`, 127.0.0.0/8 and ::1. Any other name may lead anywhere."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_local(address: str) -> bool:
    """address: a URL, or what gRPC dials: host:port or unix:path."""
    if address.startswith("unix:"):
        return True
    try:
        host = urlsplit(address if "://" in address else f"//{address}").hostname
    except ValueError:  # brackets that do not match
        return False
    return host is not None and is_loopback(host)
