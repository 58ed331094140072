"""The one error tree, with its gRPC and HTTP tables. Codes and statuses live here and nowhere else.

A message says what was wrong, with the value, and what to do. Not about how a status travels (codec, router/api/envelope.py).
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import ClassVar, Final, Self


class Code(StrEnum):
    """Why something failed, as clients see it: `error.code` over HTTP, ErrorInfo.reason over gRPC."""

    INVALID_REQUEST = "invalid_request"
    INPUT_VALIDATION_FAILED = "input_validation_failed"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    MODEL_NOT_FOUND = "model_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    CONFLICT = "conflict"
    JOB_TERMINAL = "job_terminal"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    RANGE_NOT_SATISFIABLE = "range_not_satisfiable"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    OVERLOADED = "overloaded"
    RATE_LIMITED = "rate_limited"
    QUOTA_EXCEEDED = "quota_exceeded"
    DOES_NOT_FIT = "does_not_fit"
    OUT_OF_MEMORY = "out_of_memory"
    LOAD_FAILED = "load_failed"
    DRAINING = "draining"
    NODE_UNAVAILABLE = "node_unavailable"
    NO_PROVIDER = "no_provider"
    STORAGE_UNAVAILABLE = "storage_unavailable"
    VENDOR_REFUSED = "vendor_refused"
    CANCELLED = "cancelled"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    INTERNAL = "internal"


HTTP_STATUS: Final[Mapping[Code, int]] = {
    Code.INVALID_REQUEST: 400,
    Code.INPUT_VALIDATION_FAILED: 400,
    Code.UNAUTHORIZED: 401,
    Code.FORBIDDEN: 403,
    Code.NOT_FOUND: 404,
    Code.MODEL_NOT_FOUND: 404,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.CONFLICT: 409,
    Code.JOB_TERMINAL: 409,
    Code.CANCELLED: 409,
    Code.PAYLOAD_TOO_LARGE: 413,
    Code.UNSUPPORTED_MEDIA_TYPE: 415,
    Code.RANGE_NOT_SATISFIABLE: 416,
    Code.IDEMPOTENCY_KEY_REUSED: 422,
    Code.OVERLOADED: 429,
    Code.RATE_LIMITED: 429,
    Code.QUOTA_EXCEEDED: 429,
    Code.INTERNAL: 500,
    Code.ATTEMPTS_EXHAUSTED: 500,
    Code.VENDOR_REFUSED: 502,
    Code.DOES_NOT_FIT: 503,
    Code.OUT_OF_MEMORY: 503,
    Code.LOAD_FAILED: 503,
    Code.DRAINING: 503,
    Code.NODE_UNAVAILABLE: 503,
    Code.NO_PROVIDER: 503,
    Code.STORAGE_UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}

# Names of grpc.StatusCode, as text: this module is imported where grpc is not.
GRPC_STATUS: Final[Mapping[Code, str]] = {
    Code.INVALID_REQUEST: "INVALID_ARGUMENT",
    Code.INPUT_VALIDATION_FAILED: "INVALID_ARGUMENT",
    Code.PAYLOAD_TOO_LARGE: "INVALID_ARGUMENT",
    Code.UNSUPPORTED_MEDIA_TYPE: "INVALID_ARGUMENT",
    Code.RANGE_NOT_SATISFIABLE: "OUT_OF_RANGE",
    Code.UNAUTHORIZED: "UNAUTHENTICATED",
    Code.FORBIDDEN: "PERMISSION_DENIED",
    Code.NOT_FOUND: "NOT_FOUND",
    Code.MODEL_NOT_FOUND: "NOT_FOUND",
    Code.METHOD_NOT_ALLOWED: "UNIMPLEMENTED",
    Code.CONFLICT: "FAILED_PRECONDITION",
    Code.JOB_TERMINAL: "FAILED_PRECONDITION",
    Code.IDEMPOTENCY_KEY_REUSED: "ALREADY_EXISTS",
    Code.OVERLOADED: "RESOURCE_EXHAUSTED",
    Code.RATE_LIMITED: "RESOURCE_EXHAUSTED",
    Code.QUOTA_EXCEEDED: "RESOURCE_EXHAUSTED",
    Code.DOES_NOT_FIT: "RESOURCE_EXHAUSTED",
    Code.OUT_OF_MEMORY: "RESOURCE_EXHAUSTED",
    Code.LOAD_FAILED: "UNAVAILABLE",
    Code.DRAINING: "UNAVAILABLE",
    Code.NODE_UNAVAILABLE: "UNAVAILABLE",
    Code.NO_PROVIDER: "UNAVAILABLE",
    Code.STORAGE_UNAVAILABLE: "UNAVAILABLE",
    Code.VENDOR_REFUSED: "FAILED_PRECONDITION",
    Code.CANCELLED: "CANCELLED",
    Code.DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED",
    Code.ATTEMPTS_EXHAUSTED: "INTERNAL",
    Code.INTERNAL: "INTERNAL",
}


class FabricError(Exception):
    """Anything that a caller is told. Raise a subclass; its docstring says when it happens.

    `may_have_run`: a paid place may have accepted the task before it failed, so that another call could be paid twice.
    """

    code: ClassVar[Code] = Code.INTERNAL
    retryable: ClassVar[bool] = False  # the same request may succeed later, elsewhere or here

    def __init__(
        self,
        message: str,
        *,
        details: Mapping[str, object] | None = None,
        retry_after_s: float | None = None,
        may_have_run: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, object] = dict(details or {})
        self.retry_after_s = retry_after_s
        self.may_have_run = may_have_run


# ---- the request is wrong ----


class InvalidRequest(FabricError):
    """The request cannot be read: malformed, or not of the shape that the route or call takes."""

    code = Code.INVALID_REQUEST


class InputInvalid(FabricError):
    """A field of the request has a value that cannot be served; `errors` names each field."""

    code = Code.INPUT_VALIDATION_FAILED

    @classmethod
    def at(cls, path: str, message: str) -> Self:
        return cls.of([(path, message)])

    @classmethod
    def of(cls, errors: Sequence[tuple[str, str]]) -> Self:
        """errors: (path, message) for each wrong field, at least one."""
        text = "; ".join(f"{path}: {message}" if path else message for path, message in errors)
        return cls(text, details={"errors": [{"path": path, "message": message} for path, message in errors]})


class Unauthorized(FabricError):
    """The key is missing, unknown, expired or disabled."""

    code = Code.UNAUTHORIZED


class Forbidden(FabricError):
    """The key is good but lacks the scope."""

    code = Code.FORBIDDEN


class NotFound(FabricError):
    """No such resource, or it belongs to another organization."""

    code = Code.NOT_FOUND


class ModelNotFound(FabricError):
    """No place that may serve the request has a model of that name."""

    code = Code.MODEL_NOT_FOUND


class MethodNotAllowed(FabricError):
    """The path exists, but not for this method."""

    code = Code.METHOD_NOT_ALLOWED


class PayloadTooLarge(FabricError):
    """The body, or a part of it, is over its bound in the settings."""

    code = Code.PAYLOAD_TOO_LARGE


class UnsupportedMediaType(FabricError):
    """The content is of a type that the route does not read."""

    code = Code.UNSUPPORTED_MEDIA_TYPE


class RangeNotSatisfiable(FabricError):
    """The part of a file that was asked for lies outside of it."""

    code = Code.RANGE_NOT_SATISFIABLE


class IdempotencyKeyReused(FabricError):
    """The idempotency key already stands for a job with another payload."""

    code = Code.IDEMPOTENCY_KEY_REUSED


# ---- the state does not allow it ----


class Conflict(FabricError):
    """The resource is in a state that does not allow the request."""

    code = Code.CONFLICT


class JobTerminal(FabricError):
    """The job has ended and cannot change any more."""

    code = Code.JOB_TERMINAL


class Cancelled(FabricError):
    """The task was cancelled: by request, by its caller going away, or by the end of a drain."""

    code = Code.CANCELLED


class DeadlineExceeded(FabricError):
    """The task did not end within its timeout_s."""

    code = Code.DEADLINE_EXCEEDED


# ---- there is no room ----


class Overloaded(FabricError):
    """As many tasks wait as may wait. Safe to retry."""

    code, retryable = Code.OVERLOADED, True


class RateLimited(FabricError):
    """The caller sends faster than it may."""

    code, retryable = Code.RATE_LIMITED, True


class QuotaExceeded(FabricError):
    """A budget or a quota is spent."""

    code = Code.QUOTA_EXCEEDED


class DoesNotFit(FabricError):
    """The model or the task needs more memory than the device can ever give."""

    code = Code.DOES_NOT_FIT


class OutOfMemory(FabricError):
    """The device ran out of memory while the task ran, also after it was retried alone."""

    code, retryable = Code.OUT_OF_MEMORY, True


# ---- nobody can serve it now ----


class LoadFailed(FabricError):
    """The model could not be loaded."""

    code, retryable = Code.LOAD_FAILED, True


class Draining(FabricError):
    """The node is shutting down and takes no new tasks."""

    code, retryable = Code.DRAINING, True


class NodeUnavailable(FabricError):
    """The node cannot be reached, went away, or makes no progress."""

    code, retryable = Code.NODE_UNAVAILABLE, True


class NoProvider(FabricError):
    """Nothing that may serve the request can serve it now; `details` says why each candidate was skipped."""

    code, retryable = Code.NO_PROVIDER, True


class VendorRefused(FabricError):
    """A vendor does not serve our account: its key is missing, wrong or lacks a right, or its credit is spent.

    Retryable elsewhere at once; there, when somebody has changed the key or paid.
    """

    code, retryable = Code.VENDOR_REFUSED, True


class StorageUnavailable(FabricError):
    """Files cannot be read or written where assets are kept: the disk is full, or the bucket does not answer."""

    code, retryable = Code.STORAGE_UNAVAILABLE, True


# ---- it broke ----


class AttemptsExhausted(FabricError):
    """The job was started as often as it may be and never reached an end; the message has the last cause."""

    code = Code.ATTEMPTS_EXHAUSTED


class Internal(FabricError):
    """A defect of ours. The log has the stack trace under the request id."""

    code = Code.INTERNAL


def _subclasses(root: type[FabricError]) -> dict[Code, type[FabricError]]:
    return {cls.code: cls for cls in root.__subclasses__()}


ERROR_OF: Final[Mapping[Code, type[FabricError]]] = _subclasses(FabricError)


def error_from(
    code: str,
    message: str,
    details: Mapping[str, object] | None = None,
    retry_after_s: float | None = None,
    *,
    may_have_run: bool = False,
) -> FabricError:
    """The error that another process raised, rebuilt from what travelled. An unknown code becomes Internal."""
    try:
        known = ERROR_OF[Code(code)]
    except ValueError:
        known = Internal
    return known(message, details=details, retry_after_s=retry_after_s, may_have_run=may_have_run)
