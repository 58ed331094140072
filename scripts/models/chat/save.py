"""Writes the model directory so that every transformers version with Llama can read it."""

import json
from pathlib import Path

from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, directory: Path) -> None:
    """Weights as float32, the tokenizer, and the chat template inside tokenizer_config.json."""
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory, save_jinja_files=False)
    _use_old_names(directory / "tokenizer_config.json")
    (directory / "model.safetensors").chmod(0o644)  # safetensors makes it readable by its owner only


def _use_old_names(path: Path) -> None:
    """transformers 5 writes names that 4 does not know, but still reads the old ones."""
    settings = json.loads(path.read_text())
    settings.pop("backend", None)
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    settings["additional_special_tokens"] = settings.pop("extra_special_tokens")
    path.write_text(json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
