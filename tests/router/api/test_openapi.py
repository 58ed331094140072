"""The OpenAPI document is true: whatever it allows is answered, and only as it says."""

from collections.abc import Iterator
from typing import Final

import httpx
import pytest
import schemathesis
from apart import answering_apart
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from router.app import build_app
from router.settings import RouterSettings

EXAMPLES: Final = 6  # of each call
ENDLESS: Final = "/v1/events/stream"

DOCUMENT: Final = schemathesis.openapi.from_dict(build_app(RouterSettings(nodes=())).openapi())
CALLS: Final = {
    operation.ok().label: operation.ok()
    for operation in DOCUMENT.get_all_operations()
    if operation.ok().path != ENDLESS
}


def no_defect(_context: schemathesis.CheckContext, response: schemathesis.Response, _case: schemathesis.Case) -> None:
    """503 is an answer: nothing serves that tier or model now. Any other 5xx is a defect of ours."""
    is_defect = response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR
    assert not is_defect or response.status_code == httpx.codes.SERVICE_UNAVAILABLE, response.text


CHECKS: Final = [no_defect, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with answering_apart(tmp_path_factory.mktemp("openapi")) as url:
        yield url


@pytest.mark.parametrize("call", CALLS)
def test_every_answer_is_documented(url: str, call: str) -> None:
    @given(case=CALLS[call].as_strategy())
    @settings(max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def answered_as_documented(case: schemathesis.Case) -> None:
        case.call_and_validate(base_url=url, checks=CHECKS)

    answered_as_documented()
