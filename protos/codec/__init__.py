"""gRPC messages to dataclasses and back. The only place that knows both.

`*_message` makes a message, `*_from` reads one. Not about statuses (grpc_status.py) nor about calls (node/rpc.py, providers/node.py).
"""

from protos.codec.events import CHUNK_BYTES, EventReader, event_messages
from protos.codec.status import (
    estimate_from,
    estimate_message,
    model_from,
    model_message,
    status_from,
    status_message,
)
from protos.codec.tasks import task_from, task_message

__all__ = [
    "CHUNK_BYTES",
    "EventReader",
    "estimate_from",
    "estimate_message",
    "event_messages",
    "model_from",
    "model_message",
    "status_from",
    "status_message",
    "task_from",
    "task_message",
]
