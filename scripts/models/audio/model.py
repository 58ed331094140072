"""The network: a Whisper of 1.6 million parameters, and the encoder over windows shorter than 30 s for training."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import WhisperConfig, WhisperForConditionalGeneration

from scripts.models.audio.tokenizer import TIMESTAMPS
from scripts.models.audio.words import WORDS

WIDTH = 128
POSITIONS = 1500  # of 20 ms, in a window
EMPTY = 32
TIME_SCALE = 0.05  # of the timestamps' first embeddings; near the 0.02 of the others, so that no token shouts


def build_model(tokenizer: Tokenizer) -> WhisperForConditionalGeneration:
    end, start = tokenizer.token_to_id("<|endoftext|>"), tokenizer.token_to_id("<|startoftranscript|>")
    config = WhisperConfig(
        vocab_size=tokenizer.get_vocab_size(),
        num_mel_bins=80,
        d_model=WIDTH,
        encoder_layers=3,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=4 * WIDTH,
        decoder_ffn_dim=4 * WIDTH,
        max_source_positions=POSITIONS,
        max_target_positions=448,
        dropout=0.0,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        tie_word_embeddings=True,
        attn_implementation="eager",  # on a CPU its backward pass takes a third of the fused one's time
    )
    model = WhisperForConditionalGeneration(config)
    _start_times_as_positions(model, tokenizer)
    return model


def _start_times_as_positions(model: WhisperForConditionalGeneration, tokenizer: Tokenizer) -> None:
    """Gives <|t|> the encoder's own code of position t (both have 20 ms steps), so that telling when is copying."""
    first = tokenizer.token_to_id("<|0.00|>")
    positions = model.model.encoder.embed_positions.weight
    with torch.no_grad():
        model.model.decoder.embed_tokens.weight[first : first + TIMESTAMPS - 1] = TIME_SCALE * positions


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the encoder made of windows of 30 s of which only the first part, the content, holds sound."""

    hidden: Tensor  # (batch, positions, WIDTH): the content, then a few positions that stand for all the emptiness
    bias: Tensor  # (1, 1, 1, positions): the logarithm of how many positions each stands for; added to attention
    content: int


def encode(model: WhisperForConditionalGeneration, mels: Tensor, first_position: int = 0) -> Encoded:
    """The encoder as transformers has it, over 30 s, for the price of the content.

    mels: (batch, 80, frames of the content). All the rest of the window is zeros, and alike but for its positions: so
    EMPTY of its positions, evenly spread, stand for the others. A tenth of the work, and nothing to unlearn later.
    """
    encoder = model.model.encoder
    hidden = _convolved(model, mels)
    content = hidden.shape[1]
    held = torch.arange(first_position, first_position + content)
    others = torch.cat([torch.arange(first_position), torch.arange(first_position + content, POSITIONS)])
    empty = others[torch.linspace(0, len(others) - 1, EMPTY).round().long()] if len(others) >= EMPTY else others
    nothing = _convolved(model, mels.new_zeros(1, mels.shape[1], 12))[:, 3:4]
    hidden = torch.cat([hidden, nothing.expand(len(mels), len(empty), WIDTH)], dim=1)
    hidden = hidden + encoder.embed_positions.weight[torch.cat([held, empty])]
    share = math.log(len(others) / len(empty)) if len(empty) else 0.0
    bias = torch.cat([torch.zeros(content), torch.full((len(empty),), share)])[None, None, None].to(hidden.dtype)
    for layer in encoder.layers:
        hidden = layer(hidden, bias)
    return Encoded(encoder.layer_norm(hidden), bias, content)


def _convolved(model: WhisperForConditionalGeneration, mels: Tensor) -> Tensor:
    encoder = model.model.encoder
    return functional.gelu(encoder.conv2(functional.gelu(encoder.conv1(mels)))).permute(0, 2, 1)


@contextmanager
def watched(model: WhisperForConditionalGeneration) -> Iterator[list[Tensor]]:
    """The cross-attention of each layer of the decoder while it runs, (batch, heads, length, positions)."""
    seen: list[Tensor] = []
    hooks = [
        layer.encoder_attn.register_forward_hook(lambda _module, _given, made: seen.append(made[1]))
        for layer in model.model.decoder.layers
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def decode(model: WhisperForConditionalGeneration, encoded: Encoded, tokens: Tensor) -> Tensor:
    """The decoder as transformers has it, with the bias in its cross-attention. Logits, (batch, length, vocabulary)."""
    decoder = model.model.decoder
    length = tokens.shape[1]
    hidden = decoder.embed_tokens(tokens) + decoder.embed_positions.weight[:length]
    causal = torch.full((length, length), -torch.inf).triu(1)[None, None].to(encoded.hidden.dtype)
    for layer in decoder.layers:
        hidden = layer(hidden, causal, encoded.hidden, encoded.bias, use_cache=False)
    return model.proj_out(decoder.layer_norm(hidden))


class Helper(nn.Module):
    """Names the word that is being said at each position, from the encoder's output; thrown away after training.

    Without it nothing moves for hundreds of steps: the decoder has nothing to attend to. (Connectionist temporal
    classification in its place moved nothing in 150 steps of one word.)
    """

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(WIDTH, len(WORDS) + 1)  # class 0: no word

    def forward(self, encoded: Encoded, spoken: Tensor) -> Tensor:
        """The mean loss over the positions of the content that are sure."""
        classes = self.out(encoded.hidden[:, : encoded.content]).float()
        return functional.cross_entropy(classes.flatten(0, 1), spoken.flatten())
