"""Permission bits as ``--chmod`` writes them [CP-22]."""

from __future__ import annotations

import pytest

from pybuild.executor.files.modes import parse

FILE, DIRECTORY = False, True


@pytest.mark.parametrize(
    ("text", "old", "is_dir", "new"),
    [
        ("0", 0o7777, FILE, 0),
        ("755", 0o644, FILE, 0o755),
        ("07777", 0, DIRECTORY, 0o7777),
        ("u=rwX,go-w", 0o666, FILE, 0o644),
        ("u=rwX", 0o010, FILE, 0o710),
        ("u=rwX", 0, DIRECTORY, 0o700),
        ("a+X", 0o644, FILE, 0o644),
        ("a+X", 0o744, FILE, 0o755),
        ("-X", 0o755, FILE, 0o644),
        ("a-x+X", 0o755, FILE, 0o755),
        ("+x", 0o644, FILE, 0o755),
        ("go=", 0o777, FILE, 0o700),
        ("o=g", 0o750, FILE, 0o755),
        ("g+u", 0o710, FILE, 0o770),
        ("ug-o", 0o775, FILE, 0o225),
        ("u+s", 0o755, FILE, 0o4755),
        ("g+s", 0o755, FILE, 0o2755),
        ("o+s", 0o755, FILE, 0o755),
        ("+s", 0o755, FILE, 0o6755),
        ("a-s", 0o6755, FILE, 0o755),
        ("+t", 0o755, DIRECTORY, 0o1755),
        ("o+t", 0o755, DIRECTORY, 0o755),
        ("u=rx", 0o4755, FILE, 0o555),
        ("g=rx", 0o6755, FILE, 0o4755),
        ("o=rx", 0o7755, FILE, 0o7755),
        ("a=rx", 0o7777, FILE, 0o1555),
        ("a=rxt", 0o777, FILE, 0o1555),
        ("o=t", 0o1777, FILE, 0o1770),
        ("u+r-w", 0o200, FILE, 0o400),
    ],
)
def test_bits_before_and_after(text: str, old: int, is_dir: bool, new: int) -> None:
    assert oct(parse(text)(old, is_dir)) == oct(new)


@pytest.mark.parametrize(
    "text", ["8", "0x1", "10000", "0" * 17, "", "u", "u=rwx,", "q+x", "u=rwz", "x", "u*x"]
)
def test_what_is_no_mode_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid chmod parameter: '.*'. it should be octal"):
        parse(text)
