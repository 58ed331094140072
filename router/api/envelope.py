"""The one shape of every answer: {"data", "meta"} or {"error", "meta", "data": null}, framework errors included.

Codes and statuses come from protos/errors.py. Not about what `data` holds (one file per resource).
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final, Generic, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from protos.errors import (
    HTTP_STATUS,
    Code,
    FabricError,
    InputInvalid,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
)

Data = TypeVar("Data")


class Meta(BaseModel):
    request_id: str = Field(description="the caller's own x-request-id, or a new one; also a header of the answer")
    status: int


class Success(BaseModel, Generic[Data]):
    data: Data
    meta: Meta


class Error(BaseModel):
    code: Code
    message: str = Field(description="what was wrong, with the value, and what to do")
    details: dict[str, Any] = Field(default_factory=dict, description="of a bad input: errors [{path, message}]")


class Failure(BaseModel):
    """Every answer that is not a success, the framework's own included."""

    error: Error
    meta: Meta
    data: None = None


# For FastAPI(responses=...): one documented shape for every error of every route.
ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    "default": {"model": Failure, "description": "Any error: `error.code` says which, `error.message` what to do"}
}


def request_id_of(request: Request) -> str:
    """Given by the gate to every request."""
    return str(request.state.request_id)


def success(
    request: Request, data: BaseModel | list[BaseModel], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer that carries `data`. A response, not a value: the data is validated once, when its model is made."""
    meta = json.dumps({"request_id": request_id_of(request), "status": status})
    # Text to text: as dictionaries between, a job's answer would take twice as long.
    return Response(f'{{"data":{_json(data)},"meta":{meta}}}', status, headers, "application/json")


def _json(data: BaseModel | list[BaseModel]) -> str:
    return (
        f"[{','.join(item.model_dump_json() for item in data)}]" if isinstance(data, list) else data.model_dump_json()
    )


def failure(error: FabricError, request_id: str) -> JSONResponse:
    """The answer that tells of an error."""
    status = HTTP_STATUS[error.code]
    shown: dict[str, Any] = {"code": error.code, "message": error.message}  # Any: details are JSON of any shape
    if error.details:
        shown["details"] = error.details
    body = {"error": shown, "meta": {"request_id": request_id, "status": status}, "data": None}
    return JSONResponse(body, status, dict(failure_headers(error)))


def failure_headers(error: FabricError) -> Iterator[tuple[str, str]]:
    """What goes with an error, in any dialect."""
    if error.retry_after_s is not None:
        yield "retry-after", str(math.ceil(error.retry_after_s))
    elif HTTP_STATUS[error.code] == HTTP_STATUS[Code.OVERLOADED]:
        yield "retry-after", str(_RETRY_AFTER_S)
    if error.code is Code.JOB_TERMINAL:
        yield "x-should-retry", "false"
    if error.code is Code.UNAUTHORIZED:
        yield "www-authenticate", "Bearer"


_RETRY_AFTER_S: Final = 1  # when the error itself does not know


# ---- what the framework raises ----


def install(app: FastAPI) -> None:
    """Makes the app answer every exception in the envelope. Defects (any other Exception) are the gate's."""
    app.add_exception_handler(FabricError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_error)
    app.add_exception_handler(HTTPException, _on_error)


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    answer = failure(translated(request, error), request_id_of(request))
    if isinstance(error, HTTPException) and error.headers:
        answer.headers.update(error.headers)  # Allow, of a 405
    return answer


def translated(request: Request, error: Exception) -> FabricError:
    """What the framework raised, as an error of ours."""
    match error:
        case FabricError():
            return error
        case RequestValidationError():
            return _from_validation(error)
        case HTTPException(status_code=404):
            return NotFound(f"there is no {request.url.path}: /docs lists what there is")
        case HTTPException(status_code=405):
            return MethodNotAllowed(f"{request.url.path} does not take {request.method}: /docs lists what it takes")
        case HTTPException(status_code=413):
            return PayloadTooLarge(error.detail)
        case HTTPException():
            return InvalidRequest(f"the body cannot be read ({error.__cause__ or error.detail}): send JSON, in UTF-8")
        case _:
            raise AssertionError(f"no handler is installed for {type(error).__name__}: this is a bug")


def _from_validation(error: RequestValidationError) -> FabricError:
    details = error.errors()
    for detail in details:
        if detail["type"] == "json_invalid":
            position, why = detail["loc"][-1], detail["ctx"]["error"]
            return InvalidRequest(f"the body is not valid JSON: {why} at character {position}")
    return InputInvalid.of([_named(detail) for detail in details])


def _named(detail: Mapping[str, Any]) -> tuple[str, str]:  # Any: pydantic's error details
    """(path, message) of one error, the path without where it was found: "priority", not "body.priority"."""
    path = ".".join(str(part) for part in detail["loc"][1:])
    match detail["type"]:
        case "missing":
            return path, "is missing" if path else "the body is missing: send a JSON object"
        case "extra_forbidden":
            return path, "is not known here: check the spelling, or leave it out"
        case "model_attributes_type" | "dict_type" if not path:
            return path, "the body must be a JSON object"
        case _:
            return path, f"{detail['msg'].removeprefix('Input ')}, got {_shown(detail['input'])}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
