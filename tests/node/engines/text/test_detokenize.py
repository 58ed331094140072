"""Streamed text never holds a broken character, and its pieces are the whole."""

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from node.engines.text.detokenize import Detokenizer


def byte_tokenizer() -> Tokenizer:
    """One token for each byte, as in GPT-2 without merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={character: i for i, character in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


TOKENIZER = byte_tokenizer()


def test_an_emoji_of_four_tokens_comes_out_whole() -> None:
    detokenizer = Detokenizer(TOKENIZER.decode)
    pieces = [detokenizer.push(token) for token in TOKENIZER.encode("a👍b").ids]
    assert pieces == ["a", "", "", "", "👍", "b"]


@given(st.text(max_size=12))
def test_pieces_are_the_whole_text(text: str) -> None:
    detokenizer = Detokenizer(TOKENIZER.decode)
    pieces = [detokenizer.push(token) for token in TOKENIZER.encode(text).ids]
    assert "".join(pieces) + detokenizer.flush() == text.rstrip("\N{REPLACEMENT CHARACTER}")


def test_a_character_cut_off_by_the_end_is_left_out() -> None:
    detokenizer = Detokenizer(TOKENIZER.decode)
    pieces = [detokenizer.push(token) for token in TOKENIZER.encode("ok👍").ids[:-1]]
    assert "".join(pieces) + detokenizer.flush() == "ok"


def test_a_decoder_that_strips_the_first_space_loses_no_other() -> None:
    vocabulary = {"▁a": 0, "▁b": 1, "c": 2}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.decoder = decoders.Metaspace()
    detokenizer = Detokenizer(tokenizer.decode)
    assert [detokenizer.push(token) for token in (0, 1, 2, 1)] == ["a", " b", "c", " b"]
