"""The error tree is complete: each code has one class, an HTTP status and a gRPC status."""

from http import HTTPStatus

import grpc
import pytest

from protos import errors
from protos.errors import ERROR_OF, GRPC_STATUS, HTTP_STATUS, Code, FabricError, InputInvalid, Internal, error_from

CLASSES = FabricError.__subclasses__()


def test_every_code_has_one_class() -> None:
    assert sorted(cls.code for cls in CLASSES) == sorted(Code)
    assert set(ERROR_OF) == set(Code)


def test_every_code_has_a_status_in_both_tables() -> None:
    assert set(HTTP_STATUS) == set(Code)
    assert set(GRPC_STATUS) == set(Code)


def test_the_statuses_exist() -> None:
    for status in HTTP_STATUS.values():
        assert 400 <= HTTPStatus(status) < 600
    assert set(GRPC_STATUS.values()) <= {status.name for status in grpc.StatusCode}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_says_when_it_happens(cls: type[FabricError]) -> None:
    assert cls.__doc__
    assert cls.__doc__.strip().endswith((".", ")"))
    assert cls.__module__ == errors.__name__


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_an_error_is_rebuilt_from_what_travels(cls: type[FabricError]) -> None:
    rebuilt = error_from(cls.code, "why", {"a": 1}, 2.5, may_have_run=True)
    assert type(rebuilt) is cls
    assert (rebuilt.message, rebuilt.details, rebuilt.retry_after_s) == ("why", {"a": 1}, 2.5)
    assert rebuilt.may_have_run


def test_a_code_of_a_newer_peer_is_internal() -> None:
    assert type(error_from("moon_phase", "why")) is Internal


def test_wrong_fields_are_all_named() -> None:
    error = InputInvalid.of([("a", "is 1"), ("b", "is 2")])
    assert error.message == "a: is 1; b: is 2"
    assert error.details == {"errors": [{"path": "a", "message": "is 1"}, {"path": "b", "message": "is 2"}]}
