"""A layer in another compression is the same layer [OUT-10]."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import pytest

from pybuild.image.layer.orders import BlobOrder
from pybuild.image.layer.recompress import recompress_job
from pybuild.model.border import WorkerCall
from pybuild.model.errors import EnvironmentFault

TAR = bytes(range(256)) * 400
DIFF_ID = "sha256:" + hashlib.sha256(TAR).hexdigest()


@pytest.fixture
def blob(tmp_path: Path) -> str:
    (tmp_path / "blob").write_bytes(gzip.compress(TAR))
    return str(tmp_path / "blob")


def test_the_bytes_are_the_same(blob: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    order = BlobOrder(str(out), "uncompressed")
    made = recompress_job(WorkerCall(), blob, DIFF_ID, len(TAR), order)
    assert out.read_bytes() == TAR
    assert (made.diff_id, made.digest) == (DIFF_ID, DIFF_ID)
    assert (made.size, made.uncompressed_size) == (len(TAR), len(TAR))


@pytest.mark.parametrize(("diff_id", "most"), [("sha256:" + "0" * 64, len(TAR)), (DIFF_ID, 100)])
def test_another_layer_or_a_larger_one_leaves_nothing(
    blob: str, tmp_path: Path, diff_id: str, most: int
) -> None:
    order = BlobOrder(str(tmp_path / "out"), "uncompressed")
    with pytest.raises(EnvironmentFault):
        recompress_job(WorkerCall(), blob, diff_id, most, order)
    assert os.listdir(tmp_path) == ["blob"]
