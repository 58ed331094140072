"""Models are found by name or by modality, and sizes are said as people say them."""

import pytest

from node.engine import ModelSpec
from node.entries import Entry, find, size
from protos.errors import ModelNotFound
from protos.types import Modality, ModelId

TALK = Entry(ModelSpec(id=ModelId("talk"), engine="fake", modality=Modality.TEXT), None)


@pytest.mark.parametrize(
    ("name", "modality", "says"),
    [
        (None, Modality.TEXT, "no default model for text: name one of talk"),
        (None, Modality.IMAGE, "no model for image: send the task to another"),
        (ModelId("gpt"), None, "no model 'gpt': it has talk"),
        (ModelId("talk"), Modality.IMAGE, "is for text, not image, and this node has none"),
        (ModelId("gpt"), Modality.IMAGE, "no model 'gpt': it has none for image"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(name: ModelId | None, modality: Modality | None, says: str) -> None:
    with pytest.raises(ModelNotFound, match=says):
        find([TALK], name, modality)


@pytest.mark.parametrize(
    ("count", "says"), [(1000, "1000 bytes"), (73_606_000, "70.2 MiB"), (3 << 29, "1.50 GiB")], ids=str
)
def test_a_size_is_said_in_the_unit_that_shows_it(count: int, says: str) -> None:
    assert size(count) == says
