"""A client's steps stay below the build server's own cgroup, whatever parent a definition names."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb import ops as llb
from pybuild.client.session import ClientSession
from pybuild.executor.zygote.hierarchies import Hierarchy, hierarchies
from pybuild.net.grpc.peer import user
from pybuild.net.grpc.status import RpcError
from tests.buildkit.llbs import Builder, exec_op
from tests.daemon.buildsites import Client, Daemon, client, daemon
from tests.harness import Pybuild, make_base, write

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]

# What a client may say, and where its step is then, below the cgroup of its owner.
CONFINED = {
    "absolute": ("/", ""),
    "absolute-name": ("/escaped", "/escaped"),
    "the-machine's": ("/system.slice/docker.service", "/system.slice/docker.service"),
    "deep": ("a/b/c", "/a/b/c"),
    "slashes": ("///a//b/", "/a/b"),
    "dots": ("./a/./.", "/a"),
    "another-s-step": ("pybuild-1-1", "/pybuild-1-1"),
    "another-tenant": ("/pybuild-of-0123456789abcdef0123456789abcdef", None),
    "space": ("a b", "/a b"),
}
REFUSED = {
    "up": "..",
    "up-and-down": "/a/../../b",
    "newline": "a\nb",
    "nul": "a\0b",
    "escape-code": "a\x1bb",
    "kernel-file": "tasks/x",
    "kernel-file-of-all": "cgroup.procs/x",
    "long": "a" * 5000,
    "very-deep": "/".join("a" * 20),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Daemon]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    where = tmp_path_factory.mktemp("d")
    store = Pybuild(where / "store")
    make_base(store, where / "base", "base:1")
    with daemon(store, where) as found:
        yield found


@pytest.fixture(scope="module")
def hierarchy() -> Hierarchy:
    for one in hierarchies():
        if not one.problem and "pids" in one.controllers and os.access(one.home, os.W_OK):
            return one
    pytest.skip("no pids cgroup to make steps' own in")


def own_cgroup() -> str:
    """The one of whoever speaks through the socket as this user."""
    from hashlib import sha256

    return f"/pybuild-of-{sha256(user(os.geteuid()).encode()).hexdigest()[:32]}"


def place_of(argument: str, hierarchy: Hierarchy) -> str:
    """Return the cgroup of the process with *argument*, below the builder's; empty: none is there.

    A step has its own view of the cgroups: this is the machine's.
    """
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        try:
            words = Path("/proc", pid, "cmdline").read_bytes().split(b"\0")
            if argument.encode() not in words[1:] or words[0] != b"sleep":
                continue
            lines = Path("/proc", pid, "cgroup").read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            _, names, path = line.split(":", 2)
            if "pids" in names.split(",") or (not names and hierarchy.version == 2):
                base = hierarchy.home.removeprefix(hierarchy.top)
                assert path.startswith(base + "/"), path
                return path.removeprefix(base)
    return ""


def definition(parent: str, words: Sequence[str]) -> llb.Definition:
    builder = Builder()
    source = llb.SourceOp(
        identifier="docker-image://docker.io/library/base:1",
        attrs={"image.resolvemode": "local"},
    )
    op = exec_op(args=words)
    op.exec.mounts[0].input, op.exec.mounts[0].output = 0, 0
    op.exec.meta.cgroupParent = parent
    return builder.end(builder.add(op, builder.add(llb.Op(source=source))))


async def by_definition(c: Client, parent: str, words: Sequence[str]) -> None:
    async with ClientSession({}).open(c.channel) as session:
        request = pb.SolveRequest(
            Ref=os.urandom(8).hex(),
            Session=session.id,
            Definition=definition(parent, words),
            Exporters=[pb.Exporter(Type="image")],
        )
        await c.call("Solve", request.SerializeToString())


async def seen(build: Coroutine[Any, Any, object], argument: str, hierarchy: Hierarchy) -> str:
    """Return where the step with *argument* runs, and end its build."""
    task = asyncio.create_task(build)
    try:
        while not (found := place_of(argument, hierarchy)):
            if task.done():
                raise AssertionError("it has ended") from task.exception()
            await asyncio.sleep(0.01)
        return found
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def new_argument() -> str:
    """Return a time that no other process sleeps."""
    return f"60.{int.from_bytes(os.urandom(4), 'big')}"


@pytest.mark.parametrize("case", CONFINED)
def test_a_parent_lies_below_the_owner_s_own(
    server: Daemon, hierarchy: Hierarchy, case: str
) -> None:
    parent, below = CONFINED[case]
    expected = own_cgroup() + (parent if below is None else below)

    async def run() -> None:
        async with client(server.address) as c:
            argument = new_argument()
            build = by_definition(c, parent, ["sleep", argument])
            found = await seen(build, argument, hierarchy)
            assert found.startswith(expected + "/pybuild-"), found

    asyncio.run(run())


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_cgroup_is_refused_and_nothing_runs(
    server: Daemon, hierarchy: Hierarchy, case: str
) -> None:
    parent = REFUSED[case]
    if case == "kernel-file" and hierarchy.version == 2:
        parent = "cgroup.threads/x"

    async def run() -> None:
        async with client(server.address) as c:
            with pytest.raises(RpcError) as caught:
                await by_definition(c, parent, ["sleep", "0.01"])
            words = ("cgroup-parent", "cgroup parent", "NUL")
            assert any(text in caught.value.message for text in words), caught.value

    asyncio.run(run())


def test_an_attribute_of_the_frontend_is_held_to_the_same(
    server: Daemon, hierarchy: Hierarchy, tmp_path: Path
) -> None:
    argument = new_argument()
    context = write(tmp_path / "c", Dockerfile=f'FROM base:1\nRUN ["sleep", "{argument}"]\n')

    async def run() -> None:
        async with client(server.address) as c:
            build = c.build(context, attrs={"cgroup-parent": "/escaped"})
            found = await seen(build, argument, hierarchy)
            assert found.startswith(own_cgroup() + "/escaped/pybuild-"), found

    asyncio.run(run())


def test_nothing_is_made_outside_and_nothing_is_left(server: Daemon, hierarchy: Hierarchy) -> None:
    async def run() -> None:
        async with client(server.address) as c:
            await by_definition(c, "/escaped-and-left", ["sleep", "0"])
            assert not Path(hierarchy.top, "escaped-and-left").exists()
            # A process that is made ahead for the next step keeps it half a second.
            left = Path(hierarchy.home + own_cgroup())
            while (left / "escaped-and-left").exists():
                await asyncio.sleep(0.02)

    asyncio.run(run())


def test_more_weight_than_others_is_had_among_one_s_own(
    server: Daemon, hierarchy: Hierarchy, tmp_path: Path
) -> None:
    argument = new_argument()
    context = write(tmp_path / "c", Dockerfile=f'FROM base:1\nRUN ["sleep", "{argument}"]\n')

    async def run() -> None:
        async with client(server.address) as c:
            build = c.build(context, attrs={"cpushares": "200000"})
            found = await seen(build, argument, hierarchy)
            assert found.startswith(own_cgroup() + "/pybuild-"), found

    asyncio.run(run())
