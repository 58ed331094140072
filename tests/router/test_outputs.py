"""What a follower of a running job gets of its output."""

from router.outputs import OutputCursor, OutputSoFar


def test_texts_of_several_answers_come_as_a_piece_each_that_says_whose_it_is() -> None:
    output = OutputSoFar()
    cursor = OutputCursor(output)
    for answer, text in [(0, "a"), (1, "x"), (0, "b"), (2, "q")]:
        output.add_text(text, answer)
    assert cursor.take() == [{"text": "ab"}, {"text": "x", "index": 1}, {"text": "q", "index": 2}]
    output.add_text("y", 1)
    assert cursor.take() == [{"text": "y", "index": 1}]
    assert cursor.take() == []


def test_a_new_attempt_says_once_that_all_answers_begin_again() -> None:
    output = OutputSoFar()
    cursor = OutputCursor(output)
    output.add_text("a")
    cursor.take()
    output.drop()
    output.add_text("b")
    output.add_text("c", 1)
    assert cursor.take() == [{"text": "b", "restart": True}, {"text": "c", "index": 1}]
