"""Physical lines as a sequence that holds the text once."""

from __future__ import annotations

import tracemalloc

import pytest

from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.frontend.syntax.physical import Lines, excerpts, split_lines


@pytest.mark.parametrize("text", ["", "\n", "a", "a\n", "a\n\nb", "\n\n", "é\r\n\x0bb\n"])
def test_lines_are_a_sequence_of_what_ends_with_a_line_feed(text: str) -> None:
    plain = [part + "\n" for part in text.split("\n")]
    plain[-1] = plain[-1][:-1]
    plain = [line for line in plain if line]
    lines = Lines(text)
    assert list(lines) == plain
    assert len(lines) == len(plain)
    assert [lines[at] for at in range(-len(plain), len(plain))] == plain * 2
    assert lines[1:] == plain[1:]
    assert lines.joined(0, len(lines)) == text
    with pytest.raises(IndexError):
        lines[len(plain)]


def test_excerpts_have_no_ends_and_only_text() -> None:
    shown = excerpts(b"\xef\xbb\xbfa\r\n\xff\nb")
    assert list(shown) == ["a", "\ufffd", "b"]
    assert shown[1:] == ["\ufffd", "b"]
    assert shown == excerpts(b"a\r\n\xff\nb")
    assert shown != excerpts(b"a\n")


@pytest.mark.slow
def test_a_heredoc_of_many_lines_takes_a_few_times_its_size() -> None:
    """A list of the lines would take eight times as much, and was made thrice."""
    data = b"FROM scratch\nCOPY <<E /x\n" + b"short\n" * 20_000 + b"E\n"
    parse_dockerfile(b"FROM scratch\nCOPY <<E /x\nE\n")
    tracemalloc.start()
    try:
        dockerfile = parse_dockerfile(data)
        assert len(dockerfile.lines) == len(split_lines(data)) == 20_003
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * len(data)
