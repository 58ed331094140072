"""Tiny random models, made on the spot, and a desk that drives an engine by hand.

Weights so large that attention decides every token: small ones repeat tokens whatever attention does.
"""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedTokenizerFast

from node.engine import DeviceSpec, Done, Engine, Failed, ModelSpec, Prepared
from protos.errors import FabricError
from protos.types import (
    ChosenToken,
    Modality,
    ModelId,
    Progress,
    Task,
    TaskId,
    TaskResult,
    TextDelta,
    TextRequest,
    Usage,
)

CHARACTERS = "".join(map(chr, range(32, 127))) + "\n"
TEMPLATE = "{% for m in messages %}{{ m['role'][0] }}:{{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}a:{% endif %}"
CPU = DeviceSpec("cpu", 0, 1)


def character_tokenizer(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """One token for each printable ASCII character, and <end>."""
    vocabulary = {"<end>": 0} | {character: i + 1 for i, character in enumerate(CHARACTERS)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])  # each token's bytes can be told
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")
    tokenizer.chat_template = template
    return tokenizer


def llama_config(**changes: Any) -> PretrainedConfig:  # Any: whatever the configuration takes
    return transformers.LlamaConfig(**{**small(), "num_key_value_heads": 2, **changes})


def small() -> dict[str, Any]:  # Any: keyword arguments of configurations
    return {
        "vocab_size": len(CHARACTERS) + 1,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "head_dim": 8,
        "max_position_embeddings": 96,
        "initializer_range": 0.25,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }


def build(config: PretrainedConfig) -> Any:  # a model of transformers
    torch.manual_seed(7)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def save(folder: Path, config: PretrainedConfig, template: str | None = TEMPLATE) -> str:
    build(config).save_pretrained(folder)
    character_tokenizer(template).save_pretrained(folder)
    return str(folder)


def spec_of(path: str, **changes: Any) -> ModelSpec:  # Any: fields of ModelSpec
    return ModelSpec(
        **{"id": ModelId("tiny"), "engine": "text", "modality": Modality.TEXT, "path": path, "seats": 4, **changes}
    )


class Desk:
    """Drives one engine by hand, as the device loop would, and keeps what each task got."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.deltas: dict[str, list[str]] = {}  # of the first answer; of another under "name#1"
        self.logprobs: dict[str, list[ChosenToken]] = {}  # as the deltas told them
        self.done: dict[str, TaskResult] = {}
        self.usage: dict[str, Usage] = {}
        self.failed: dict[str, FabricError] = {}
        self.progress: dict[str, list[float]] = {}
        self.sizes: list[int] = []

    def prepare(self, name: str, request: Any) -> Prepared:  # Any: one of the request types
        return self.engine.prepare(Task(id=TaskId(name), request=request))

    def admit(self, name: str, request: Any) -> bool:  # Any: one of the request types
        return self.engine.admit(self.prepare(name, request))

    def step(self, quantum_s: float | None = None) -> dict[str, int]:
        step = self.engine.step(quantum_s)
        self.sizes.append(sum(step.work.values()))
        for task_id, event in step.events:
            match event:
                case TextDelta(text, answer):
                    name = f"{task_id}#{answer}" if answer else task_id
                    self.deltas.setdefault(name, []).append(text)
                    self.logprobs.setdefault(name, []).extend(event.logprobs)
                case Done(raw, usage):
                    self.done[task_id] = self.engine.finish(raw)
                    self.usage[task_id] = usage
                case Progress(fraction):
                    self.progress.setdefault(task_id, []).append(fraction)
                case Failed(error):
                    self.failed[task_id] = error
        return dict(step.work)

    def run(self) -> None:
        while self.engine.seated:
            self.step()

    def alone(self, name: str, request: Any) -> TaskResult:  # Any: one of the request types
        assert self.admit(name, request)
        self.run()
        return self.done[name]


def greedy(prompt: str, max_tokens: int = 12, **changes: Any) -> TextRequest:  # Any: fields of TextRequest
    return TextRequest(prompt=prompt, temperature=0.0, max_tokens=max_tokens, **changes)


def save_encoder(folder: Path, config: transformers.PretrainedConfig, **files: Any) -> str:
    """A sentence-transformers folder around a tiny random encoder that reads lower-case characters."""
    torch.manual_seed(5)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    vocabulary = {
        token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz "])
    }
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    kinds = files.pop("modules", ("Transformer", "Pooling", "Normalize"))
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize", "Dense": "2_Dense"}
    contents = {
        "modules.json": [
            {"idx": i, "name": str(i), "path": paths[kind], "type": f"sentence_transformers.models.{kind}"}
            for i, kind in enumerate(kinds)
        ],
        "sentence_bert_config.json": {"max_seq_length": 40, "do_lower_case": False},
        "1_Pooling/config.json": {
            "word_embedding_dimension": 32,
            "pooling_mode_mean_tokens": True,
            **files.pop("pooling", {}),
        },
        "config_sentence_transformers.json": {"prompts": {"query": "find "}, "default_prompt_name": None, **files},
    }
    for name, content in contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    return str(folder)


def encoder_config(kind: str = "BertConfig", **changes: Any) -> transformers.PretrainedConfig:
    sizes = {"vocab_size": 128, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    defaults = {"num_attention_heads": 4, "max_position_embeddings": 64, "initializer_range": 0.25}
    return getattr(transformers, kind)(**{**sizes, **defaults, **changes})
