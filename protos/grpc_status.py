"""A FabricError as google.rpc.Status and back: how an error crosses gRPC.

Source: google.rpc.ErrorInfo and RetryInfo, https://google.aip.dev/193.
"""

import json
from typing import Final

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from protos.errors import (
    GRPC_STATUS,
    Code,
    DeadlineExceeded,
    FabricError,
    Internal,
    NodeUnavailable,
    error_from,
)

DOMAIN: Final = "fabric.node"
_DETAILS_BYTES: Final = 4096  # of `details` that travel: statuses ride in HTTP/2 trailers, which are bounded at 8 KiB


def to_status(error: FabricError) -> status_pb2.Status:
    """The status that carries the error's code, message, details and retry delay."""
    details = json.dumps(error.details, default=str)
    info = error_details_pb2.ErrorInfo(reason=error.code, domain=DOMAIN)
    if len(details) <= _DETAILS_BYTES:
        info.metadata["details"] = details
    if error.may_have_run:
        info.metadata["may_have_run"] = "true"
    status = status_pb2.Status(code=code_pb2.Code.Value(GRPC_STATUS[error.code]), message=error.message)
    status.details.append(_packed(info))
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration(nanos=0)
        delay.FromMilliseconds(round(error.retry_after_s * 1000))
        status.details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status


def from_rpc_error(error: grpc.RpcError, peer: str) -> FabricError:
    """The error that the peer raised, or what a broken connection means. `peer` names the other side in messages."""
    # AioRpcError answers as a grpc.Call does without being one.
    is_call = isinstance(error, grpc.Call | grpc.aio.AioRpcError)
    status = rpc_status.from_call(error) if is_call else None  # type: ignore[arg-type]  # what it reads, both have
    if status is not None and (rebuilt := _from_status(status)) is not None:
        return rebuilt
    code, text = error.code(), error.details()
    match code:
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(f"{peer} did not answer in time")
        # A peer that cancels says so with its ErrorInfo. A bare CANCELLED is how a dying one's open calls can end.
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
            return NodeUnavailable(f"{peer} cannot be reached ({text}): is it running?")
        case _:
            return Internal(f"{peer} answered {code.name}: {text}")


def to_bytes(error: FabricError) -> bytes:
    """The same status as a field of a message, where one call of many on a stream has ended."""
    data: bytes = to_status(error).SerializeToString()
    return data


def from_bytes(data: bytes, peer: str) -> FabricError:
    """As `from_rpc_error`."""
    status = status_pb2.Status.FromString(data)
    return _from_status(status) or Internal(f"{peer} answered {code_pb2.Code.Name(status.code)}: {status.message}")


def _from_status(status: status_pb2.Status) -> FabricError | None:
    info, retry_after_s = None, None
    for packed in status.details:
        if packed.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            packed.Unpack(info)
        elif packed.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            packed.Unpack(retry)
            retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
    if info is None or info.domain != DOMAIN:
        return None
    known = info.reason if info.reason in {code.value for code in Code} else Code.INTERNAL
    details = json.loads(info.metadata.get("details", "{}"))
    may_have_run = info.metadata.get("may_have_run") == "true"
    return error_from(known, status.message, details, retry_after_s, may_have_run=may_have_run)


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
