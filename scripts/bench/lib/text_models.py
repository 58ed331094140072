"""Models for the benchmarks of text: random weights of real shapes, and the same weights for llama.cpp.

Weights so large that attention decides every token: with small ones an answer repeats itself whatever attention does.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers

INITIALIZER_RANGE: Final = 0.25
CONTEXT: Final = 640  # tokens: a shared prompt of 200, one of 256, an answer of 128
END: Final = 2  # a token that llama.cpp wants to end with and that nothing ever says


@dataclass(frozen=True)
class Shape:
    """What a model is made of. Two families: their attention differs."""

    config: str  # of transformers
    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    vocabulary: int


SHAPES: Final = {
    "20M": Shape("LlamaConfig", 8, 384, 1024, 6, 2, 8192),
    "130M": Shape("Qwen3Config", 12, 768, 2048, 12, 4, 32000),
    "tiny": Shape("LlamaConfig", 2, 64, 128, 4, 2, 512),
}


def save(folder: Path, size: str) -> Path:
    """A folder that transformers and our engine read. Its words are t0, t1, ..., so that a prompt's length is exact."""
    shape = SHAPES[size]
    torch.manual_seed(0)
    config = getattr(transformers, shape.config)(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=64 if shape.width >= 384 else 16,
        max_position_embeddings=CONTEXT,
        initializer_range=INITIALIZER_RANGE,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.lm_head.weight.data[: END + 1] = 0
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word(i): i for i in range(shape.vocabulary)}, unk_token=word(0)))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token=word(0)).save_pretrained(folder)
    return folder


def word(token: int) -> str:
    return f"t{token}"


def save_gguf(folder: Path, size: str, peer: Path) -> Path:
    """The same weights in float32 for llama.cpp, written by its own package."""
    sys.path.insert(0, str(peer / "llama.cpp" / "gguf-py"))
    import gguf  # noqa: PLC0415 - of the peer

    shape, target = SHAPES[size], folder / "model.gguf"
    family = {"LlamaConfig": "llama", "Qwen3Config": "qwen3"}[shape.config]
    writer = gguf.GGUFWriter(str(target), family)
    head = 64 if shape.width >= 384 else 16
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([word(i).encode() for i in range(shape.vocabulary)])
    writer.add_token_scores([0.0] * shape.vocabulary)
    writer.add_token_types([int(gguf.TokenType.NORMAL)] * shape.vocabulary)
    writer.add_eos_token_id(END)
    writer.add_add_bos_token(False)
    names = gguf.get_tensor_name_map(writer_arch(gguf, family), shape.layers)
    for name, tensor in load_file(folder / "model.safetensors").items():
        writer.add_tensor(names.get_name(name, (".weight",)), _as_llama(name, tensor, shape, family).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def writer_arch(gguf: Any, family: str) -> Any:  # Any: the peer's package
    return next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == family)


def _as_llama(name: str, tensor: torch.Tensor, shape: Shape, family: str) -> torch.Tensor:
    """The llama family rotates neighbouring pairs where transformers rotates halves: rows of queries and keys change
    places. Source: LlamaModel.permute of convert_hf_to_gguf.py."""
    if family != "llama" or not ("q_proj" in name or "k_proj" in name):
        return tensor
    heads = shape.heads if "q_proj" in name else shape.kv_heads
    rows, columns = tensor.shape
    return tensor.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns).contiguous()
