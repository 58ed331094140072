"""What a task used, or is assumed to use, as a message and back."""

from protos.fabric.node.v1 import node_pb2 as pb
from protos.types import Usage


def usage_message(usage: Usage) -> pb.Usage:
    return pb.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        audio_seconds=usage.audio_seconds,
        images=usage.images,
        device_seconds=usage.device_seconds,
    )


def usage_from(message: pb.Usage) -> Usage:
    return Usage(
        input_tokens=message.input_tokens,
        output_tokens=message.output_tokens,
        cached_tokens=message.cached_tokens,
        reasoning_tokens=message.reasoning_tokens,
        audio_seconds=message.audio_seconds,
        images=message.images,
        device_seconds=message.device_seconds,
    )
