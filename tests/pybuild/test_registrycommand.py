"""``pybuild registry ls`` and ``rm`` on a store's registry."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from pybuild.cache.repositories.repositories import ManifestEntry
from pybuild.cache.store import Store
from pybuild.cli import main
from pybuild.model.descriptor import OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest, canonical_json
from tests.clocks import FakeClock

Run = Callable[..., str]


class Filled:
    """A store with ``team/app``: two tags of one image, an image without, an index of both."""

    def __init__(self, root: Path) -> None:
        with Store.open(root, FakeClock()) as store:
            self._store = store
            self.one, self.two = self._image("one", 1_000), self._image("two", 500)
            body = {"schemaVersion": 2, "mediaType": OCI_INDEX}
            children = [one.to_json() for one in (self.one, self.two, self.two)]
            self.index = self._put(OCI_INDEX, canonical_json({**body, "manifests": children}))
            repository = store.repositories["team/app"]
            repository.put_manifest(ManifestEntry(descriptor=self.one), ["1", "0"])
            repository.put_manifest(ManifestEntry(descriptor=self.two))
            repository.put_manifest(ManifestEntry(descriptor=self.index), ["all"])

    def _put(self, kind: str, data: bytes) -> Descriptor:
        return Descriptor(kind, self._store.blobs.put(data), len(data))

    def _image(self, seed: str, size: int) -> Descriptor:
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self._put(OCI_CONFIG, b"{}").to_json(),
            "layers": [self._put(OCI_LAYER_GZIP, seed.encode() * (size // 3)).to_json()],
        }
        return self._put(OCI_MANIFEST, canonical_json(manifest))


@pytest.fixture
def filled(tmp_path: Path) -> Filled:
    return Filled(tmp_path)


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str, status: int = 0) -> str:
        assert main(["--root", str(tmp_path), "registry", *words]) == status
        out, err = capsys.readouterr()
        return err if status else out

    return run


def test_what_is_there_is_listed_by_tag(filled: Filled, run: Run) -> None:
    rows = [json.loads(line) for line in run("ls", "--format=json").splitlines()]
    small, large = 2 + 498, 2 + 999  # the empty config, and a layer
    assert [(row["tag"], row["digest"], row["size"]) for row in rows] == [
        ("0", filled.one.digest, large),
        ("1", filled.one.digest, large),
        ("all", filled.index.digest, 2 + 498 + 999),
        ("", filled.two.digest, small),
    ]
    assert {row["repository"] for row in rows} == {"team/app"}
    assert rows[2]["media_type"] == OCI_INDEX
    assert {row["pushed"] for row in rows} == {1_700_000_000}
    lines = [line.split() for line in run("ls", "team/app").splitlines()]
    assert lines[0] == ["REPOSITORY", "TAG", "DIGEST", "PUSHED", "(UTC)", "SIZE"]
    assert lines[1] == ["team/app", "0", filled.one.digest, "2023-11-14", "22:13", "1.00kB"]
    assert lines[4][:2] == ["team/app", "<none>"]


def test_tags_and_manifests_are_removed(filled: Filled, run: Run) -> None:
    digest = f"team/app@{filled.two.digest}"
    assert run("rm", "team/app:1", digest) == f"Deleted: team/app:1\nDeleted: {digest}\n"
    rows = [json.loads(line) for line in run("ls", "--format=json").splitlines()]
    assert [row["tag"] for row in rows] == ["0", "all"]
    assert run("rm", "team/app:1", status=1) == (
        "error: team/app:1 is not in the registry\nhint: pybuild registry ls\n"
    )
    assert run("rm", "--force", "team/app:1", "team/app:0") == "Deleted: team/app:0\n"


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("list",), 2, 'unknown command "registry list"\nhint: one of serve, ls, rm'),
        (("serve", "x"), 2, '"pybuild registry serve" expects no arguments, got 1 arguments'),
        (("rm",), 2, '"pybuild registry rm" expects NAME:TAG or NAME@DIGEST, got 0'),
        (("rm", "team/app"), 2, '"team/app": expected NAME:TAG or NAME@DIGEST'),
        (("rm", "team/app:"), 2, '"team/app:": expected NAME:TAG or NAME@DIGEST'),
        (("rm", "Team:1"), 2, '"Team:1": expected NAME:TAG or NAME@DIGEST'),
        (("rm", "team/app@sha256:1"), 2, '"team/app@sha256:1": '),
        (("rm", f"none@{Digest.of(b'')}"), 1, 'repository "none" does not exist\n'),
        (("rm", "none:1"), 1, 'repository "none" does not exist\nhint: pybuild registry ls'),
        (("ls", "none"), 1, 'repository "none" does not exist\nhint: pybuild registry ls'),
        (("ls", "../x"), 1, 'repository "../x" does not exist\nhint: pybuild registry ls'),
    ],
)
def test_what_is_not_there(
    filled: Filled, run: Run, words: tuple[str, ...], status: int, message: str
) -> None:
    assert run(*words, status=status).startswith(f"error: {message}")


# --- serve ----------------------------------------------------------------------------------------


class Stopping(io.StringIO):
    """A standard error that stops the server once it serves, as its first signal would."""

    def write(self, text: str) -> int:
        if text.startswith("registry: serving "):
            asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
        return super().write(text)


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Run]:
    """Serve for a moment; gives what was told of it."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def serve(config: str, *flags: str) -> str:
        (tmp_path / "c.toml").write_text(config)
        said = Stopping()
        monkeypatch.setattr(sys, "stderr", said)
        words = ("registry", "serve", "--config", str(tmp_path / "c.toml"), *flags)
        assert main(["--root", f"{tmp_path}/store", *words, "--addr=127.0.0.1:0"]) == 0
        return re.sub(r"127\.0\.0\.1:[0-9]+", "ADDRESS", said.getvalue())

    yield serve
    signal.signal(signal.SIGTERM, before)


OPEN = "warning: anybody who reaches ADDRESS may push and delete"
STEPS = ", every step of a Dockerfile on this machine too while steps share its network"
SEE = "; see --htpasswd\n"
READERS = '[[registry-server.access]]\nusers = ["anonymous"]\nrepositories = ["*"]\n'


@pytest.mark.parametrize(
    ("config", "flags", "warning"),
    [
        ("", (), f"{OPEN}{STEPS}{SEE}"),
        ('[network]\nmode = "isolated"\n', (), f"{OPEN}{SEE}"),
        ("", ("--read-only",), ""),
        (f'{READERS}actions = ["pull"]\n', (), ""),
        (f'{READERS}actions = ["pull", "delete"]\n', (), f"{OPEN}{STEPS}{SEE}"),
        (f'{READERS}actions = ["push"]\n'.replace("anonymous", "*"), (), ""),
    ],
)
def test_a_server_that_anybody_may_change_says_so(
    serve: Run, tmp_path: Path, config: str, flags: tuple[str, ...], warning: str
) -> None:
    assert serve(config, *flags) == (
        f"registry: serving {tmp_path}/store on ADDRESS\n{warning}registry: stopping\n"
    )
