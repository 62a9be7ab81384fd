"""`BuildRunner` on a real store with real workers: what the solver sees of the executor."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pybuild.executor.files.apply import apply as apply_files
from pybuild.executor.steps.execop import no_agent
from pybuild.model.contents import MissingSource
from pybuild.model.errors import StepError, UserError
from pybuild.model.ops import (
    Copy,
    DiffOp,
    ExecOp,
    FileOp,
    GitSource,
    HttpSource,
    LocalSource,
    MergeOp,
    Mkdir,
    Mkfile,
    Mount,
    MountType,
    NetworkMode,
    Op,
    Owner,
    StepSettings,
    Vertex,
    VertexMeta,
)
from pybuild.model.selection import Selection
from pybuild.model.snapshot import LocalTree, Snapshot
from pybuild.model.span import Span
from tests.executor.filetrees import Entry, Link, Spec
from tests.executor.runner_site import EMPTY, SCRATCH, Run, Site, site, source_of, step
from tests.executor.sandbox_helpers import make_base

__all__ = ["site"]

pytestmark = [pytest.mark.root, pytest.mark.sandbox]


@pytest.mark.slow
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


@pytest.mark.slow
def test_failing_step_is_a_step_error_with_its_last_lines(site: Run) -> None:
    """RUN-3, E186."""

    async def body(s: Site) -> None:
        base = await s.base()
        with pytest.raises(StepError) as caught:
            await s.shell("for i in 1 2 3; do echo line $i; done; echo bad >&2; exit 3", base)
        error = caught.value
        command = "for i in 1 2 3; do echo line $i; done; echo bad >&2; exit 3"
        assert error.message == f"exit code: 3: {command}"
        assert error.peer == (
            f'process "/bin/sh -c {command}" did not complete successfully: exit code: 3'
        )
        assert error.status == 3
        assert sorted(error.log_tail) == ["bad", "line 1", "line 2", "line 3"]
        assert error.spans == (Span("Dockerfile", 3, 3),)
        assert (await s.shell("exit 3", base, valid_exit_codes=(3,))).deltas

    site(body)


def test_errors_of_file_ops_carry_the_line(site: Run) -> None:
    async def body(s: Site) -> None:
        with pytest.raises(UserError, match='"nope" is not in the context') as caught:
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


def test_context_that_changes_after_it_was_digested_is_copied_as_it_is(site: Run) -> None:
    """A cache key made from one state of a file must not name a result made from another."""

    async def body(s: Site) -> None:
        context = s.local({"f": "one"})
        selection = Selection(path="/f", keep_owner=False)
        before = await s.runner.content_digest(context, selection)
        (Path(context.path) / "f").write_text("two")
        op = FileOp(actions=(Copy(input=1, source="/f", dest="/"),))
        vertex = Vertex(op, (SCRATCH, Vertex(LocalSource(name="context"))))
        made = await s.runner.run(vertex, [EMPTY, context], s.events.append)
        assert isinstance(made, Snapshot)
        assert (s.top(made) / "f").read_text() == "two"
        read = s.runner.reread(vertex)[1][selection]
        assert read.digest != before.digest
        copied = await s.again().content_digest(made, selection)
        assert copied.digest == read.digest

    site(body)


@pytest.mark.slow
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
        with pytest.raises(MissingSource) as missing:
            await s.runner.content_digest(copied, Selection(path="/no"))
        assert re.search(r'checksum of ref \w+: "/no": not found$', missing.value.peer)
        assert missing.value.hints == ("that tree has d",)
        empty = await s.runner.content_digest(Snapshot(), Selection())
        assert empty.entries == ()

    site(body)


@pytest.mark.slow
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


@pytest.mark.slow
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
                    (source_of(EMPTY), source_of(context)),
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


@pytest.mark.slow
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
        assert await s.run(DiffOp(), two, two) == Snapshot()

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
        (
            step("true", settings=StepSettings(network=NetworkMode.HOST)),
            "entitlement network.host is not allowed",
        ),
        (LocalSource(name="nobody"), 'no directory was given for the context "nobody"'),
    ],
)
def test_what_is_not_possible_is_refused_by_name(site: Run, op: Op, message: str) -> None:
    async def body(s: Site) -> None:
        with pytest.raises(UserError, match=message):
            await s.run(op, *([Snapshot()] if isinstance(op, ExecOp) else []))

    site(body)


def test_an_agent_that_is_not_there_is_named_as_buildkit_does() -> None:
    """[MNT-20]"""
    assert no_agent("k").peer == "unset ssh forward key k"
    assert no_agent("default").peer == ""


def test_worker_function_is_where_the_runner_says() -> None:
    assert apply_files.__module__ == "pybuild.executor.files.apply"


@pytest.mark.slow
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
