"""Stop strings are never shown, not even in part, and nothing else is lost."""

from hypothesis import given
from hypothesis import strategies as st

from node.engines.text.stops import StopFilter

texts = st.text("ab\n", max_size=20)
stops = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3)


@given(st.lists(st.text("ab\n", max_size=3), max_size=12), stops)
def test_pieces_give_the_text_before_the_earliest_stop_string(pieces: list[str], stops: list[str]) -> None:
    whole = "".join(pieces)
    filter_ = StopFilter(stops)
    shown, is_stopped = "", False
    for piece in pieces:
        text, is_stopped = filter_.push(piece)
        shown += text
        if is_stopped:
            break
    assert is_stopped == any(stop in whole for stop in stops)
    if is_stopped:
        assert not any(stop in shown for stop in stops)
        assert any(whole.startswith(shown + stop) for stop in stops)
    else:
        assert shown + filter_.flush() == whole


def test_a_stop_string_across_pieces_is_held_back_until_it_is_decided() -> None:
    filter_ = StopFilter(["END"])
    assert filter_.push("so E") == ("so ", False)
    assert filter_.push("N") == ("", False)
    assert filter_.push("T, E") == ("ENT, ", False)
    assert filter_.push("ND and more") == ("", True)


def test_without_stop_strings_nothing_is_held_back() -> None:
    assert StopFilter([]).push("all") == ("all", False)
