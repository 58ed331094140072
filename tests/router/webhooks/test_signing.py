"""Secrets, and signatures that others verify."""

import base64
import time

import pytest
from fabric_platform.webhooks import verify_signature
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from protos.errors import InputInvalid
from router.webhooks.signing import body_signature, checked_secret, new_secret, standard_headers


@given(st.binary(max_size=200))
def test_the_official_client_verifies_the_signature_of_the_body(body: bytes) -> None:
    secret = new_secret()
    assert verify_signature(body, body_signature(body, secret), secret)
    assert not verify_signature(body + b"x", body_signature(body, secret), secret)
    assert not verify_signature(body, body_signature(body, secret), new_secret())


def test_the_standard_library_verifies_its_own_and_refuses_what_was_changed() -> None:
    secret, body = new_secret(), '{"text": "naïve"}'.encode()
    headers = dict(standard_headers("evt_1", body, secret, time.time()))
    assert Webhook(secret).verify(body, headers) == {"text": "naïve"}
    for changed in ({"webhook-id": "evt_2"}, {"webhook-timestamp": str(int(time.time()) - 60)}):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, headers | changed)


def test_a_later_attempt_keeps_the_id_and_has_a_time_and_a_signature_of_its_own() -> None:
    secret = new_secret()
    first, second = (standard_headers("evt_1", b"{}", secret, now) for now in (1000.9, 2000.0))
    assert first["webhook-id"] == second["webhook-id"]
    assert (first["webhook-timestamp"], second["webhook-timestamp"]) == ("1000", "2000")
    assert first["webhook-signature"] != second["webhook-signature"]


def test_a_new_secret_is_one_that_may_be_given() -> None:
    secret = new_secret()
    assert checked_secret(secret, "secret") == secret
    assert secret != new_secret()


@pytest.mark.parametrize(
    ("given_secret", "wrong"),
    [
        ("c2VjcmV0", "does not begin with whsec_"),
        ("whsec_not base64!", "is not base64 behind whsec_"),
        ("whsec_abcde", "is not base64"),
        ("whsec_", "has 0 bytes"),
        ("whsec_" + base64.b64encode(b"short").decode(), "has 5 bytes"),
        ("whsec_" + base64.b64encode(b"x" * 65).decode(), "has 65 bytes"),
    ],
)
def test_a_secret_that_cannot_be_is_refused_without_showing_it(given_secret: str, wrong: str) -> None:
    with pytest.raises(InputInvalid, match=wrong) as refused:
        checked_secret(given_secret, "secret")
    assert given_secret.removeprefix("whsec_") not in refused.value.message or given_secret == "whsec_"
