"""Answers held to a JSON schema, a pattern or a grammar: which tokens may come next. llguidance knows the grammars.

Not about how one of them is chosen (sampler.py).
"""

import json
from functools import lru_cache
from typing import Final, assert_never

import numpy as np
from llguidance import LLMatcher, LLParserLimits
from llguidance.gbnf_to_lark import any_to_lark
from numpy.typing import NDArray

from node.engines.text.vocabulary import Vocabulary
from protos.errors import InputInvalid
from protos.types import ResponseFormat

MAX_DEFINITION: Final = 65_536  # characters; a compiled schema takes some ten times its size
_KEPT: Final = 64  # formats of one model, the latest: services send few different ones
# Between the parts of JSON: a space, or a new line and its indentation. Any amount, as JSON has it, is where a small model
# ends up until its tokens run out. A schema's own "x-guidance" goes before.
_SPACING: Final = {"whitespace_pattern": r" |\n[ \t]{0,16}"}
_FIELD: Final = "response_format"
_WORDS: Final = {"json_object": "JSON", "json_schema": "JSON schema", "regex": "pattern", "grammar": "grammar"}

Allowed = NDArray[np.bool_]
"""Whether each token of the vocabulary may come next."""


class Matcher:
    """How far one answer has come in its format. One thread."""

    def __init__(self, state: LLMatcher, allowed: Allowed) -> None:
        self._state = state
        self.allowed = allowed
        self.is_complete = False  # nothing can follow, not even an end token

    def accept(self, token: int) -> None:
        """Raises InputInvalid where the grammar became too complex to go on."""
        self._state.consume_token(token)
        self.is_complete = self._state.is_stopped()
        if not self.is_complete:
            self.allowed = _allowed(self._state, len(self.allowed))
        _check(self._state, "the answer cannot go on in it")


class Format:
    """A compiled format, shared by the requests that ask for the same."""

    def __init__(self, state: LLMatcher, size: int) -> None:
        self._state, self._first = state, _allowed(state, size)

    def matcher(self) -> Matcher:
        return Matcher(self._state.deep_copy(), self._first)


class Formats:
    """Compiles the formats of one model and keeps the latest. Any thread."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self.compiled = lru_cache(_KEPT)(self._compile)

    def _compile(self, wanted: ResponseFormat) -> Format:
        """Raises InputInvalid with what the grammar's compiler says."""
        if len(wanted.definition) > MAX_DEFINITION:
            raise InputInvalid.at(_FIELD, f"has {len(wanted.definition)} characters: send at most {MAX_DEFINITION}")
        tokens = self._vocabulary.tokens(_FIELD)
        state = LLMatcher(tokens, _grammar(wanted), log_level=0, limits=LLParserLimits(verbose_errors=False))
        _check(state, f"the {_WORDS[wanted.kind]} cannot be kept to")
        compiled = Format(state, tokens.vocab_size)
        _check(state, f"the {_WORDS[wanted.kind]} cannot be kept to")
        return compiled


def _grammar(wanted: ResponseFormat) -> str:
    """As llguidance reads it. Raises InputInvalid."""
    try:
        match wanted.kind:
            case "json_object":
                return LLMatcher.grammar_from_json_schema('{"type": "object"}', _SPACING)
            case "json_schema":
                return LLMatcher.grammar_from_json_schema(json.dumps(json.loads(wanted.definition)), _SPACING)
            case "regex":
                return LLMatcher.grammar_from_regex(wanted.definition)
            case "grammar":
                return LLMatcher.grammar_from_lark(any_to_lark(wanted.definition))
            case _:
                assert_never(wanted.kind)
    except Exception as exc:  # GBNF's reader raises plain Exceptions
        raise InputInvalid.at(_FIELD, f"the {_WORDS[wanted.kind]} cannot be read: {exc}") from exc


def _allowed(state: LLMatcher, size: int) -> Allowed:
    bits = np.frombuffer(state.compute_bitmask(), dtype=np.uint8)
    return np.unpackbits(bits, count=size, bitorder="little").view(np.bool_)


def _check(state: LLMatcher, what: str) -> None:
    if state.is_error():
        reason = state.get_error().strip().splitlines()
        raise InputInvalid.at(_FIELD, f"{what}: {' '.join(line.strip() for line in reason[:6])}")
