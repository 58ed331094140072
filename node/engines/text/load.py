"""From a model's folder to its engine.

Not about how its weights are read and proven (model.py).
"""

import torch
from transformers import AutoTokenizer

from node.engine import DeviceSpec, ModelSpec
from node.engines.text.engine import TextEngine
from node.engines.text.graphs import CudaRecorder, Recorder
from node.engines.text.model import TextModel, load_model
from node.engines.text.prepare import Reader
from node.engines.text.vocabulary import Vocabulary
from protos.errors import LoadFailed


def load(spec: ModelSpec, device: DeviceSpec) -> TextEngine:
    """Reads the model's files and proves that its answers will be its own. Raises LoadFailed or DoesNotFit."""
    if device.kind == "cpu":
        torch.set_num_threads(device.threads)
    model = load_model(spec, device)
    is_varlen = model.attend is not None
    return around(model, spec, CudaRecorder(model.device) if is_varlen else None, is_ahead=is_varlen)


def around(
    model: TextModel, spec: ModelSpec, recorder: Recorder | None = None, *, is_ahead: bool = False
) -> TextEngine:
    """The engine of a model that was proven. recorder: of its decoding steps; None: they are not recorded. is_ahead: a
    step is launched before the last one's tokens are here. Raises LoadFailed."""
    tokenizer = _tokenizer(spec)
    vocabulary = Vocabulary(tokenizer, model.vocabulary, model.end_tokens())
    reader = Reader(tokenizer, vocabulary, context_tokens=_context_tokens(spec, model), seats=spec.seats)
    return TextEngine(spec, model, reader, recorder, is_ahead=is_ahead)


def _tokenizer(spec: ModelSpec) -> AutoTokenizer:
    try:
        tokenizer = AutoTokenizer.from_pretrained(spec.path, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as exc:
        raise LoadFailed(f"the tokenizer of {spec.id} could not be read from {spec.path}: {exc}") from exc
    if not tokenizer.is_fast:
        raise LoadFailed(f"{spec.id} has no tokenizer.json in {spec.path}: convert its tokenizer to a fast one")
    return tokenizer


def _context_tokens(spec: ModelSpec, model: TextModel) -> int:
    """Raises LoadFailed when models.toml asks for more than the model has, or neither says."""
    stated, wanted = model.context_tokens, spec.context_tokens
    if not stated and not wanted:
        raise LoadFailed(f"{spec.id} states no context length: set context_tokens for it in models.toml")
    if stated and wanted and wanted > stated:
        raise LoadFailed(f"context_tokens of {spec.id} is {wanted} and the model was made for {stated}: lower it")
    return wanted or stated
