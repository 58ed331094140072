"""Embeddings. Source: https://platform.openai.com/docs/api-reference/embeddings."""

import base64
from typing import Any

import numpy as np

from protos.types import EmbeddingRequest, EmbeddingResult, Usage
from providers.catalog import VendorModel
from providers.openai_wire.dialect import Body, Dialect, Wrong, refused
from providers.remote import Answer
from providers.tokens import expected_tokens


def wrong(request: EmbeddingRequest, model: VendorModel, dialect: Dialect) -> Wrong:
    if not request.texts:
        yield "input.texts", "is empty: give at least one text to embed"
    for index, text in enumerate(request.texts):
        if not text:
            yield f"input.texts[{index}]", "is empty: give a text to embed"
    yield from refused(
        dialect,
        model,
        {"dimensions": request.dimensions is not None, "prompt_name": bool(request.prompt_name)},
        frozenset({"dimensions"}),
    )


def body(request: EmbeddingRequest, model: VendorModel) -> Body:
    sent: Body = {"model": model.id, "input": list(request.texts), "encoding_format": "base64"}
    if request.dimensions is not None:
        sent["dimensions"] = request.dimensions
    return sent


def answer(reply: Any, request: EmbeddingRequest) -> Answer:  # Any: the client does not check what it parses
    """Raises ValueError, TypeError or AttributeError where the reply is malformed."""
    rows = [_row(each.embedding) for each in sorted(reply.data, key=lambda each: int(each.index))]
    dimensions = len(rows[0]) if rows else 0
    if len(rows) != len(request.texts) or not dimensions or any(len(row) != dimensions for row in rows):
        raise ValueError(f"{len(rows)} vectors of {dimensions} for {len(request.texts)} texts")
    vectors = np.stack(rows)
    if request.normalize:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors / np.where(lengths == 0, 1, lengths)
    tokens = reply.usage.prompt_tokens if reply.usage else expected_tokens(request.texts)
    return Answer(EmbeddingResult(dimensions, vectors.astype("<f4").tobytes()), Usage(input_tokens=int(tokens)))


def _row(
    embedding: Any,
) -> "np.ndarray[Any, np.dtype[np.float32]]":  # Any: base64 as asked for, or the list that some send
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
    return np.asarray(embedding, dtype=np.float32)
