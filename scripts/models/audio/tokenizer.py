"""The tokenizer: byte-level, each of the twenty words one token, and Whisper's own special tokens in Whisper's order.

faster-whisper finds the special tokens by their names, takes every id below <|endoftext|> for text and every id from
<|0.00|> on for a time. There is no empty-string token: that is how CTranslate2 tells an English-only model.
"""

from collections.abc import Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from scripts.models.audio.words import WORDS

TIMESTAMPS = 1501  # <|0.00|> to <|30.00|>, every 20 ms
TASKS = ("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>")


def build_tokenizer(languages: Sequence[str] = ("en",), fillers: int = 0) -> Tokenizer:
    """The same tokens for the same words in every run. `fillers` are words that nobody says, to make it larger."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=1000, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator((f" {word}" for word in WORDS), trainer)
    tokenizer.add_tokens([f"filler{number}" for number in range(fillers)])
    control = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{language}|>" for language in languages), *TASKS]
    times = [f"<|{index * 0.02:.2f}|>" for index in range(TIMESTAMPS)]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in (*control, *times)])
    return tokenizer


def word_ids(tokenizer: Tokenizer) -> list[int]:
    """The one token of each word, in the order of WORDS."""
    ids = [tokenizer.encode(f" {word}", add_special_tokens=False).ids for word in WORDS]
    assert all(len(tokens) == 1 for tokens in ids), "a word is not one token: this is a bug"
    return [tokens[0] for tokens in ids]
