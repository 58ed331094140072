"""Workflows with open places: what fills them, and what is wrong with a file."""

import json
from pathlib import Path

import pytest

from protos.errors import InputInvalid
from providers.workflow import parse_workflow, read_workflow


def node(**inputs: object) -> dict[str, object]:
    return {"class_type": "Any", "inputs": inputs}


def text(**inputs: object) -> str:
    return json.dumps({"1": node(**inputs)})


def test_a_value_alone_keeps_its_type_and_within_a_text_it_is_words() -> None:
    workflow = parse_workflow(text(a="{{steps}}", b="x {{ prompt }} y {{steps}}", c=["2", 0], d=1.5), "w.json")
    assert workflow.filled({"prompt": "a {{seed}} cat", "steps": 4}) == {
        "1": node(a=4, b="x a {{seed}} cat y 4", c=["2", 0], d=1.5)  # what fills a place is not filled again
    }


def test_a_default_stands_where_nothing_is_given() -> None:
    workflow = parse_workflow(text(a="{{prompt}}", b="{{cfg=7.5}}", c='{{negative="low \\"res\\""}}'), "w.json")
    assert workflow.filled({"prompt": "p", "cfg": None}) == {"1": node(a="p", b=7.5, c='low "res"')}
    assert workflow.lacking({}) == ["prompt"]
    assert workflow.takes == {"prompt", "cfg", "negative"}


def test_the_one_that_ships_needs_a_prompt_a_seed_a_checkpoint_and_an_id() -> None:
    workflow = read_workflow(None)
    assert workflow.lacking({}) == ["seed", "checkpoint", "prompt", "id"]
    filled = workflow.filled({"prompt": "a cat", "seed": 7, "checkpoint": "sd15.safetensors", "id": "t-0"})
    assert filled["3"]["inputs"]["steps"] == 20
    assert filled["7"]["inputs"]["text"] == ""
    assert filled["9"]["inputs"]["filename_prefix"] == "fabric-t-0"
    assert "{{" not in json.dumps(filled)


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ("{", "is not JSON"),
        ("{}", "is not in the API format"),
        ('{"nodes": [], "links": []}', "is not in the API format"),  # what the editor saves by default
        (text(a="{{steps=20}}"), r"has no \{\{prompt\}\}"),
        (text(a="{{prompt}}", b="{{mood}}"), r"has \{\{mood\}\}: there are \{\{prompt\}\}, \{\{negative\}\}"),
        (text(a="{{prompt}}", b="{{cfg=much}}"), "write its default as JSON"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_name(tmp_path: Path, content: str, wrong: str) -> None:
    path = tmp_path / "flux.json"
    path.write_text(content)
    with pytest.raises(InputInvalid, match=wrong) as refused:
        read_workflow(path)
    assert str(path) in refused.value.message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match=r"FABRIC_COMFYUI_WORKFLOW: .*gone\.json cannot be read"):
        read_workflow(tmp_path / "gone.json")
