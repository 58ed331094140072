"""How a format of answers is asked for: OpenAI's `response_format`, with a pattern and a grammar beside it.

Source: https://platform.openai.com/docs/api-reference/chat/create. Not about keeping to one (node/engines/text/formats.py).
"""

import json
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from protos.types import ResponseFormat

MAX_DEFINITION: Final = 65_536  # characters, as the text engine takes


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def _not_too_long(schema: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    length = len(_text(schema))
    if length > MAX_DEFINITION:
        raise PydanticCustomError(
            "unsupported",
            "has {length} characters as JSON: send at most {limit}",
            {"length": length, "limit": MAX_DEFINITION},
        )
    return schema


def _text(schema: dict[str, Any]) -> str:  # Any: JSON
    """In the order it came in: so the answer's fields will be."""
    return json.dumps(schema, ensure_ascii=False)


class PlainFormat(_Strict):
    """Any text."""

    type: Literal["text"]

    def asked(self) -> ResponseFormat | None:
        return None


class JsonObjectFormat(_Strict):
    """Any JSON object."""

    type: Literal["json_object"]

    def asked(self) -> ResponseFormat | None:
        return ResponseFormat("json_object")


class NamedSchema(_Strict):
    name: str = Field(default="answer", pattern="^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    schema_: Annotated[dict[str, Any], AfterValidator(_not_too_long)] = Field(alias="schema")  # Any: JSON
    strict: bool | None = Field(default=None, description="for vendors; here an answer keeps to all of the schema")


class JsonSchemaFormat(_Strict):
    """JSON that is valid by a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema

    def asked(self) -> ResponseFormat | None:
        schema = self.json_schema
        return ResponseFormat("json_schema", _text(schema.schema_), schema.name, schema.strict or False)


class RegexFormat(_Strict):
    """Text that the pattern matches as a whole. No look-around, no back references."""

    type: Literal["regex"]
    regex: str = Field(min_length=1, max_length=MAX_DEFINITION)

    def asked(self) -> ResponseFormat | None:
        return ResponseFormat("regex", self.regex)


class GrammarFormat(_Strict):
    """Text of a context-free grammar, in Lark's notation (it begins at `start`) or llama.cpp's GBNF (at `root`)."""

    type: Literal["grammar"]
    grammar: str = Field(min_length=1, max_length=MAX_DEFINITION)

    def asked(self) -> ResponseFormat | None:
        return ResponseFormat("grammar", self.grammar)


AskedFormat: TypeAlias = Annotated[
    PlainFormat | JsonObjectFormat | JsonSchemaFormat | RegexFormat | GrammarFormat, Field(discriminator="type")
]
