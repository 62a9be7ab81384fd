"""Outputs that cannot be written are refused before anything is built for them [OUT]."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pybuild.exporter.check import check_file, check_outputs
from pybuild.exporter.output import parse_output
from pybuild.model.errors import EnvironmentFault, PybuildError, UsageError
from pybuild.model.reference import Reference


def check(text: str, *tags: str) -> None:
    names = tuple(Reference.parse(tag) for tag in tags)
    check_outputs((parse_output(text),), names, is_index=False)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("type=oci,dest={tmp}/o,compression=lzma", 'output compression "lzma": one of estargz'),
        ("type=image,compression=estargz,oci-mediatypes=false", "estargz needs oci-media"),
        ("type=image,store=maybe", 'output attribute store="maybe": expected true or false'),
        ("type=docker,tar=false,dest={tmp}/o", "output type=docker is always a tar file"),
        ("type=oci,dest={tmp}/o,annotation-index.a=b", "index annotations not supported"),
        ("type=registry", "tag is needed when pushing to registry"),
        ("type=registry,name=a/b@sha256:0", "invalid reference format"),
        ("type=image,push-by-digest=true,name=a/b:3", "can't push tagged ref"),
        ("type=oci,dest={tmp}/none/o", "output directory {tmp}/none does not exist"),
        ("type=docker,dest={tmp}", "output destination {tmp} is a directory"),
        ("type=local,dest={tmp}/file", "output directory {tmp}/file: {tmp}/file is not a dir"),
        ("type=local,dest={tmp}/file/x", "output directory {tmp}/file/x: {tmp}/file is not a dir"),
        ("type=local,dest={tmp}/broken/x", "{tmp}/broken leads nowhere"),
        ("type=oci,tar=false,dest={tmp}", "{tmp} is not empty and not an OCI layout"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").symlink_to("nowhere")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(PybuildError) as caught:
        check(text.format(tmp=tmp_path))
    assert why.format(tmp=tmp_path) in caught.value.message
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    "text",
    [
        "type=local,dest={tmp}/deep/er",
        "type=local,dest={tmp}",
        "type=tar,dest={tmp}/t",
        "type=oci,dest={tmp}/file",
        "type=docker,dest=/dev/null",
        "type=oci,tar=false,dest={tmp}/layout",
        "type=image",
        "type=docker",
        "type=cacheonly",
        "type=oci",
    ],
)
def test_what_can_be_is_left_as_it_is(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", None)  # no terminal
    (tmp_path / "file").write_text("old")
    before = os.stat(tmp_path).st_ctime_ns
    check(text.format(tmp=tmp_path))
    assert os.listdir(tmp_path) == ["file"]
    assert os.stat(tmp_path).st_ctime_ns == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes where nobody may")
def test_a_directory_that_is_not_ours_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(EnvironmentFault, match="cannot write output .*/x: permission denied"):
        check(f"type=local,dest={tmp_path}/x")


def _no_unnamed(real: Callable[..., int]) -> Callable[..., int]:
    def opened(path: str, flags: int, *rest: int, **names: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "operation not supported")
        return real(path, flags, *rest, **names)

    return opened


def test_file_systems_without_unnamed_files_are_tried_with_a_named_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "open", _no_unnamed(os.open))
    check_file(str(tmp_path / "x"))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc")
def test_a_file_system_that_takes_no_files_is_named() -> None:
    with pytest.raises(EnvironmentFault, match="^cannot write output /proc/x: "):
        check_file("/proc/x")


def test_a_directory_that_is_missing_is_named_for_result_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none does not exist"):
        check_file(str(tmp_path / "none" / "iid"))
