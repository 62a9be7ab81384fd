"""Archives that are read twice from their beginning: files, and standard input, which is kept meanwhile."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from pybuild.exporter.mountfiles import opened_archive
from pybuild.model.errors import UserError


def test_a_file_is_read_from_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"bytes")
    with opened_archive(str(tmp_path / "a")) as file:
        assert file.read() == b"bytes" and file.seek(0) == 0
    with pytest.raises(UserError) as caught:
        opened_archive(f"{tmp_path}/none")
    assert caught.value.message == f"cannot read {tmp_path}/none: no such file or directory"


def test_standard_input_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"said")))
    with opened_archive("-") as file:
        file.seek(0)
        assert (file.read(), file.seek(0), file.read()) == (b"said", 0, b"said")
