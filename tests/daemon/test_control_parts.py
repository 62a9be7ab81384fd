"""The pure parts of the build server: attributes, history, used paths [remote-api 5-7]."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Timer

import pytest

from pybuild.buildkit.journal import Journal
from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb.times import timestamp
from pybuild.daemon.control.history import History
from pybuild.daemon.frontend.attrs import UnsupportedCap, read_attrs, with_slashes
from pybuild.daemon.frontend.dockerfile import used_paths
from pybuild.model.digest import Digest
from pybuild.model.errors import UsageError
from pybuild.model.ops import (
    Copy,
    ExecOp,
    FileOp,
    LocalSource,
    Mount,
    NetworkMode,
    ScratchSource,
    Vertex,
)
from pybuild.model.platform import Platform
from tests.image.images import Blobs, make_image

V = Digest.of(b"v")


# --- attributes -----------------------------------------------------------------------------------


def test_attributes_that_are_absent_have_the_protocols_defaults() -> None:
    attrs = read_attrs({})
    assert (attrs.filename, attrs.context_key, attrs.dockerfile_key) == (
        "Dockerfile",
        "context",
        "dockerfile",
    )
    assert not attrs.no_cache and not attrs.platforms and attrs.pull


def test_attributes_are_read() -> None:
    attrs = read_attrs(
        {
            "filename": "sub/D",
            "target": "t",
            "platform": "linux/amd64,linux/arm64",
            "build-arg:A": "1",
            "label:l": "x",
            "no-cache": "One,two",
            "add-hosts": "h=1.2.3.4,v6=[::1]",
            "ulimit": "nofile=5:6,core=0",
            "shm-size": "4096",
            "force-network-mode": "none",
            "context:base": "docker-image://x",
            "local-sessionid:context": "s",
            "image-resolve-mode": "local",
            "cache-imports": '[{"Type":"registry","Attrs":{"ref":"r"}}]',
            "cache-from": "a,b",
        }
    )
    assert attrs.platforms == (Platform("linux", "amd64"), Platform("linux", "arm64"))
    assert attrs.multi_platform
    assert attrs.no_cache_filter == {"one", "two"} and not attrs.no_cache
    assert attrs.steps.add_hosts == (("h", "1.2.3.4"), ("v6", "::1"))
    assert attrs.steps.ulimits == (("core", 0, 0), ("nofile", 5, 6))
    assert attrs.steps.network is NetworkMode.NONE
    assert not attrs.pull
    assert [kind for kind, _ in attrs.cache_imports] == ["registry"] * 3
    assert attrs.local_sessions == {"context": "s"}


def test_no_cache_without_a_list_is_every_stage() -> None:
    assert read_attrs({"no-cache": ""}).no_cache


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("platform", "linux/nonsense"),
        ("multi-platform", "maybe"),
        ("add-hosts", "h"),
        ("add-hosts", "h=not-an-ip"),
        ("ulimit", "nofile=x"),
        ("shm-size", "-1"),
        ("shm-size", "1g"),
        ("shm-size", "9" * 20),
        ("ulimit", "nofile=" + "9" * 20),
        ("force-network-mode", "bridge"),
        ("image-resolve-mode", "never"),
        ("cache-imports", "{"),
        ("cache-imports", "[1]"),
    ],
)
def test_attributes_that_cannot_be(name: str, value: str) -> None:
    with pytest.raises(UsageError):
        read_attrs({name: value})


def test_a_capability_that_is_not_there_is_named() -> None:
    assert read_attrs({"frontend.caps": "moby.buildkit.frontend.inputs+forward"})
    with pytest.raises(UnsupportedCap) as caught:
        read_attrs({"frontend.caps": "moby.buildkit.frontend.inputs,x.y"})
    assert caught.value.name == "x.y"


def test_schemes_may_come_without_slashes() -> None:
    assert with_slashes("docker-image:a/b:c") == "docker-image://a/b:c"
    assert with_slashes("oci-layout://x@sha256:1") == "oci-layout://x@sha256:1"
    assert with_slashes("https://h/x") == "https://h/x"


# --- used paths -----------------------------------------------------------------------------------


def test_only_what_is_read_of_a_directory_is_asked_for() -> None:
    context, other = Vertex(LocalSource(name="context")), Vertex(LocalSource(name="other"))
    copy = FileOp(
        actions=(Copy(input=1, source="/a/*.c", dest="/"), Copy(input=1, source="/b", dest="/"))
    )
    base = Vertex(copy, (Vertex(ScratchSource()), context))
    step = ExecOp(
        args=("x",),
        env=(),
        cwd="/",
        mounts=(Mount(target="/", input=0), Mount(target="/m", input=1, selector="/")),
        platform=Platform("linux", "amd64"),
    )
    assert used_paths(Vertex(step, (base, other))) == {"context": ("a/*.c", "b"), "other": ()}
    assert used_paths(context) == {"context": ()}


# --- history --------------------------------------------------------------------------------------


def record(ref: str, at: float, **more: object) -> pb.BuildHistoryRecord:
    return pb.BuildHistoryRecord(Ref=ref, CreatedAt=timestamp(at), **more)  # type: ignore[arg-type]


def listed(history: History, **wanted: object) -> list[tuple[int, str]]:
    async def run() -> list[tuple[int, str]]:
        request = pb.BuildHistoryRequest(EarlyExit=True, **wanted)  # type: ignore[arg-type]
        return [(event.type, event.record.Ref) async for event in history.listen(request)]

    return asyncio.run(run())


def test_history_survives_its_process(tmp_path: Path) -> None:
    first = History(str(tmp_path))
    first.begin(record("b", 2))
    assert listed(first) == [(pb.STARTED, "b")]
    done = record("b", 2)
    done.CompletedAt.CopyFrom(timestamp(3))
    first.end(done)
    first.end(record("a", 1))
    again = History(str(tmp_path))
    assert listed(again) == [(pb.COMPLETE, "a"), (pb.COMPLETE, "b")]
    assert listed(again, Ref="b") == [(pb.COMPLETE, "b")]
    assert listed(again, ActiveOnly=True) == []
    assert listed(again, Filter=["status==completed"]) == [(pb.COMPLETE, "b")]
    assert again.pin("a", True) and again.delete("b") and not again.delete("b")
    assert listed(History(str(tmp_path))) == [(pb.COMPLETE, "a")]


@pytest.mark.parametrize("ref", ["../x", "a/b", "", ".", "x" * 300])
def test_a_ref_is_no_path(tmp_path: Path, ref: str) -> None:
    history = History(str(tmp_path))
    history.end(record(ref, 1))
    assert history.records() == [] and history.get(ref) is None
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["blobs", "history", "records"]


@pytest.mark.parametrize("digest", ["sha256:../../x", "md5:1", "sha256:" + "g" * 64, ""])
def test_a_blob_is_asked_for_by_digest_alone(tmp_path: Path, digest: str) -> None:
    assert History(str(tmp_path)).blob_path(digest) is None


def test_a_damaged_record_is_as_good_as_none(tmp_path: Path) -> None:
    history = History(str(tmp_path))
    history.end(record("a", 1))
    (tmp_path / "history/records/a").write_bytes(b"\xff\xff")
    assert history.records() == [] and listed(history) == []


def test_an_images_documents_live_as_long_as_its_record(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    blobs = Blobs(tmp_path / "store")
    image = make_image(blobs, [tree])
    history = History(str(tmp_path))
    named = record("image", 1)
    named.Result.Results[0].CopyFrom(history.add_image(image, blobs.path))
    history.end(named)
    history.end(record("other", 2))
    folder = tmp_path / "history/blobs"
    kept = sorted(path.name for path in folder.iterdir())
    assert image.digest.hex in kept and len(kept) == 2, "the manifest and the config, no layer"
    for path in folder.iterdir():
        os.utime(path, (0, 0))
    assert history.delete("other")
    assert sorted(path.name for path in folder.iterdir()) == kept
    assert history.delete("image")
    assert not list(folder.iterdir())


@pytest.mark.slow
def test_builds_that_end_at_once_remove_the_oldest_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pybuild.daemon.control.history.MAX_RECORDS", 3)
    histories = [History(str(tmp_path)), History(str(tmp_path))]  # two servers, one store

    def end(number: int) -> None:
        found = histories[number % 2]
        found.add_blob(b"%d" % number, "text/plain")
        found.end(record(f"r{number}", number))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(end, range(200)))
    histories[0].end(record("last", 200))
    assert [found.Ref for found in histories[1].records()] == ["r198", "r199", "last"]


def test_a_listener_hears_of_builds_that_end_in_a_thread(tmp_path: Path) -> None:
    history = History(str(tmp_path))

    async def run() -> str:
        Timer(0.1, history.end, [record("a", 1)]).start()  # while nothing else wakes the loop
        began = asyncio.get_running_loop().time()
        event = await asyncio.wait_for(anext(history.listen(pb.BuildHistoryRequest())), 60)
        assert asyncio.get_running_loop().time() - began < 60, "the end of the wait woke it"
        return event.record.Ref

    assert asyncio.run(run()) == "a"


def test_history_without_space_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = History(str(tmp_path))

    def full(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    history.begin(record("a", 1))
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        history.end(record("a", 1))
    history.drop(record("a", 1))
    assert history.active() == [] and list((tmp_path / "history/records").iterdir()) == []


def test_a_long_log_is_kept_whole(tmp_path: Path) -> None:
    journal = Journal.temporary()
    journal.write(b"a" * (3 << 20))
    journal.close()
    history = History(str(tmp_path))
    found = history.add_pieces(journal.pieces(), "text/plain")
    journal.discard()
    path = history.blob_path(found.digest)
    assert path is not None
    data = Path(path).read_bytes()
    assert len(data) == found.size == (3 << 20) + 4
    assert found.digest == "sha256:" + hashlib.sha256(data).hexdigest()
