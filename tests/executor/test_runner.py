"""`BuildRunner` on a real store with real workers: what the solver sees of the executor."""

from __future__ import annotations

import asyncio
import io
import json
import os
import tarfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pybuild.cache.store import Store
from pybuild.executor.files.apply import apply as apply_files
from pybuild.executor.runner import BuildRunner
from pybuild.executor.workers import Workers
from pybuild.model.clock import FakeClock
from pybuild.model.descriptor import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, PybuildError, StepError, UserError
from pybuild.model.events import Emit, Event, VertexLog
from pybuild.model.ops import (
    CacheSharing,
    Copy,
    DiffOp,
    ExecOp,
    FileOp,
    GitSource,
    HttpSource,
    ImageSource,
    LocalSource,
    MergeOp,
    Mkdir,
    Mkfile,
    Mount,
    MountType,
    NetworkMode,
    Op,
    Owner,
    ScratchSource,
    Vertex,
    VertexMeta,
)
from pybuild.model.platform import LINUX_AMD64
from pybuild.model.reference import Reference
from pybuild.model.selection import Selection
from pybuild.model.snapshot import LocalTree, Result, Snapshot
from pybuild.model.span import Span
from tests.executor.filetrees import Entry, Link, Spec, build
from tests.executor.sandbox_helpers import make_base, skip_unless_possible

if TYPE_CHECKING:
    from pybuild.cache.ingest import Follower

pytestmark = [pytest.mark.root, pytest.mark.sandbox]

SCRATCH = Vertex(ScratchSource())
EMPTY = Snapshot()
ROOT = Mount(target="/", input=0, output=True)


@pytest.fixture(autouse=True)
def _possible() -> None:  # pyright: ignore[reportUnusedFunction]
    skip_unless_possible()


class Shelf:
    """A fetcher that has some blobs, and counts."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self.store: Store | None = None

    async def fetch(
        self,
        delta: str,
        emit: Emit,
        *,
        follower: Follower | None = None,
        is_compared: bool = False,
    ) -> None:
        assert self.store is not None
        self.fetched.append(delta)
        facts = self.store.records.get("layer", delta)
        assert facts is not None
        data = self.blobs.get(facts["descriptor"]["digest"])
        if data is None:
            raise EnvironmentFault(f"nobody has {delta}")
        await asyncio.sleep(0)
        blobs = self.store.blobs
        if follower is not None:
            blobs = blobs.followed_by(follower)
        with blobs.writer(Digest(facts["descriptor"]["digest"]), len(data)) as writer:
            writer.write(data[: len(data) // 2])
            await asyncio.sleep(0)
            writer.write(data[len(data) // 2 :])
            writer.commit()


class Site:
    """Everything a build stands on, and short ways to run vertices."""

    def __init__(self, root: Path, store: Store, workers: Workers, shelf: Shelf) -> None:
        self.root = root
        self.store = store
        self.workers = workers
        self.shelf = shelf
        self.trees: dict[str, LocalTree] = {}
        self.secrets: dict[str, Callable[[], bytes]] = {}
        self.events: list[Event] = []
        self.others: list[BuildRunner] = []
        self.runner = BuildRunner(
            store, workers, fetcher=shelf, locals=self.trees, secrets=self.secrets
        )

    def again(self, allow: frozenset[str] = frozenset()) -> BuildRunner:
        """Another build on the same store, which ends with the test."""
        runner = BuildRunner(
            self.store,
            self.workers,
            fetcher=self.shelf,
            locals=self.trees,
            secrets=self.secrets,
            allow=allow,
        )
        self.others.append(runner)
        return runner

    def local(self, spec: Spec, exclude: Sequence[str] = (), name: str = "context") -> LocalTree:
        tree = LocalTree(str(build(self.root / name, spec)), tuple(exclude))
        self.trees[name] = tree
        return tree

    async def run(
        self,
        op: Op,
        *inputs: Result,
        runner: BuildRunner | None = None,
        ignore_cache: bool = False,
    ) -> Result:
        vertices = tuple(_source_of(result) for result in inputs)
        spans = (Span("Dockerfile", 3, 3),)
        vertex = Vertex(op, vertices, VertexMeta(name="it", spans=spans, ignore_cache=ignore_cache))
        return await (runner or self.runner).run(vertex, inputs, self.events.append)

    async def files(
        self, *actions: Any, base: Result = EMPTY, more: Sequence[Result] = ()
    ) -> Snapshot:
        result = await self.run(FileOp(actions=actions), base, *more)
        assert isinstance(result, Snapshot)
        return result

    async def base(self) -> Snapshot:
        """A root file system with a shell."""
        self.trees["busybox"] = LocalTree(str(make_base(self.root / "busybox")))
        copy = Copy(input=1, source="/", dest="/")
        return await self.files(copy, more=[self.trees["busybox"]])

    async def shell(
        self, script: str, base: Result, *mounts: Mount, more: Sequence[Result] = (), **options: Any
    ) -> Snapshot:
        runner = options.pop("runner", None)
        ignore = bool(options.pop("ignore_cache", False))
        op = step(script, *mounts, **options)
        result = await self.run(op, base, *more, runner=runner, ignore_cache=ignore)
        assert isinstance(result, Snapshot)
        return result

    def output(self) -> str:
        return b"".join(e.data for e in self.events if isinstance(e, VertexLog)).decode()

    def leftovers(self) -> list[str]:
        tmp = Path(self.store.tmp_dir)
        return [p.name for p in tmp.iterdir() if not p.name.startswith("trash.")
                and not p.name.endswith(".lock")]  # fmt: skip

    def top(self, snapshot: Snapshot) -> Path:
        return Path(self.store.deltas.path(snapshot.deltas[-1]))


def step(script: str, *mounts: Mount, **options: Any) -> ExecOp:
    values: dict[str, Any] = {
        "args": ("/bin/sh", "-c", script),
        "env": ("PATH=/bin",),
        "cwd": "/",
        "mounts": (ROOT, *mounts),
        "platform": LINUX_AMD64,
        "network": NetworkMode.NONE,
        **options,
    }
    return ExecOp(**values)


def _source_of(result: Result) -> Vertex:
    """A vertex that could have made *result*; an empty snapshot is scratch's."""
    if isinstance(result, LocalTree):
        return Vertex(LocalSource(name="context"))
    return SCRATCH if not result.deltas else Vertex(MergeOp(), (SCRATCH,))


Body = Callable[[Site], Awaitable[None]]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[[Body], Site]]:
    """Run a coroutine function on a fresh site; afterwards nothing may be left in tmp/."""

    def run(body: Body) -> Site:
        async def main() -> Site:
            shelf = Shelf()
            with Store.open(tmp_path / "store", FakeClock()) as store:
                shelf.store = store
                workers = Workers()
                try:
                    here = Site(tmp_path, store, workers, shelf)
                    async with here.runner:
                        await body(here)
                    for runner in here.others:
                        await runner.__aexit__(None, None, None)
                    assert here.leftovers() == []
                    return here
                finally:
                    await workers.close()

        return asyncio.run(main())

    yield run


Run = Callable[[Body], Site]


def test_copy_then_run_then_copy_from_it(site: Run) -> None:
    async def body(s: Site) -> None:
        base = await s.base()
        context = s.local({"src/main.c": "int main;", "ignored": "x"}, exclude=["ignored"])
        sources = await s.files(Copy(input=1, source="/", dest="/w/"), base=base, more=[context])
        built = await s.shell("cat /w/src/main.c > /out; ls /w; echo warn >&2", sources)
        assert built.deltas[: len(sources.deltas)] == sources.deltas
        final = await s.files(Copy(input=1, source="/out", dest="/"), more=[built])
        assert (s.top(final) / "out").read_text() == "int main;"
        assert sorted(s.output().split()) == ["src", "warn"]
        assert sorted(os.listdir(s.top(built))) == ["out"]

    site(body)


def test_failing_step_is_a_step_error_with_its_last_lines(site: Run) -> None:
    """RUN-3, E186."""

    async def body(s: Site) -> None:
        base = await s.base()
        with pytest.raises(StepError) as caught:
            await s.shell("for i in 1 2 3; do echo line $i; done; echo bad >&2; exit 3", base)
        error = caught.value
        assert error.message == (
            'process "/bin/sh -c for i in 1 2 3; do echo line $i; done; echo bad >&2; exit 3" '
            "did not complete successfully: exit code: 3"
        )
        assert error.status == 3
        assert sorted(error.log_tail) == ["bad", "line 1", "line 2", "line 3"]
        assert error.spans == (Span("Dockerfile", 3, 3),)
        assert (await s.shell("exit 3", base, valid_exit_codes=(3,))).deltas

    site(body)


def test_errors_of_file_ops_carry_the_line(site: Run) -> None:
    async def body(s: Site) -> None:
        with pytest.raises(UserError, match='"/nope": not found') as caught:
            await s.files(Copy(input=1, source="/nope", dest="/"), more=[s.local({"a": ""})])
        assert caught.value.spans == (Span("Dockerfile", 3, 3),)

    site(body)


def test_edits_on_scratch_and_owner_names_there(site: Run) -> None:
    """CP-21."""

    async def body(s: Site) -> None:
        made = await s.files(
            Mkdir(path="/a/b", mode=0o700, owner=Owner(user="5")),
            Mkfile(path="/a/f", data=b"\0\xff", mode=0o640, mtime=77),
        )
        status = (s.top(made) / "a" / "f").stat()
        assert (s.top(made) / "a" / "f").read_bytes() == b"\0\xff"
        assert (status.st_mode & 0o7777, status.st_mtime) == (0o640, 77)
        assert (s.top(made) / "a" / "b").stat().st_uid == 5
        with pytest.raises(UserError, match="^invalid user index: -1$"):
            await s.files(Mkdir(path="/x", owner=Owner(user="app")))

    site(body)


def test_context_that_changes_after_it_was_digested_is_noticed(site: Run) -> None:
    """A cache key made from one state of a file must not name a result made from another."""

    async def body(s: Site) -> None:
        context = s.local({"f": "one"})
        selection = Selection(path="/f", keep_owner=False)
        await s.runner.content_digest(context, selection)
        (Path(context.path) / "f").write_text("two")
        with pytest.raises(UserError, match='^"/f" in .* changed while it was being copied$'):
            await s.files(Copy(input=1, source="/f", dest="/"), more=[context])

    site(body)


def test_snapshots_and_local_trees_of_equal_content_have_equal_digests(site: Run) -> None:
    """KEY-13: the same bytes hit wherever they come from."""

    async def body(s: Site) -> None:
        context = s.local({"d/a": "A", "d/l": Link("a"), "d/x/": Entry(mode=0o700)})
        copied = await s.files(Copy(input=1, source="/d", dest="/d"), more=[context])
        one = await s.runner.content_digest(context, Selection(path="/d", keep_owner=False))
        two = await s.runner.content_digest(copied, Selection(path="/d"))
        assert one.digest == two.digest
        assert [path for path, _ in two.entries] == ["d", "d/a", "d/l", "d/x"]
        assert await s.again().content_digest(copied, Selection(path="/d")) == two
        with pytest.raises(UserError, match=r'checksum of ref \w+: "/no": not found$'):
            await s.runner.content_digest(copied, Selection(path="/no"))
        empty = await s.runner.content_digest(Snapshot(), Selection())
        assert empty.entries == ()

    site(body)


def test_deleted_files_do_not_count_and_cannot_be_copied(site: Run) -> None:
    async def body(s: Site) -> None:
        base = await s.base()
        made = await s.shell("mkdir /d && echo 1 > /d/a && echo 2 > /d/b", base)
        gone = await s.shell("rm /d/a", made)
        digest = await s.runner.content_digest(gone, Selection(path="/d"))
        assert [path for path, _ in digest.entries] == ["d", "d/b"]
        with pytest.raises(UserError, match="not found"):
            await s.files(Copy(input=1, source="/d/a", dest="/"), more=[gone])

    site(body)


def test_bind_mounts_of_the_context_hide_ignored_files_and_belong_to_root(site: Run) -> None:
    """MNT-5, MNT-13, CTX-3, CP-7, E174, E175."""

    async def body(s: Site) -> None:
        base = await s.base()
        spec: Spec = {"a": Entry("A", uid=7), "no": "x", "d/f": "F", "l": Link("d/f")}
        context = s.local(spec, exclude=["no"])
        ro = Mount(target="/ro", input=1, readonly=True)
        rw = Mount(target="/rw", input=1)
        file = Mount(target="/file", input=1, selector="/l", readonly=True)
        result = await s.shell(
            "ls /ro; stat -c %u /ro/a; cat /file; echo; touch /rw/new && echo ok; "
            "touch /ro/new 2>/dev/null || echo refused",
            base, ro, rw, file, more=[context],
        )  # fmt: skip
        assert s.output().split() == ["a", "d", "l", "0", "F", "ok", "refused"]
        assert not (Path(context.path) / "new").exists()
        assert os.listdir(s.top(result)) == []
        before = len(os.listdir(os.path.join(s.store.root, "snapshots")))
        await s.shell("ls /ro", base, ro, more=[context], runner=s.again())
        assert len(os.listdir(os.path.join(s.store.root, "snapshots"))) == before + 1

    site(body)


def test_a_directory_under_its_own_name_is_patched_like_its_contents(site: Run) -> None:
    async def body(s: Site) -> None:
        spec: Spec = {f"src/d{n % 7}/f{n}": str(n) for n in range(350)}
        context = s.local(spec)
        copy = Copy(input=1, source="/src", dest="/there/", contents_only=False)
        selection = Selection(path="/src", contents_only=False, keep_owner=False)
        base = await s.base()
        for text in ("one", "two"):
            Path(context.path, "src/d3/f3").write_text(text)
            Path(context.path, "src").chmod(0o711)
            runner = s.again()
            await runner.content_digest(context, selection)
            made = await runner.run(
                Vertex(
                    FileOp(actions=(copy,)),
                    (_source_of(EMPTY), _source_of(context)),
                    VertexMeta(name="copy"),
                ),
                [EMPTY, context],
                s.events.append,
            )
            assert isinstance(made, Snapshot)
            assert ("over" in made.deltas[0]) == (text == "two")
            await s.shell(
                "cat /t/there/src/d3/f3; ls /t/there/src/* | grep -c ^f; stat -c %a /t/there/src",
                base,
                Mount(target="/t", input=1, readonly=True),
                more=[made],
            )
        assert s.output().split()[-4:] == ["one350", "711", "two350", "711"]

    site(body)


def test_missing_mount_source_is_a_user_error(site: Run) -> None:
    """E189."""

    async def body(s: Site) -> None:
        base = await s.base()
        mount = Mount(target="/x", input=1, selector="/nope", readonly=True)
        with pytest.raises(UserError, match="not found"):
            await s.shell("true", base, mount, more=[s.local({"a": ""})])
        with pytest.raises(UserError, match="/nope"):
            await s.shell("true", base, mount, more=[base])

    site(body)


def test_secrets_as_files_and_variables(site: Run) -> None:
    """MNT-18, MNT-19, E176, E177, E180."""

    async def body(s: Site) -> None:
        base = await s.base()
        s.secrets["s"] = lambda: b"hush"
        file = Mount(target="/run/secrets/s", type=MountType.SECRET, id="s", mode=0o400)
        env = Mount(target="", type=MountType.SECRET, id="s", env="TOK")
        both = Mount(target="/t", type=MountType.SECRET, id="s", env="T2", uid=3)
        none = Mount(target="/n", type=MountType.SECRET, id="absent")
        result = await s.shell(
            'cat /run/secrets/s /t; echo " $TOK $T2"; stat -c %u /t; ls /n || echo none',
            base, file, env, both, none,
        )  # fmt: skip
        words = s.output().split()
        assert words[:4] == ["hushhush", "hush", "hush", "3"]
        assert "none" in words
        assert os.listdir(s.top(result)) == []
        for data, message in ((None, "secret r: not found"), (bytes(600_000), "at most 512000")):
            if data is not None:
                s.secrets["r"] = lambda data=data: data  # type: ignore[misc]
            wanted = Mount(target="/r", type=MountType.SECRET, id="r", required=True)
            with pytest.raises(UserError, match=message):
                await s.shell("true", base, wanted)

    site(body)


def cache(target: str = "/c", **options: Any) -> Mount:
    return Mount(target=target, type=MountType.CACHE, cache_id="id", **options)


def test_cache_mounts_are_kept_and_never_in_the_layer(site: Run) -> None:
    """MNT-14, MNT-15, MNT-23."""

    async def body(s: Site) -> None:
        base = await s.base()
        first = cache(uid=5, gid=6, mode=0o750)
        result = await s.shell("echo 1 > /c/f; stat -c '%u %g %a' /c", base, first)
        assert os.listdir(s.top(result)) == []
        await s.shell("cat /other/f; touch /other/f || echo ro", base,
                      cache("/other", readonly=True), runner=s.again())  # fmt: skip
        assert s.output().split()[:4] == ["5", "6", "750", "1"]
        assert "ro" in s.output()
        await s.shell("ls /c", base, Mount(target="/c", type=MountType.CACHE, cache_id="../x"))
        assert set(os.listdir(s.store.mounts_dir)) and all(
            os.path.isdir(os.path.join(s.store.mounts_dir, n))
            for n in os.listdir(s.store.mounts_dir)
        )

    site(body)


def test_cache_mount_is_seeded_once(site: Run) -> None:
    async def body(s: Site) -> None:
        base = await s.base()
        seed = await s.files(Mkfile(path="/in/f", data=b"seed\n"), Mkfile(path="/out", data=b""))
        mount = cache(input=1, selector="/in")
        await s.shell("cat /c/f; ls /c; echo more >> /c/f", base, mount, more=[seed])
        await s.shell("cat /c/f", base, mount, more=[seed])
        assert s.output().split() == ["seed", "f", "seed", "more"]
        await s.shell("ls /c", base, cache())
        assert s.output().split() == ["seed", "f", "seed", "more"]

    site(body)


@pytest.mark.parametrize("sharing", list(CacheSharing))
def test_no_cache_begins_cache_mounts_anew_once_a_build(site: Run, sharing: CacheSharing) -> None:
    """KEY-11: a build that ignores results wants no directory of earlier ones, but its own."""

    async def body(s: Site) -> None:
        base = await s.base()
        mount = cache(sharing=sharing)
        await s.shell("touch /c/old", base, mount, runner=s.again())
        runner = s.again()
        await s.shell("touch /c/one", base, mount, runner=runner, ignore_cache=True)
        await s.shell("touch /c/two; ls /c", base, mount, runner=runner, ignore_cache=True)
        assert s.output().split() == ["one", "two"]
        runner = s.again()
        await s.shell("touch /c/three", base, mount, runner=runner)
        await s.shell("ls /c", base, mount, runner=runner, ignore_cache=True)
        assert s.output().split()[2:] == ["one", "three", "two"]

    site(body)


def test_no_cache_leaves_what_another_build_works_with(site: Run) -> None:
    """KEY-11."""

    async def body(s: Site) -> None:
        base = await s.base()
        wait = "touch /c/busy; while [ -e /c/busy ]; do sleep 0.02; done"
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            group.create_task(s.shell(wait, base, cache(), runner=s.again()))
            while not any(Path(s.store.mounts_dir).glob("*/fs/busy")):
                await asyncio.sleep(0.01)
            await s.shell("rm /c/busy", base, cache(), runner=s.again(), ignore_cache=True)

    site(body)


@pytest.mark.parametrize("sharing", list(CacheSharing))
def test_sharing_of_a_cache_between_two_steps_at_once(site: Run, sharing: CacheSharing) -> None:
    """MNT-7, MNT-16, E178: each step says that it is there, and looks for the other."""

    async def body(s: Site) -> None:
        base = await s.base()
        wait = "touch /c/$ME; for i in 1 2 3 4 5 6 7 8; do [ -e /c/$YOU ] && echo met; sleep 0.02; done; rm /c/$ME"

        async def one(me: str, you: str) -> None:
            env = ("PATH=/bin", f"ME={me}", f"YOU={you}")
            await s.shell(wait, base, cache(sharing=sharing), env=env, runner=s.again())

        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            group.create_task(one("a", "b"))
            group.create_task(one("b", "a"))
        assert ("met" in s.output()) is (sharing is CacheSharing.SHARED)
        expected = 2 if sharing is CacheSharing.PRIVATE else 1
        assert len(os.listdir(s.store.mounts_dir)) == expected

    site(body)


def test_two_locked_caches_in_different_order_do_not_deadlock(site: Run) -> None:
    """MNT-16."""

    async def body(s: Site) -> None:
        base = await s.base()
        mounts = [
            Mount(target=f"/{n}", type=MountType.CACHE, cache_id=n, sharing=CacheSharing.LOCKED)
            for n in "xy"
        ]
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            for number in range(4):
                pair = mounts if number % 2 else mounts[::-1]
                group.create_task(s.shell("sleep 0.01", base, *pair, runner=s.again()))

    site(body)


def test_tmpfs_leaves_nothing(site: Run) -> None:
    """E179."""

    async def body(s: Site) -> None:
        mount = Mount(target="/new", type=MountType.TMPFS, tmpfs_size_bytes=1 << 20)
        result = await s.shell("touch /new/f && ls /new", await s.base(), mount)
        assert s.output() == "f\n"
        assert os.listdir(s.top(result)) == []

    site(body)


def test_hosts_and_resolv_conf_are_ours_and_leave_no_trace(site: Run) -> None:
    """SBX-9, RUN-4."""

    async def body(s: Site) -> None:
        result = await s.shell(
            "cat /etc/hosts; grep -c nameserver /etc/resolv.conf; hostname",
            await s.base(), hostname="box", add_hosts=(("db", "10.1.2.3"),),
        )  # fmt: skip
        assert "10.1.2.3\tdb\n" in s.output()
        assert s.output().endswith("box\n")
        assert os.listdir(s.top(result)) == []

    site(body)


def test_named_context_as_a_base(site: Run) -> None:
    """NC-5: a local directory in FROM behaves as scratch with files."""

    async def body(s: Site) -> None:
        tree = LocalTree(str(make_base(s.root / "base")), ("etc/passwd",))
        result = await s.shell("ls /etc > /l; cat /l", tree)
        assert s.output() == "group\nhosts\nresolv.conf\n" or s.output().startswith("group")
        assert len(result.deltas) == 2

    site(body)


def test_merge_and_diff(site: Run) -> None:
    async def body(s: Site) -> None:
        one = await s.files(Mkfile(path="/f", data=b"1"))
        two = await s.files(Mkfile(path="/f", data=b"2"))
        merged = await s.run(MergeOp(), one, two)
        assert merged == Snapshot((*one.deltas, *two.deltas))
        assert await s.run(DiffOp(), one, merged) == two
        with pytest.raises(UserError, match="not supported yet"):
            await s.run(DiffOp(), two, one)

    site(body)


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (HttpSource(url="file:///etc/passwd"), 'invalid URL "file:///etc/passwd"'),
        (GitSource(remote="https://x.example/r.git", ref="-x"), 'invalid git ref "-x"'),
        (GitSource(remote="git@x.example:r"), 'no SSH key "default" forwarded from the client'),
        (
            step("true", Mount(target="/s", type=MountType.SSH, id="k", required=True)),
            'no SSH key "k" forwarded from the client',
        ),
        (step("true", network=NetworkMode.HOST), "entitlement network.host is not allowed"),
        (LocalSource(name="nobody"), 'no directory was given for the context "nobody"'),
    ],
)
def test_what_is_not_possible_is_refused_by_name(site: Run, op: Op, message: str) -> None:
    async def body(s: Site) -> None:
        with pytest.raises(UserError, match=message):
            await s.run(op, *([Snapshot()] if isinstance(op, ExecOp) else []))

    site(body)


def test_cancelling_a_step_leaves_nothing(site: Run) -> None:
    async def body(s: Site) -> None:
        base = await s.base()
        lock = cache(sharing=CacheSharing.LOCKED)
        task = asyncio.create_task(s.shell("echo on; sleep 60", base, lock))
        async with asyncio.timeout(10):
            while "on" not in s.output():
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await s.shell("true", base, lock)

    site(body)


# --- pulled layers --------------------------------------------------------------------------------


def layer(
    entries: Sequence[tuple[str, str | None]], links: Sequence[tuple[str, str]] = ()
) -> bytes:
    """An uncompressed layer tar: names with content; None is a directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            info.mode = 0o755 if content is None else 0o644
            data = (content or "").encode()
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.LNKTYPE, target
            tar.addfile(info)
    return out.getvalue()


def image(s: Site, *layers: bytes, here: bool = False) -> ImageSource:
    """Put an image's manifest and config into the store, its layers on the shelf (or here too)."""
    described: list[dict[str, Any]] = []
    for data in layers:
        digest = Digest.of(data)
        s.shelf.blobs[digest] = data
        if here:
            s.store.blobs.put(data)
        described.append({"mediaType": OCI_LAYER, "digest": digest, "size": len(data)})
    diff_ids = [Digest.of(data) for data in layers]
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {
                "mediaType": OCI_CONFIG,
                "digest": s.store.blobs.put(config),
                "size": len(config),
            },
            "layers": described,
        }
    ).encode()
    return ImageSource(
        digest=s.store.blobs.put(manifest),
        reference=Reference.parse("example.com/x"),
        platform=LINUX_AMD64,
    )


def test_image_is_unpacked_only_when_its_files_are_needed_and_only_once(site: Run) -> None:
    """ARC-7."""

    async def body(s: Site) -> None:
        source = image(s, layer([("d", None), ("d/a", "1")]), layer([("d", None), ("d/b", "2")]))
        result = await s.run(source)
        assert isinstance(result, Snapshot)
        assert s.shelf.fetched == []
        assert not any(s.store.deltas.has(delta) for delta in result.deltas)
        copy = FileOp(actions=(Copy(input=1, source="/d", dest="/d"),))
        builds = [s.again() for _ in range(3)]
        async with asyncio.TaskGroup() as group:
            for runner in builds:
                group.create_task(s.run(copy, Snapshot(), result, runner=runner))
        assert sorted(s.shelf.fetched) == sorted(result.deltas)
        digest = await s.runner.content_digest(result, Selection(path="/d"))
        assert [path for path, _ in digest.entries] == ["d", "d/a", "d/b"]

    site(body)


def test_few_layers_are_unpacked_at_once(site: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes processes and memory; that there are more of them makes nothing faster."""

    async def body(s: Site) -> None:
        busy = most = 0
        call = s.workers.call

        async def counted(*args: Any, **options: Any) -> dict[str, Any]:
            nonlocal busy, most
            busy += 1
            most = max(most, busy)
            try:
                return await call(*args, **options)
            finally:
                busy -= 1

        monkeypatch.setattr(s.workers, "call", counted)
        result = await s.run(image(s, *(layer([(str(n), "x")]) for n in range(12))))
        assert isinstance(result, Snapshot)
        assert len(await s.runner.ensure(result)) == 12
        assert 1 < most <= 4

    site(body)


def test_layer_that_turns_out_wrong_when_it_has_come_leaves_nothing(site: Run) -> None:
    """It was unpacked while it came; its diffID is right, and its blob is not what was asked for."""

    async def body(s: Site) -> None:
        result = await s.run(image(s, layer([("d", None), ("d/a", "1")])))
        assert isinstance(result, Snapshot)
        ((digest, data),) = s.shelf.blobs.items()
        s.shelf.blobs[digest] = data[:-1] + bytes([data[-1] ^ 1])
        with pytest.raises(EnvironmentFault, match=f"blob {digest}: got sha256:"):
            await s.runner.ensure(result)
        assert not any(s.store.deltas.has(delta) for delta in result.deltas)
        assert not s.store.blobs.has(digest)
        s.shelf.blobs[digest] = data
        (path,) = await s.runner.ensure(result)
        assert os.listdir(path) == ["d"]

    site(body)


def test_layer_that_needs_what_lies_below_is_told_apart_by_its_chain(site: Run) -> None:
    """The same layer over two bases is two trees."""

    async def body(s: Site) -> None:
        top = layer([("d/b", "2")], links=[("d/hard", "d/a")])
        for content in ("one", "two"):
            source = image(s, layer([("d", None), ("d/a", content)]), top, here=True)
            result = await s.run(source)
            assert isinstance(result, Snapshot)
            copied = await s.files(Copy(input=1, source="/d", dest="/d"), more=[result])
            assert (s.top(copied) / "d" / "hard").read_text() == content
            paths = await s.runner.ensure(result)
            assert [os.path.isdir(path) for path in paths] == [True, True]
            assert "/chain-" in paths[1]

    site(body)


def test_layer_with_the_wrong_content_is_refused(site: Run) -> None:
    async def body(s: Site) -> None:
        good, bad = layer([("a", "1")]), layer([("a", "2")])
        result = await s.run(image(s, good))
        assert isinstance(result, Snapshot)
        facts = s.store.records.get("layer", result.deltas[0])
        assert facts is not None
        s.store.blobs.put(bad)
        facts["descriptor"] = {"mediaType": OCI_LAYER, "digest": Digest.of(bad), "size": len(bad)}
        s.store.records.put("layer", result.deltas[0], facts)
        with pytest.raises(PybuildError) as caught:
            await s.runner.ensure(result)
        assert Digest.of(bad) in str(caught.value) or isinstance(caught.value, EnvironmentFault)
        assert not s.store.deltas.has(result.deltas[0])

    site(body)


def test_layer_that_nobody_has_is_a_fault(site: Run) -> None:
    async def body(s: Site) -> None:
        result = await s.run(image(s, layer([("a", "1")])))
        assert isinstance(result, Snapshot)
        s.shelf.blobs.clear()
        with pytest.raises(EnvironmentFault, match="nobody has"):
            await s.runner.ensure(result)

    site(body)


def test_worker_function_is_where_the_runner_says() -> None:
    assert apply_files.__module__ == "pybuild.executor.files.apply"


def test_steps_at_once_share_mount_points_and_leave_none(site: Run) -> None:
    async def body(s: Site) -> None:
        base = await s.base()
        script = "[ -s /etc/hosts ] && [ -d /proc/self ] && echo $N > /own"
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(s.shell(script, base, env=("PATH=/bin", f"N={n}")))
                for n in range(8)
            ]
        for number, task in enumerate(tasks):
            top = s.top(task.result())
            assert sorted(os.listdir(top)) == ["own"]
            assert (top / "own").read_text() == f"{number}\n"

    site(body)


def test_all_of_a_tree_seems_to_be_on_one_file_system(site: Run) -> None:
    """Else ``tar --one-file-system`` in a step would leave files out."""

    async def body(s: Site) -> None:
        base = await s.base()
        first = await s.shell(
            "mkdir /d && echo > /d/f && stat -c %d / /d /d/f /bin/sh > /seen", base
        )
        second = await s.shell("stat -c %d / /d /d/f /bin/sh /seen > /seen-again", first)
        for snapshot, name in ((first, "seen"), (second, "seen-again")):
            assert len(set((s.top(snapshot) / name).read_text().split())) == 1

    site(body)
