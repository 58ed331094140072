"""Languages by the names that speech models give them."""

import pytest

from providers.languages import language_code


@pytest.mark.parametrize(
    ("name", "code"),
    [("english", "en"), ("German", "de"), ("haitian creole", "ht"), ("de", "de"), ("", ""), ("klingon", "klingon")],
)
def test_a_name_becomes_its_code_and_anything_else_stays(name: str, code: str) -> None:
    assert language_code(name) == code
