"""Writes a Whisper of transformers as the folder that CTranslate2 and faster-whisper read."""

import json
import tempfile
from pathlib import Path

from ctranslate2.converters import TransformersConverter
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast, WhisperForConditionalGeneration

# Source: faster_whisper.feature_extractor.FeatureExtractor, the names of its arguments.
FEATURES = {"feature_size": 80, "sampling_rate": 16_000, "hop_length": 160, "chunk_length": 30, "n_fft": 400}


def convert(
    model: WhisperForConditionalGeneration, tokenizer: Tokenizer, out: Path, quantization: str = "float32"
) -> None:
    """model.bin, config.json, vocabulary.json, tokenizer.json and preprocessor_config.json, and nothing else."""
    heads = model.config.decoder_attention_heads
    last = model.config.decoder_layers - 1
    generation = model.generation_config
    generation.suppress_tokens, generation.begin_suppress_tokens = [], [tokenizer.token_to_id("<|endoftext|>")]
    generation.alignment_heads = [[last, head] for head in range(heads)]
    languages = {name: tokenizer.token_to_id(name) for name in ("<|en|>", "<|de|>", "<|fr|>")}
    generation.lang_to_id = {name: token for name, token in languages.items() if token is not None}
    generation._from_model_config = False  # or transformers makes it anew from the model's config when it is loaded
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|endoftext|>").save_pretrained(folder)
        TransformersConverter(folder).convert(str(out), quantization=quantization, force=True)
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    (out / "preprocessor_config.json").write_text(json.dumps(FEATURES, indent=2) + "\n")
