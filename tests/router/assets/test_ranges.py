"""Which part of a file a Range header means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.errors import RangeNotSatisfiable
from router.assets.ranges import Part, part_of


@pytest.mark.parametrize(
    "header", ["", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=3-2", "bytes=0-1,5-6", "x=0-1"]
)
def test_what_is_no_single_range_means_the_whole_file(header: str) -> None:
    assert part_of(header, 10) is None


@given(size=st.integers(1, 50), first=st.integers(0, 60), length=st.integers(0, 60))
def test_a_part_is_what_slicing_gives(size: int, first: int, length: int) -> None:
    data = bytes(range(size))
    expected = data[first : first + length + 1]
    if not expected:
        with pytest.raises(RangeNotSatisfiable, match=f"{size} bytes"):
            part_of(f"bytes={first}-{first + length}", size)
    else:
        part = part_of(f"bytes={first}-{first + length}", size)
        assert part is not None
        assert data[part.start : part.end] == expected


@given(size=st.integers(1, 50), last=st.integers(1, 10**17))
def test_a_suffix_is_at_most_the_whole_file(size: int, last: int) -> None:
    assert part_of(f"bytes=-{last}", size) == Part(max(size - last, 0), size)


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=-0", "bytes=99-100"])
def test_a_range_outside_of_the_file_is_an_error(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        part_of(header, 10)
