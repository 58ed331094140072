"""What can be known of a request before anything runs: is its input within bounds, can any place here ever serve it. Pure.

Not about which place gets it (router/routing.py) nor about single fields (router/tasks.py).
"""

from collections.abc import Sequence

from protos.errors import InputInvalid, NoProvider
from protos.types import AudioRequest, EmbeddingRequest, ImageRequest, Modality, TaskRequest, TextRequest
from providers.base import Snapshot
from router.jobs import Json
from router.routing import NeverServed, RoutingRequest, order
from router.settings import RouterSettings
from router.tasks import request_of


def checked_request(
    modality: Modality,
    input: Json,  # noqa: A002  # the wire's name
    params: Json,
    settings: RouterSettings,
) -> TaskRequest:
    """The request that the JSON means. Raises InputInvalid."""
    request = request_of(modality, input, params)
    check_bounds(request, settings)
    return request


def check_bounds(request: TaskRequest, settings: RouterSettings) -> None:
    """Raises InputInvalid for more text than the settings allow."""
    chars = sum(map(len, _texts(request)))
    if chars > settings.input_chars:
        raise InputInvalid.at("input", f"has {chars} characters of text: at most {settings.input_chars}")


def check_servable(request: RoutingRequest, snapshots: Sequence[Snapshot]) -> None:
    """Raises ModelNotFound or NeverServed when no place here can ever serve it. What nobody serves just now passes: a
    durable job waits, for instance for a node that still starts."""
    try:
        order(request, snapshots)
    except NeverServed:
        raise
    except NoProvider:
        return


def _texts(request: TaskRequest) -> Sequence[str]:
    match request:
        case TextRequest(prompt=prompt, messages=messages):
            return [prompt or "", *(message.content for message in messages)]
        case EmbeddingRequest(texts=texts):
            return texts
        case ImageRequest(prompt=prompt, negative_prompt=negative_prompt):
            return [prompt, negative_prompt]
        case AudioRequest(prompt=prompt):
            return [prompt]
