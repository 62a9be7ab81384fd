"""Fail every write once, kill at any moment: the store opens clean and nothing dangles [GC-8]."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pybuild.cache.content.buildhistory import Builds
from pybuild.cache.content.images import references
from pybuild.cache.disk.atomic import Disk
from pybuild.cache.records.results import Results
from pybuild.cache.space.ceiling import keep_below
from pybuild.cache.space.prune import Policy, prune
from pybuild.cache.store import Store
from pybuild.model.descriptor import OCI_LAYER, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault
from pybuild.model.jsontext import parse
from pybuild.model.named import NamedInputs
from pybuild.model.snapshot import Record, Snapshot
from tests.cache import children
from tests.cache.builders import assert_sound
from tests.cache.test_images import image
from tests.clocks import FakeClock

KEY = Digest.of(b"key")
ENOSPC, EIO = 28, 5


class FailingDisk(Disk):
    """Fails the N-th call with *number*, in the caller's thread only, and counts them all.

    With *torn*, a failing write leaves half of its data behind, as a full disk does.
    """

    def __init__(self, at: int, number: int = ENOSPC, torn: bool = True) -> None:
        super().__init__()
        self.at = at
        self.number = number
        self.torn = torn
        self.calls = 0

    def _count(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # what watches the ceiling has a pace of its own
        self.calls += 1
        if self.calls == self.at:
            raise OSError(self.number, os.strerror(self.number))

    def create(self, path: str, mode: int = 0o600) -> int:
        self._count()
        return super().create(path, mode)

    def append(self, path: str) -> int:
        self._count()
        return super().append(path)

    def write(self, fd: int, data: bytes | memoryview) -> None:
        try:
            self._count()
        except OSError:
            if self.torn:
                super().write(fd, data[: len(data) // 2])
            raise
        super().write(fd, data)

    def flush(self, fd: int) -> None:
        self._count()

    def flush_dir(self, path: str) -> None:
        self._count()

    def flush_file_system(self, path: str) -> None:
        """Not counted: it happens in the background."""

    def rename(self, source: str, target: str) -> None:
        self._count()
        super().rename(source, target)

    def mkdir(self, path: str, mode: int = 0o700) -> None:
        self._count()
        super().mkdir(path, mode)

    def unlink(self, path: str) -> None:
        self._count()
        super().unlink(path)

    def gate(self, what: str) -> None:
        self._count()


def build(root: Path, disk: Disk, ceiling: int = 0) -> None:
    """Do what a build does to a store: pull, run, record, export, tag, free."""
    with Store.open(root, FakeClock(), disk=disk) as store:
        if ceiling:
            keep_below(store, ceiling)
        results = Results(store)
        active = store.deltas.begin()
        try:
            Path(active.fs, "file").write_text("x")
            first = store.deltas.commit(active, "sha256-" + "a" * 64, {"size": 4096})
        except BaseException:
            store.deltas.abort(active)
            raise
        second = store.deltas.commit(store.deltas.begin())
        named_inputs = NamedInputs({"op": {}}, {"digest": (("file", "look"),)})
        results.save(Record(key=KEY, snapshot=Snapshot((first, second))), named_inputs)
        results.save_alias(Digest.of(b"definition"), KEY)
        results.load(KEY)
        Builds(store).begin(1.0, {}, ()).end("completed")
        with store.blobs.writer(Digest.of(b"layer"), 5) as writer:
            writer.write(b"layer")
            writer.commit()
        path = store.scratch(".tar")
        Path(path).write_bytes(b"second")
        store.blobs.adopt(path, Digest.of(b"second"), 6)
        layers = [Descriptor(OCI_LAYER, Digest.of(b"layer"), 5)]
        store.images.tag("a", image(store, "1", layers))
        store.images.tag("a", image(store, "2", layers))
        store.images.untag("nosuch")
    with Store.open(root, FakeClock(), disk=disk) as store:
        prune(store, Policy(all=True))


def assert_whole(root: Path) -> None:
    """The store opens; records, names and images point at whole things; tmp/ can be emptied."""
    warnings: list[str] = []
    with Store.open(root, FakeClock(), warn=warnings.append) as store:
        assert_sound(store)
        for digest, _ in list(store.blobs.list()):
            assert store.blobs.verify(digest), digest
        for _, descriptor in store.images.list():
            for _, child in references(parse(store.blobs.read(descriptor.digest))):
                assert store.blobs.has(child)
        assert store.leases.held() == set()
        store.tmp.sweep()
    assert os.listdir(root / "tmp") == []
    assert warnings == []
    assert [name for name in os.listdir(root) if "damaged" in name] == []


def count_calls(tmp_path: Path, ceiling: int = 0) -> int:
    disk = FailingDisk(at=0)
    build(tmp_path / "counted", disk, ceiling)
    return disk.calls


@pytest.mark.slow
@pytest.mark.parametrize("number", [ENOSPC, EIO], ids=["full", "io-error"])
def test_any_failing_write_leaves_a_whole_store(tmp_path: Path, number: int) -> None:
    calls = count_calls(tmp_path)
    assert calls > 80
    failed = 0
    for at in range(1, calls + 1):
        root = tmp_path / f"store-{at}"
        try:
            build(root, FailingDisk(at, number))
        except EnvironmentFault as fault:
            failed += 1
            if number == ENOSPC:
                assert "no space left on device on the file system at" in fault.message
        assert_whole(root)
        if at % 5 == 0:
            build(root, FailingDisk(at=0))  # and works again
            assert_whole(root)
    # Only clean-up may swallow its failure, and the history, for the sake of which no build fails.
    assert failed > calls * 0.7


@pytest.mark.slow
def test_any_failing_write_below_a_ceiling_leaves_a_whole_store(tmp_path: Path) -> None:
    """Making room, and stating what one takes, writes too."""
    ceiling = 20_000_000
    calls = count_calls(tmp_path, ceiling)
    assert calls > count_calls(tmp_path / "without")
    for at in range(1, calls + 1):
        root = tmp_path / f"store-{at}"
        with suppress(EnvironmentFault):
            build(root, FailingDisk(at), ceiling)
        assert_whole(root)


BUILD = """
import random
from pybuild.cache.space.prune import Policy, prune
seed = random.Random(int(sys.argv[2]))
results = Results(store)
print('ready', flush=True)
for turn in range(10**6):
    active = store.deltas.begin()
    open(active.fs + '/file', 'w').write('x' * 1000)
    id = store.deltas.commit(active)
    key = Digest.of(id.encode())
    results.save(Record(key=key, snapshot=Snapshot((id,))))
    results.save_alias(Digest.of(key.encode()), key)
    with store.blobs.writer() as w:
        w.write(id.encode() * 1000)
        d, size = w.commit()
    store.images.tag(f'x:{turn % 7}', Descriptor(OCI_MANIFEST, d, size))
    if turn % 5 == 4:
        with Store.open(sys.argv[1], FakeClock()) as other:
            prune(other)
        store.lease.close()
"""


@pytest.mark.slow
def test_kill_at_any_moment_leaves_a_whole_store(root: Path) -> None:
    moments = random.Random(7)
    for turn in range(20):
        child = children.start(root, BUILD, str(turn))
        assert children.line(child) == "ready"
        time.sleep(moments.uniform(0.0, 0.12))
        children.kill(child)
        assert_whole(root)


@pytest.mark.slow
def test_two_builders_and_a_pruner_at_once(root: Path) -> None:
    builders = [children.start(root, BUILD, str(number)) for number in range(2)]
    try:
        for child in builders:
            assert children.line(child) == "ready"
        with Store.open(root, FakeClock()) as store:
            for _ in range(10):
                prune(store)
        assert all(child.poll() is None for child in builders)
    finally:
        for child in builders:
            children.kill(child)
    assert_whole(root)


@pytest.mark.slow
def test_racing_commits_of_one_id_agree(root: Path) -> None:
    program = (
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for n in range(20):\n"
        "    a = store.deltas.begin(); open(a.fs + '/by', 'w').write(sys.argv[2])\n"
        "    print(store.deltas.commit(a, f'sha256-{n}'))"
    )
    racers = [children.start(root, program, str(number)) for number in range(2)]
    for child in racers:
        assert children.line(child) == "ready"
    for child in racers:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    for child in racers:
        child.communicate(timeout=60)
        assert child.returncode == 0
    with Store.open(root, FakeClock()) as store:
        assert sorted(store.deltas.ids()) == sorted(f"sha256-{number}" for number in range(20))
        for id in store.deltas.ids():
            assert store.deltas.has(id)
            assert Path(store.deltas.path(id), "by").read_text() in ("0", "1")
    assert_whole(root)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB."""
    import ctypes

    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    libc = ctypes.CDLL(None, use_errno=True)
    place = tmp_path / "small"
    place.mkdir()
    if libc.mount(b"tmpfs", os.fsencode(place), b"tmpfs", 0, b"size=16m"):
        pytest.skip(f"cannot mount a small file system: {os.strerror(ctypes.get_errno())}")
    try:
        yield place
    finally:
        libc.umount2(os.fsencode(place), 2)


@pytest.mark.root
def test_really_full_disk_says_so_and_stores_nothing_half(small_disk: Path) -> None:
    root = small_disk / "store"
    where = f"no space left on device on the file system at {small_disk}"
    with Store.open(root, FakeClock()) as store:
        store.records.put("k", "x", {"ok": 1})
        filling: list[Callable[[], object]] = [
            lambda: store.blobs.put(os.urandom(1_000_000)),
            lambda: store.records.put("k", os.urandom(8).hex(), {"x": "a" * 20_000}),
            lambda: store.blobs.put(os.urandom(3_000)),
            lambda: store.deltas.commit(store.deltas.begin(), meta={"x": "a" * 20_000}),
        ]
        for fill in filling:
            with pytest.raises(EnvironmentFault) as caught:
                for _ in range(10_000):
                    fill()
            assert where in caught.value.message
            assert caught.value.hints[0] == "run pybuild prune"
        assert store.records.get("k", "x") == {"ok": 1}
        assert all(store.blobs.verify(digest) for digest, _ in list(store.blobs.list()))
    # The way out works on the full disk.
    with Store.open(root, FakeClock()) as store:
        assert prune(store).freed > 1_000_000
        store.tmp.sweep()
        store.blobs.put(os.urandom(100_000))
    assert_whole(root)
