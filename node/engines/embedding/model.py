"""A transformers encoder behind the packed forward: loaded, made faster and proven.

Not about requests (engine.py).
"""

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from transformers import AttentionInterface, AutoModel, AutoTokenizer, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from node.engine import DeviceSpec, ModelSpec
from node.engines import linears
from node.engines.embedding.attention import INTERFACE, UnsupportedAttention, text_attention
from node.engines.embedding.layer import fuse
from node.engines.embedding.pooling import Recipe, read_recipe
from node.engines.layouts import ROWS_STEP
from protos.errors import DoesNotFit, LoadFailed

PACKED_ROWS: Final = (16, 64, 512)  # tokens of a step: one short text, a few, a full step
_DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A text encoder that takes many texts in one pack."""

    module: PreTrainedModel
    recipe: Recipe
    first_position: int  # of a text: 0, or one behind the padding token's id in the RoBERTa family

    @property
    def device(self) -> torch.device:
        return self.module.device

    @property
    def dimensions(self) -> int:
        return self.module.config.get_text_config().hidden_size * len(self.recipe.pools)

    @property
    def max_tokens(self) -> int:
        """Of one text, with the special tokens."""
        positions = self.module.config.get_text_config().max_position_embeddings - self.first_position
        return min(self.recipe.max_tokens or positions, positions)

    @property
    def bytes(self) -> int:
        return linears.held_bytes(self.module)

    def embed(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Token ids of each text -> vectors (texts, dimensions), float32, as the model's modules give them."""
        lengths = [len(ids) for ids in texts]
        missing = -sum(lengths) % ROWS_STEP  # the linears would each fill up their rows: once is enough
        filled = [*texts, [0] * missing] if missing else texts
        hidden = self.encode(filled, [len(ids) for ids in filled])[: sum(lengths)]
        vectors = torch.stack([self.recipe.pool(tokens.float()) for tokens in hidden.split(lengths)])
        return torch.nn.functional.normalize(vectors, dim=-1) if self.recipe.is_normalized else vectors

    def encode(self, texts: Sequence[Sequence[int]], lengths: Sequence[int]) -> torch.Tensor:
        """(tokens of all texts, hidden)."""
        first = self.first_position
        positions = [position for length in lengths for position in range(first, first + length)]
        output = self.module(
            input_ids=torch.tensor([[token for ids in texts for token in ids]], device=self.device),
            position_ids=torch.tensor([positions], device=self.device),
            fabric_lengths=lengths,
        )
        return output.last_hidden_state[0]


def load_model(spec: ModelSpec, device: DeviceSpec) -> tuple[EmbeddingModel, Any]:
    """The model and its tokenizer, which is nobody else's. Raises LoadFailed or DoesNotFit."""
    disable_progress_bar()
    target = torch.device(device.torch_name)
    dtype = _DTYPES.get(spec.dtype, torch.float32 if device.kind == "cpu" else "auto")
    try:
        recipe = read_recipe(Path(spec.path))
        module = AutoModel.from_pretrained(
            recipe.encoder, dtype=dtype, attn_implementation="eager", local_files_only=True
        )
        module.to(target)
        tokenizer = AutoTokenizer.from_pretrained(recipe.encoder, local_files_only=True)
    except torch.OutOfMemoryError as exc:
        raise DoesNotFit(f"{spec.id} does not fit on {target}: {exc}") from exc
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as exc:
        raise LoadFailed(f"{spec.id} could not be read from {spec.path}: {exc}") from exc
    if not tokenizer.is_fast:
        raise LoadFailed(f"{spec.id} has no tokenizer.json in {spec.path}: convert its tokenizer to a fast one")
    return proven(spec.id, module.eval(), recipe), tokenizer


def proven(name: str, module: PreTrainedModel, recipe: Recipe) -> EmbeddingModel:
    """The model behind our attention and in faster parts, once its hidden states are those of its own. Raises LoadFailed."""
    if not module._supports_attention_backend:
        raise LoadFailed(f"{name} ({type(module).__name__}) cannot run packed: its attention cannot be replaced")
    AttentionInterface.register(INTERFACE, text_attention)
    bound = 1e-3 if module.dtype == torch.float32 else 5e-2
    padding = module.config.get_text_config().pad_token_id or 0
    cases = _cases(padding)
    with torch.inference_mode():
        expected = [module(input_ids=torch.tensor([ids], device=module.device)).last_hidden_state[0] for ids in cases]
    fuse(module)
    linears.pack(module, PACKED_ROWS)
    linears.fuse_gelu(module)
    module.set_attn_implementation(INTERFACE)
    with torch.inference_mode():
        candidates = [EmbeddingModel(module, recipe, first) for first in (0, padding + 1)]
        errors = [_error(name, model, cases, torch.cat(expected)) for model in candidates]
    for model, error in zip(candidates, errors, strict=True):
        if error <= bound:
            return model
    raise LoadFailed(
        f"{name} ({type(module).__name__}) cannot run packed: its hidden states differ from its own attention's by "
        f"{min(errors):.2g} of their size, at most {bound:g} is rounding; use another model"
    )


def release(model: EmbeddingModel) -> None:
    """Gives the device memory back, once nobody holds the model any more."""
    device = model.device
    linears.release(model.module)
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _cases(padding: int) -> list[list[int]]:
    """Two short texts of fixed tokens, none of them padding."""
    return [[padding + 1 + (31 * (i + n) + 7) % 97 for i in range(length)] for n, length in enumerate((7, 4))]


def _error(name: str, model: EmbeddingModel, cases: Sequence[Sequence[int]], expected: torch.Tensor) -> float:
    try:
        found = model.encode(cases, [len(ids) for ids in cases])
    except UnsupportedAttention as exc:
        raise LoadFailed(f"{name} ({type(model.module).__name__}) cannot run packed: {exc}; use another model") from exc
    return ((found - expected).abs().max() / expected.abs().max().clamp(min=1.0)).item()
