"""What every remote provider gets around it, one concern a file: limits, retries, a breaker, a meter, timeouts, hedges.

Not about one vendor (its own file), nor about which place gets a task (router/routing.py).
"""

from collections.abc import Callable

from providers.base import Provider
from providers.remote import MAX_CALLS
from providers.wrappers.breaking import Breaking
from providers.wrappers.hedged import Hedged
from providers.wrappers.limited import Limited
from providers.wrappers.metered import Metered
from providers.wrappers.retrying import Retrying
from providers.wrappers.stack import Layer, Wrapped
from providers.wrappers.timed import Timed

__all__ = ["Breaking", "Hedged", "Layer", "Limited", "Metered", "Retrying", "Timed", "Wrapped", "guarded"]


def guarded(vendor: Provider, on_change: Callable[[], None], *, is_free: bool = False) -> Provider:
    """A vendor as the router uses it. The outermost first: a retry waits outside the limit and counts for the breaker."""
    layers: list[Layer] = [Retrying(), Breaking(on_change), Limited(MAX_CALLS), Metered(), Timed()]
    return Wrapped(vendor, [Hedged(), *layers] if is_free else layers)
