"""An unmodified transformers model: loaded, examined, proven. Behind the packed forward, or else through its own cache.

Not about requests (engine.py) nor about the attention itself (attention.py).
"""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import torch
from safetensors import SafetensorError
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AutoModelForCausalLM, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from node.engine import DeviceSpec, ModelSpec
from node.engines import linears
from node.engines.text import attention, varlen
from node.engines.text.attention import Chunk, Layout
from node.engines.text.kv import KvPool, LayerShape, TokenPool, pool_bytes
from node.engines.text.last_layer import LastLayer
from node.engines.text.own_cache import OwnCaches
from node.engines.text.path import facts_of, path_of
from node.engines.text.probe import examine
from node.engines.text.rounding import Verdict, in_float32, usual, verdict
from node.engines.text.selftest import cached_logits, eager_logits, end_logits, ends_of, own_cache_logits, sequences
from node.engines.text.upload import upload
from protos.errors import DoesNotFit, LoadFailed

_log = logging.getLogger(__name__)

_DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_GIB: Final = 1 << 30
_SPARE_BYTES: Final = (
    512 << 20
)  # for weights that are kept in two layouts: one is faster for a lone request, one for many
_PROMPT: Final = 200  # tokens of a usual one; as most no multiple of 16, to which packed linears fill up
_OWN_CACHE: Final = {
    True: "through its own cache, prompts one by one and decoding rows together",
    False: "row by row through its own cache: many requests take as long as one by one",
}

# What a model's own code raises that is not made for how it is called.
_FOREIGN: Final = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, NotImplementedError)

Pool: TypeAlias = KvPool | TokenPool | OwnCaches


@dataclass(frozen=True, slots=True)
class TextModel:
    """A causal language model."""

    module: PreTrainedModel
    layers: Sequence[LayerShape]  # whose attention reads and writes a slot KV cache; empty: it keeps a cache of its own
    device: torch.device
    context_tokens: int  # that the model was made for; 0: it states none
    are_stacked: bool = False  # caches of its own: those of decoding rows, for one forward of them all
    attend: varlen.Attend | None = None  # the kernel that attends for all rows; None: groups of rows, as on a CPU
    last_layer: LastLayer | None = None  # that can be computed for some rows alone; None: for all

    @property
    def dtype(self) -> torch.dtype:
        return self.module.dtype

    @property
    def vocabulary(self) -> int:
        return self.module.get_output_embeddings().weight.shape[0]

    @property
    def bytes(self) -> int:
        return linears.held_bytes(self.module)

    def end_tokens(self) -> frozenset[int]:
        """The tokens that end an answer, as the model's files state them."""
        stated = (self.module.generation_config, self.module.config.get_text_config())
        return frozenset(token for source in stated for token in _ids(getattr(source, "eos_token_id", None)))

    def new_pool(self, slots: int, context_tokens: int) -> Pool:
        """Raises DoesNotFit."""
        if not self.layers:
            return OwnCaches(self.module, slots, context_tokens, are_stacked=self.are_stacked)
        kind = KvPool if self.attend is None else TokenPool
        try:
            return kind(self.layers, slots, context_tokens, self.dtype, self.device)
        except RuntimeError as exc:  # torch.OutOfMemoryError on CUDA, a plain one on a CPU
            needed = pool_bytes(self.layers, slots, context_tokens, self.dtype) / _GIB
            raise DoesNotFit(
                f"the KV cache of {slots} seats of {context_tokens} tokens needs {needed:.1f} GiB, which {self.device} "
                "does not have: lower seats or context_tokens in models.toml"
            ) from exc

    @property
    def rounding(self) -> float:
        """By how much its logits may differ, of their size, between two ways to compute them."""
        return usual(self.dtype)

    def run(self, ids: torch.Tensor, chunks: Sequence[Chunk], pool: Pool, rows: Sequence[int]) -> torch.Tensor:
        """One step over the chunks, in packed order as their ids (tokens,). Logits (len(rows), vocabulary), float32, of the
        pack's `rows`, each the last of a chunk."""
        if isinstance(pool, OwnCaches):
            return pool.forward(ids.tolist(), chunks, rows)
        if isinstance(pool, TokenPool):
            return self.forward(ids, varlen.layout_of(chunks, pool, self.attend, self.device), rows)
        return self.forward(ids, Layout(chunks, pool, self.device), rows)

    def forward(self, ids: torch.Tensor, layout: Layout | varlen.VarlenLayout, rows: Sequence[int]) -> torch.Tensor:
        """One packed step. The ids in packed order; logits (len(rows), vocabulary), float32, of the pack's `rows`."""
        is_whole = list(rows) == list(range(len(ids)))  # when all decode
        kept = None if is_whole else upload(rows, torch.long, self.device)
        return self.logits(ids, layout, kept).float()

    def logits(
        self, ids: torch.Tensor, layout: Layout | varlen.VarlenLayout, kept: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Logits (rows, vocabulary) in the model's own type. kept: which rows of the pack; None: all."""
        with self._narrowed(len(ids), kept):
            output = self.module(
                input_ids=ids[None],
                position_ids=layout.positions[None],
                use_cache=False,
                logits_to_keep=0 if kept is None else kept,
                fabric_layout=layout,
            )
        return output.logits[0]

    def _narrowed(self, tokens: int, kept: torch.Tensor | None) -> AbstractContextManager[None]:
        """Where most rows decode, picking those would cost more than it saves."""
        if self.last_layer is None or kept is None or 2 * len(kept) > tokens:
            return nullcontext()
        return self.last_layer.only(kept)


def load_model(spec: ModelSpec, device: DeviceSpec) -> TextModel:
    """Raises LoadFailed or DoesNotFit."""
    disable_progress_bar()
    target = torch.device(device.torch_name)
    try:
        module = AutoModelForCausalLM.from_pretrained(
            spec.path, dtype=_dtype(spec, device), attn_implementation="eager", local_files_only=True
        )
        module.to(target)
    except torch.OutOfMemoryError as exc:
        raise DoesNotFit(f"{spec.id} does not fit on {target}: {exc}") from exc
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as exc:
        raise LoadFailed(f"{spec.id} could not be read from {spec.path}: {exc}") from exc
    model = _proven(spec.id, module.eval(), target)
    linears.pack(module, _step_sizes(spec), min(model.bytes, _SPARE_BYTES))
    return model


def _proven(name: str, module: PreTrainedModel, device: torch.device) -> TextModel:
    """On the fastest way that it can take. Raises LoadFailed when it can take none."""
    try:
        return _on_its_path(name, module, device)
    except LoadFailed as refusal:
        module.set_attn_implementation("eager")
        model = prove_own_cache(name, module, device)
        _log.warning("%s; it runs %s", refusal, _OWN_CACHE[model.are_stacked])
        return model


def _on_its_path(name: str, module: PreTrainedModel, device: torch.device) -> TextModel:
    path = path_of(facts_of(device, module.dtype, examine(name, module)))
    _log.info("model %s: %s", name, path)
    if path.is_varlen:
        try:
            return prove(name, module, device, varlen_attn)
        except (LoadFailed, RuntimeError) as refusal:
            _log.warning("%s; it attends by scaled_dot_product_attention instead", refusal)
    return prove(name, module, device)


def prove(name: str, module: PreTrainedModel, device: torch.device, attend: varlen.Attend | None = None) -> TextModel:
    """The model behind our attention, once its logits are those of its own eager attention. Raises LoadFailed."""
    AttentionInterface.register(attention.INTERFACE, attention.slot_attention)
    AttentionInterface.register(varlen.INTERFACE, varlen.varlen_attention)
    layers = examine(name, module)
    model = TextModel(module, layers, device, _stated_context(module), attend=attend)
    with torch.inference_mode():
        _self_test(name, model)
        return _with_narrow_last_layer(name, model)


def _with_narrow_last_layer(name: str, model: TextModel) -> TextModel:
    """Where the logits are the same then."""
    narrow = replace(model, last_layer=LastLayer(model.module, len(model.layers)))
    cases = sequences(model.vocabulary)
    ends = ends_of(cases)
    try:
        found = _verdict(end_logits(narrow, cases), _of_eager(model, cases)[ends], model, cases, ends)
        _accept(found, "its logits without differ")
    except (LoadFailed, *_FOREIGN) as refusal:
        _log.info("the last layer of %s is computed for every row: %s", name, refusal)
        narrow.last_layer.restore()
        return model
    return narrow


def prove_own_cache(name: str, module: PreTrainedModel, device: torch.device) -> TextModel:
    """The model through the cache that it makes, once its logits are those without one; decoding rows together, where they
    still are. Raises LoadFailed."""
    model = TextModel(module, (), device, _stated_context(module))
    try:
        return _proven_own_cache(name, replace(model, are_stacked=True))
    except LoadFailed as refusal:
        _log.info("%s; so its rows run one after another", refusal)
        return _proven_own_cache(name, model)


def _proven_own_cache(name: str, model: TextModel) -> TextModel:
    cases = sequences(model.vocabulary)
    what = f"{name} ({type(model.module).__name__})"
    try:
        with torch.inference_mode():
            found = _verdict(own_cache_logits(model, cases), eager_logits(model, cases), model, cases)
    except _FOREIGN as exc:
        raise LoadFailed(f"{what} cannot be served: {exc}; use another model") from exc
    way = "stacked caches" if model.are_stacked else "its own cache"
    _accept(found, f"{what} cannot be served: its logits through {way} differ")
    return model


def release(model: TextModel) -> None:
    """Gives the device memory back. Without the garbage collector: the loop would stand still for it, and the weights go
    whoever still holds the module."""
    linears.release(model.module)
    if model.device.type == "cuda":
        torch.cuda.empty_cache()


def _dtype(spec: ModelSpec, device: DeviceSpec) -> Any:  # a torch.dtype, or "auto" for the files' own
    if spec.dtype == "auto":
        return torch.float32 if device.kind == "cpu" else "auto"
    return _DTYPES[spec.dtype]


def _step_sizes(spec: ModelSpec) -> list[int]:
    """Rows that its linears mostly get: a lone request, a few, all seats, a prompt, a step full of prompts."""
    return sorted({1, min(8, spec.seats), spec.seats, min(_PROMPT, spec.step_tokens), spec.step_tokens})


def _self_test(name: str, model: TextModel) -> None:
    """Two sequences in chunks through the cache against a full forward each: a model whose attention we misread must
    not answer at all."""
    cases = sequences(model.vocabulary)
    expected = _of_eager(model, cases)
    model.module.set_attn_implementation(attention.INTERFACE if model.attend is None else varlen.INTERFACE)
    found = _verdict(cached_logits(model, cases), expected, model, cases)
    _accept(
        found,
        f"{name} ({type(model.module).__name__}) cannot run on the slot cache: its logits differ from its own attention's",
    )


def _of_eager(model: TextModel, cases: Sequence[Sequence[int]]) -> torch.Tensor:
    """The logits of its eager attention."""
    interface = model.module.config._attn_implementation
    model.module.set_attn_implementation("eager")
    logits = eager_logits(model, cases)
    model.module.set_attn_implementation(interface)
    return logits


def _verdict(
    found: torch.Tensor,
    expected: torch.Tensor,
    model: TextModel,
    cases: Sequence[Sequence[int]],
    rows: Sequence[int] | slice = slice(None),
) -> Verdict:
    """expected: the logits of its eager attention. rows: which of them are there."""

    def exact() -> torch.Tensor:
        with in_float32(model.module):
            return _of_eager(model, cases)[rows]

    return verdict(found, expected, model.dtype, exact)


def _accept(found: Verdict, otherwise: str) -> None:
    if not found.is_rounding:
        raise LoadFailed(f"{otherwise} by {found.error:.2g} of their size, at most {found.bound:.2g} is rounding")


def _stated_context(module: PreTrainedModel) -> int:
    return getattr(module.config.get_text_config(), "max_position_embeddings", None) or 0


def _ids(value: int | Sequence[int] | None) -> Sequence[int]:
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else value
