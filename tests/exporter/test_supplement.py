"""Lists of contents that say which layer a file came with [ATT-3]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pybuild.exporter.attest.supplement import supplemented
from pybuild.model.digest import Digest

BASE, TOP = Digest.of(b"base"), Digest.of(b"top")


def test_files_are_said_to_be_of_the_uppermost_layer_that_has_them(tmp_path: Path) -> None:
    for path in ("base/a/x", "base/both", "top/both", "host/secret"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "base/out").symlink_to(tmp_path / "host")
    names = ("/a/x", "both", "./a/../a/x", "/none", "/out/secret", "/out", "/a")
    given = {"fileName": "/a/x", "comment": "mine"}
    files: list[Any] = [given, *({"fileName": name} for name in names)]
    document = {"spdxVersion": "SPDX-2.2", "files": files, "creationInfo": {"creators": ["me"]}}
    layers = [(str(tmp_path / "base"), BASE), (str(tmp_path / "top"), TOP)]
    found = supplemented(document, [*layers, (str(tmp_path / "gone"), TOP)])
    comments = [file.get("comment", "").removeprefix("layerID: ") for file in found["files"]]
    assert comments == ["mine", BASE, TOP, BASE, "", "", BASE, BASE]
    me, tool = found["creationInfo"]["creators"]
    assert me == "me" and tool.startswith("Tool: pybuild-")
    assert document["files"] == files  # theirs is as it was


@pytest.mark.parametrize("document", [None, [], {}, {"files": [{"fileName": "/a"}]}])
def test_what_is_no_spdx_document_stays_as_it_is(document: Any) -> None:
    assert supplemented(document, []) == document


def test_a_document_may_have_no_files() -> None:
    found = supplemented({"spdxVersion": "SPDX-2.3", "creationInfo": None, "files": None}, [])
    assert found["files"] is None and len(found["creationInfo"]["creators"]) == 1
