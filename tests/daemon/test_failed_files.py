"""The trees of file ops that failed, and of inputs that lack what is read of them: clients look into them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pybuild.buildkit.pb import gateway as pb
from pybuild.buildkit.pb import ops
from pybuild.net.grpc.status import RpcError
from tests.buildkit.llbs import Builder, copy, exec_op, file_op, mkdir
from tests.daemon.containersites import Site
from tests.daemon.test_gateway_containers import on_site, solve_detail

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]


def mkfile(path: str, input: int, output: int = -1) -> ops.FileAction:
    made = ops.FileActionMkFile(path=path, mode=0o600, data=b"text", timestamp=-1)
    return ops.FileAction(input=input, secondaryInput=-1, output=output, mkfile=made)


async def failing(site: Site, definition: ops.Definition, match: str) -> dict[str, Any]:
    """Evaluate a definition that fails; return what there is to be seen of it."""
    with pytest.raises(RpcError, match=match) as raised:
        await site.gate.solve(pb.SolveRequest(Definition=definition, Evaluate=True))
    return solve_detail(raised.value)


async def text_in(site: Site, tree: str, path: str) -> bytes:
    """Return a file of *tree*, which a container has beside its own."""
    container = await site.container(ops.Mount(dest="/seen", resultID=tree))
    return (await site.processes.run(container, "cat", "/seen" + path))[1]


def test_what_earlier_actions_made_is_there(tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        builder = Builder()
        failed = file_op(mkdir("/found", -1), mkfile("/found/a", 0), mkfile("/no/a", 1, 0))
        detail = await failing(site, builder.end(builder.add(failed)), "/no/a")
        assert detail["file"] == {"index": 2}
        assert detail["inputIDs"] == []
        nothing, nothing_either, left = detail["mountIDs"]
        assert nothing == nothing_either == ""
        assert await text_in(site, left, "/found/a") == b"text"

    on_site(tmp_path, work)


def test_a_copy_shows_what_it_was_to_copy_whether_of_an_input_or_of_an_action(
    tmp_path: Path,
) -> None:
    async def work(site: Site) -> None:
        builder = Builder()
        base = builder.add(file_op(mkfile("/base", -1, 0)))
        source = builder.add(file_op(mkdir("/foo", -1), mkfile("/foo/bar", 0, 0)))
        onto = copy(0, 1, 0, src="/foo/bar", dest="/no/baz", createDestPath=False)
        detail = await failing(site, builder.end(builder.add(file_op(onto), base, source)), "/no")
        assert detail["file"] == {"index": 0}
        _, given = detail["inputIDs"]
        (left,) = detail["mountIDs"]
        assert await text_in(site, left, "/base") == b"text"
        assert await text_in(site, given, "/foo/bar") == b"text"

        builder = Builder()
        base = builder.add(file_op(mkfile("/base", -1, 0)))
        onto = copy(0, 2, 0, src="/foo/bar", dest="/no/baz", createDestPath=False)
        both = file_op(mkdir("/foo", -1), mkfile("/foo/bar", 1), onto)
        detail = await failing(site, builder.end(builder.add(both, base)), "/no")
        assert detail["file"] == {"index": 2}
        assert len(detail["inputIDs"]) == 1
        _, made, left = detail["mountIDs"]
        assert await text_in(site, left, "/base") == b"text"
        assert await text_in(site, made, "/foo/bar") == b"text"

    on_site(tmp_path, work)


def test_an_input_that_lacks_what_a_step_mounts_can_be_looked_into(tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        builder = Builder()
        base = builder.add(file_op(mkdir("/src", -1, 0)))
        source = builder.add(file_op(mkdir("/found", -1), mkfile("/found/a", 0, 0)))
        mount = ops.Mount(input=1, dest="/src", selector="/no", readonly=True, output=-1)
        step = builder.add(exec_op(mount), base, source)
        detail = await failing(site, builder.end(step), '"/no": not found')
        assert detail["cache"] == {"index": 1}
        assert detail["mountIDs"] == []
        (given,) = detail["inputIDs"]
        assert await text_in(site, given, "/found/a") == b"text"

    on_site(tmp_path, work)


def test_a_base_that_is_copied_from_and_lacks_the_source_is_told_as_a_copy_that_fails(
    tmp_path: Path,
) -> None:
    async def work(site: Site) -> None:
        builder = Builder()
        base = builder.add(file_op(mkfile("/foo", -1, 0)))
        onto = file_op(copy(0, 1, 0, src="/bar", dest="/baz"))
        swapped = builder.end(builder.add(onto, base, base))
        await failing(site, swapped, "bar: no such file or directory")
        builder = Builder()
        base = builder.add(file_op(mkfile("/foo", -1, 0)))
        other = builder.add(file_op(mkfile("/foo", -1), mkfile("/x", 0, 0)))
        await failing(site, builder.end(builder.add(onto, base, other)), '"/bar": not found')

    on_site(tmp_path, work)
