"""The Python API with contexts that are no directories, every option, and errors that can be asked."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

import pybuild
from pybuild.model.errors import StepError, UsageError
from pybuild.progress.display import Silent

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


def archive(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def test_a_context_is_files_or_an_archive(tmp_path: Path) -> None:
    out = tmp_path / "out"
    files: dict[str, bytes | str] = {
        "Dockerfile": "FROM scratch\nCOPY --from=more deep/b /\nCOPY a /\n",
        "a": b"1",
    }
    result = pybuild.build(
        files,
        build_contexts={"more": {"deep/b": "2"}},
        outputs=[str(out)],
        root=tmp_path / "store",
        allow=["network.host"],
        no_cache_filter=["x"],
        git_modes=True,
        on_event=Silent().show,
    )
    assert (out / "a").read_bytes() + (out / "b").read_bytes() == b"12"
    assert result.names == ()
    packed = archive(Dockerfile=b"FROM scratch\nCOPY a /\n", a=b"3")
    pybuild.build(packed, outputs=[str(tmp_path / "2")], root=tmp_path / "store", pull="never")
    assert (tmp_path / "2/a").read_bytes() == b"3"


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ({"../x": b""}, 'context: "../x" is no path inside of a context'),
        ({"/x": b""}, 'context: "/x" is no path inside of a context'),
        (b"none", "context: no archive that can be unpacked"),
    ],
)
def test_contexts_that_are_none(
    tmp_path: Path, context: dict[str, bytes] | bytes, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        pybuild.build(context, root=tmp_path / "store")


def test_a_failed_step_says_which_it_was(tmp_path: Path) -> None:
    text = b'FROM scratch\nCOPY a /\nRUN ["/nothing"]\n'
    with pytest.raises(StepError) as caught:
        pybuild.build({"a": ""}, dockerfile=text, root=tmp_path / "store")
    error = caught.value
    assert (error.step, error.line) == ('[2/2] RUN ["/nothing"]', 3)
    assert "no such file or directory" in error.log
