"""The commands for images, on a store with two of them, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pybuild.cache.store import Store
from pybuild.cli import main
from pybuild.model.descriptor import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest, canonical_json
from tests.clocks import FakeClock

ONE, TWO = "docker.io/library/one:1", "r.example/two:2"


def image(store: Store, seed: str) -> Descriptor:
    def put(media_type: str, data: bytes) -> Descriptor:
        return Descriptor(media_type, store.blobs.put(data), len(data))

    layer = put(OCI_LAYER_GZIP, seed.encode() * 1_000)
    history = [
        {"created_by": "ADD\ta /", "comment": "base"},
        {"created_by": "ENV " + "A=1 " * 20, "empty_layer": True},
    ]
    config = {"architecture": "amd64", "os": "linux", "seed": seed, "history": history}
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": put(OCI_CONFIG, canonical_json(config)).to_json(),
        "layers": [layer.to_json()],
    }
    return put(OCI_MANIFEST, canonical_json(manifest))


class Shell:
    """Runs commands on a store.

    Attributes:
        one, two: the manifests of the images that are there.
    """

    def __init__(self, root: Path, output: pytest.CaptureFixture[str]) -> None:
        self.root, self._output = root, output
        with Store.open(root, FakeClock()) as store:
            self.one, self.two = image(store, "1"), image(store, "2")
            store.images.tag(ONE, self.one)
            store.images.tag(TWO, self.two)

    def __call__(self, *words: str, status: int = 0) -> str:
        assert main(["--root", str(self.root), *words]) == status
        return self._output.readouterr().out

    def lines(self, *words: str) -> list[list[str]]:
        return [line.split() for line in self(*words).splitlines()]

    def id(self, descriptor: Descriptor) -> Digest:
        shown: dict[str, Any] = json.loads(self("inspect", "--oci", str(descriptor.digest)))
        return Digest.parse(shown["manifest"]["config"]["digest"])


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path / "store", capsys)


def test_images_are_listed_as_a_table_as_ids_and_for_programs(shell: Shell) -> None:
    ids = [shell.id(shell.one), shell.id(shell.two)]
    head, one, two = shell.lines("images")
    assert head == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE", "COMPRESSED"]
    assert one[:3] == ["one", "1", ids[0].short]
    assert two[:3] == ["r.example/two", "2", ids[1].short]
    assert "1.000kB" in one or "1kB" in one or "1.00kB" in one
    assert shell("images", "-q") == f"{ids[0].short}\n{ids[1].short}\n"
    assert shell("images", "-q", "--no-trunc") == f"{ids[0]}\n{ids[1]}\n"
    rows = [json.loads(line) for line in shell("images", "--format", "json").splitlines()]
    assert [(row["repository"], row["tag"], row["size"]) for row in rows] == [
        ("docker.io/library/one", "1", 1_000),
        ("r.example/two", "2", 1_000),
    ]
    assert [row["digest"] for row in rows] == [shell.one.digest, shell.two.digest]


def test_images_of_one_repository_and_their_digests(shell: Shell) -> None:
    assert [line[0] for line in shell.lines("images", "one")] == ["REPOSITORY", "one"]
    head, one, _ = shell.lines("images", "--digests")
    assert head[:3] == ["REPOSITORY", "TAG", "DIGEST"]
    assert one[2] == shell.one.digest


def test_names_are_given_and_taken(shell: Shell) -> None:
    assert shell("tag", "one:1", "three:3") == ""
    assert [line[0] for line in shell.lines("images")[1:]] == ["one", "three", "r.example/two"]
    shown = json.loads(shell("inspect", "--oci", "three:3"))
    assert shown["names"] == [ONE, "docker.io/library/three:3"]
    assert shown["config"]["seed"] == "1"
    assert shell("rmi", "three:3") == "Untagged: docker.io/library/three:3\n"
    assert shell("rmi", shell.id(shell.two)) == (f"Untagged: {TWO}\nDeleted: {shell.two.digest}\n")
    assert [line[0] for line in shell.lines("images")[1:]] == ["one"]
    assert shell("rmi", "gone:1", status=1) == ""
    assert shell("rmi", "-f", "gone:1", "one:1") == f"Untagged: {ONE}\n"


def test_an_image_is_shown_raw_and_checked(shell: Shell) -> None:
    raw = shell("inspect", "--raw", "one:1")
    assert Digest.of(raw.encode()) == shell.one.digest
    assert shell("inspect", "--check", "one:1", status=1) == ""  # its layer is no archive


def test_a_history_has_the_newest_step_first(shell: Shell) -> None:
    newest, oldest = (
        json.loads(line) for line in shell("history", "--format", "json", "one:1").splitlines()
    )
    assert (newest["id"], newest["size"]) == (shell.id(shell.one), 0)
    assert (oldest["id"], oldest["size"], oldest["comment"]) == ("<missing>", 1_000, "base")
    table = shell("history", "one:1").splitlines()
    assert table[0].split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert f"ENV {'A=1 ' * 10}…" in table[1] and "0B" in table[1]
    assert table[2].split()[-2:][1] == "base"
    assert "A=1 " * 20 in shell("history", "--no-trunc", "one:1")
    assert shell("history", "-q", "one:1").splitlines() == [shell.id(shell.one), "<missing>"]
