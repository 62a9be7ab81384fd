"""Cache mounts, images of several kinds and this process as a builder, on stores of their own."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybuild.builds.localbuilder import LocalBuilder
from pybuild.cache.content import cachemounts
from pybuild.cache.store import Store
from pybuild.cli import main
from pybuild.commandline.parser import Parsed
from pybuild.image.attestation import UNKNOWN
from pybuild.model.descriptor import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
)
from pybuild.model.digest import Digest, canonical_json
from pybuild.model.errors import UserError
from tests.clocks import FakeClock
from tests.pybuild.test_images import ONE, Shell, image

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str, status: int = 0) -> str:
        assert main(["--root", str(tmp_path / "store"), *words]) == status
        out, err = capsys.readouterr()
        return err if status else out

    return run


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """A store with two directories of ``pip``, and one of ``go``."""
    root = tmp_path / "store"
    with Store.open(root, FakeClock()) as store:
        for name, id in (("a" * 64, "pip"), ("b" * 64, "pip"), ("c" * 64, "go")):
            made = store.scratch("mount")
            cachemounts.begin(store, made, {"id": id, "created": 5.0})
            cachemounts.put(store, made, name)
    return root


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ((), 2, 'unknown command "cache mounts"\nhint: pybuild cache mounts ls | inspect | exp'),
        (("list",), 2, 'unknown command "cache mounts list"\nhint: one of ls, inspect, export, import'),
        (("ls", "x"), 2, '"pybuild cache mounts ls" expects no arguments, got 1 arguments\n'),
        (("inspect",), 2, '"pybuild cache mounts inspect" expects one ID, got 0 arguments\n'),
        (("export",), 2, '"pybuild cache mounts export" expects an ID and at most one FILE, got'),
        (("export", "a", "b", "c"), 2, '"pybuild cache mounts export" expects an ID and at'),
        (("import", "a", "b", "c"), 2, '"pybuild cache mounts import" expects an ID and at'),
        (("rm",), 2, '"pybuild cache mounts rm" expects one ID or more, got 0 arguments\n'),
        (("import", ""), 2, "a cache mount needs an ID\n"),
        (("import", "x", "/none.tar"), 1, "cannot read /none.tar: no such file or directory\n"),
        (("export", "pip", "/none/x.tar"), 1, (
            f'cache mount "pip" has 2 directories: {"a" * 12}, {"b" * 12}\n'
            "hint: name one of them instead of the id\n"
        )),
    ],
)  # fmt: skip
def test_words_about_mounts_that_are_none(
    mounts: Path, run: Run, words: tuple[str, ...], status: int, message: str
) -> None:
    assert run("cache", "mounts", *words, status=status).startswith(f"error: {message}")


def test_mounts_are_removed_once_whatever_they_are_called(mounts: Path, run: Run) -> None:
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in run("cache", "mounts", "ls", "--format=json").splitlines()
    ]
    assert [(row["id"], row["name"][0], row["created"]) for row in rows] == [
        ("go", "c", 5.0), ("pip", "a", 5.0), ("pip", "b", 5.0),
    ]  # fmt: skip
    assert {(row["in_use"], row["seeded"]) for row in rows} == {(False, False)}
    shown: list[dict[str, Any]] = json.loads(run("cache", "mounts", "inspect", "pip"))
    assert [one["path"] for one in shown] == [f"{mounts}/mounts/{n * 64}/fs" for n in "ab"]
    lines = run("cache", "mounts", "rm", "pip", "aaaa").splitlines()
    assert sorted(lines[:-1]) == ["a" * 12, "b" * 12]
    assert lines[-1].startswith("Total:\t")
    assert os.listdir(mounts / "mounts") == ["c" * 64]


# --- images ---------------------------------------------------------------------------------------


def test_an_image_beside_its_attestations_is_shown_as_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = Shell(tmp_path / "store", capsys)
    id = shell.id(shell.one)
    with Store.open(shell.root, FakeClock()) as store:
        notes = image(store, "notes")
        noted = Descriptor(notes.media_type, notes.digest, notes.size, platform=UNKNOWN)
        for name, children in (("attested", [shell.one, noted]), ("several", [shell.one] * 2)):
            body = {
                "schemaVersion": 2,
                "mediaType": OCI_INDEX,
                "manifests": [child.to_json() for child in children],
            }
            data = canonical_json(body)
            index = Descriptor(OCI_INDEX, store.blobs.put(data), len(data))
            store.images.tag(f"docker.io/me/{name}:1", index)
        store.images.add_dangling(image(store, "dangling"))
    rows = {
        row["repository"]: row
        for row in map(json.loads, shell("images", "--format=json").splitlines())
    }
    attested, several = rows["docker.io/me/attested"], rows["docker.io/me/several"]
    assert (attested["id"], attested["size"]) == (id, 1_000)
    assert attested["digest"] != shell.one.digest
    assert several["id"] == several["digest"]
    assert (rows["<none>"]["tag"], rows["<none>"]["CreatedSince"]) == ("", "N/A")
    lines = {line[0]: line for line in shell.lines("images")}
    assert lines["me/attested"][1:3] == ["1", id.short]
    assert lines["<none>"][1] == "<none>"


def test_an_image_that_is_whole_is_found_to_be_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = Shell(tmp_path / "store", capsys)
    with Store.open(shell.root, FakeClock()) as store:

        def put(kind: str, data: bytes) -> Descriptor:
            return Descriptor(kind, store.blobs.put(data), len(data))

        tree = io.BytesIO()
        with tarfile.open(fileobj=tree, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("file"))
        diff_ids = [Digest.of(tree.getvalue())]
        rootfs = {"type": "layers", "diff_ids": diff_ids}
        config = {"architecture": "amd64", "os": "linux", "rootfs": rootfs}
        layer = put(OCI_LAYER_GZIP, gzip.compress(tree.getvalue()))
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": put(OCI_CONFIG, canonical_json(config)).to_json(),
            "layers": [layer.to_json()],
        }
        whole = put(OCI_MANIFEST, canonical_json(manifest))
        store.images.tag("docker.io/library/whole:1", whole)
    assert shell("inspect", "--check", "whole:1") == (
        f"{whole.digest}: every digest, diffID and size is right\n"
    )


def test_an_image_with_two_names_is_removed_name_by_name_or_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = Shell(tmp_path / "store", capsys)
    shell("tag", "one:1", "uno")
    uno = "docker.io/library/uno:latest"
    assert shell("rmi", shell.one.digest) == (
        f"Untagged: {ONE}\nUntagged: {uno}\nDeleted: {shell.one.digest}\n"
    )
    assert main(["--root", str(shell.root), "inspect", "one:1"]) == 1
    assert capsys.readouterr().err == (
        "error: no such object: one:1\nhint: pybuild images lists what is there\n"
    )
    assert main(["--root", str(shell.root), "tag", "r.example/two:2", "A"]) == 2


# --- this process ---------------------------------------------------------------------------------


def local(root: Path) -> LocalBuilder:
    parsed = Parsed()
    parsed.values = {"root": [str(root)]}
    return LocalBuilder(parsed)


def test_a_store_that_is_not_there_knows_no_build(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        local(tmp_path / "none").reports(everything=True)
    assert caught.value.message == (f"no build is known here: there is no store at {tmp_path}/none")
    Store.open(tmp_path / "store", FakeClock()).close()
    assert local(tmp_path / "store").reports(everything=True) == []
    assert not (tmp_path / "none").exists()


def test_the_disk_is_that_of_the_store_that_is_to_be(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    assert local(tmp_path / "a/b/c").disk_bytes() == disk.f_blocks * disk.f_frsize


def test_usage_is_filtered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shell = Shell(tmp_path / "store", capsys)
    records = local(shell.root).usage([])
    assert {record.kind for record in records} >= {"blob", "store"}
    chosen = local(shell.root).usage([f"id={shell.one.digest}"])
    assert [record.id for record in chosen] == [shell.one.digest]


# --- lint -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--format=xml",), 'invalid format "xml": text or json\n'),
        (("--fix", "-"), "standard input cannot be mended in its place\nhint: leave out --fix\n"),
        (("--build-arg==1",), 'invalid build-arg "=1": expected NAME=value\n'),
    ],
)
def test_lint_that_cannot_be(run: Run, words: tuple[str, ...], message: str) -> None:
    assert run("lint", *words, status=2) == f"error: {message}"


def test_lint_shows_what_is_above_an_error_and_the_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], run: Run
) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("FROM scratch AS Base\nNONE\n")
    assert main(["lint", "--root", str(tmp_path / "store"), str(file)]) == 1
    out, err = capsys.readouterr()
    assert out.count("WARNING") == 1
    assert err.startswith("error: dockerfile parse error on line 2: unknown instruction: NONE\n")
    assert main(["lint", "--root", str(tmp_path / "store"), "--format=json", str(file)]) == 1
    out, err = capsys.readouterr()
    assert (err, "buildError" in json.loads(out)) == ("", True)


def test_lint_takes_values_of_arguments(tmp_path: Path, run: Run) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch AS Base\n")
    skip = "--build-arg=BUILDKIT_DOCKERFILE_CHECK=skip=all"
    assert "no warnings" in run("lint", skip, str(tmp_path))
    assert run("lint", str(tmp_path), status=1) == ""


def test_facts_of_the_system_are_spelled_for_people(tmp_path: Path, run: Run) -> None:
    shown = dict(line.split(": ", 1) for line in run("info").splitlines()[:-1])
    assert shown["Root Dir"] == str(tmp_path / "store")
    assert shown["Server Version"] == json.loads(run("info", "--format=json"))["ServerVersion"]
    assert {"Kernel Version", "OS Type", "Operating System", "Total Memory", "CPUs"} < set(shown)
    assert run("info", "--format={{.OSType}}") == "linux\n"


def test_what_the_store_holds_is_summed_up_by_kind(mounts: Path, run: Run) -> None:
    del mounts
    title, *rows = run("system", "df").splitlines()
    assert title.split() == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    kinds = [json.loads(line)["Type"] for line in run("system", "df", "--format=json").splitlines()]
    assert [row.split("  ")[0] for row in rows] == kinds
    assert {"Images", "Build Cache"} < set(kinds)
