"""Webhook secrets, and the two signatures that they make. Pure but for new secrets.

Source: the official client's verify_signature (HMAC of the raw body, keyed with the whole secret string), and
https://www.standardwebhooks.com (keyed with the decoded secret).
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from standardwebhooks.webhooks import Webhook as StandardWebhook

from protos.errors import InputInvalid

PREFIX: Final = "whsec_"
PLACEHOLDER: Final = "whsec_..."  # printed so in the official client's samples: a secret is made then
_BYTES: Final = 32
_MIN_BYTES, _MAX_BYTES = 16, 64  # Standard Webhooks makes them of 24 to 64


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(_BYTES)).decode()


def checked_secret(given: str, field: str) -> str:
    """Raises InputInvalid, which does not show the secret."""
    if not given.startswith(PREFIX):
        raise InputInvalid.at(field, f"does not begin with {PREFIX}: leave it out, and one is made")
    try:
        key = base64.b64decode(given.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise InputInvalid.at(field, f"is not base64 behind {PREFIX}: leave it out, and one is made") from None
    if not _MIN_BYTES <= len(key) <= _MAX_BYTES:
        raise InputInvalid.at(field, f"has {len(key)} bytes: use {_MIN_BYTES} to {_MAX_BYTES}, or leave it out")
    return given


def body_signature(body: bytes, secret: str) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def standard_headers(message_id: str, body: bytes, secret: str, now: float) -> Mapping[str, str]:
    """Made anew for each attempt: receivers refuse a timestamp that is minutes old. The id stays: they know a repeat
    by it."""
    moment = datetime.fromtimestamp(int(now), UTC)  # in UTC: the library takes any other zone's clock for it
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": StandardWebhook(secret).sign(message_id, moment, body.decode()),
    }
