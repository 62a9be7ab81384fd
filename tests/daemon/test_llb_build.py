"""Received definitions are built by the executor, and only what we can do is advertised."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybuild.buildkit.llb.caps import LLB_CAPS
from pybuild.buildkit.pb import ops as pb
from pybuild.model.digest import Digest
from pybuild.model.ops import walk
from pybuild.model.snapshot import LocalTree, Result, Snapshot
from tests.buildkit.llbs import Builder, copy, exec_op, file_op, mkdir, read_all
from tests.executor.runner_site import Run, Site, site
from tests.executor.sandbox_helpers import make_base

__all__ = ["site"]


def test_what_is_refused_is_not_advertised() -> None:
    refused = {
        "source.git.signatureverify", "source.git.httpauth",
        "source.http.signatureverify", "source.buildop.llbfilename",
    }  # fmt: skip
    assert not LLB_CAPS & refused
    assert {"file.base", "source.local", "source.image", "exec.meta.base", "mergeop"} <= LLB_CAPS


@pytest.mark.root
@pytest.mark.sandbox
@pytest.mark.slow
def test_a_definition_with_forks_and_several_results_is_built(site: Run) -> None:
    builder = Builder()
    tools = builder.add(pb.Op(source=pb.SourceOp(identifier="local://tools")))
    base = builder.add(file_op(copy(-1, 0, 0, src="/", dest="/", dirCopyContents=True)), tools)
    script = "echo 1 > /r; echo 2 > /o/f; echo 3 > /p/sub/f; cat /x/y/z"
    # 0: scratch with /sub, 1: the same with /y/z
    seeds = builder.add(file_op(mkdir("/sub", -1, 0), mkdir("/y", 0), _file(1, "/y/z", 1)))
    step = exec_op(
        pb.Mount(dest="/o", input=-1, output=1),
        pb.Mount(dest="/p", input=1, output=2),
        pb.Mount(dest="/x", input=2, output=-1, readonly=True),
        args=["/bin/sh", "-c", script],
    )
    step.exec.meta.env.append("PATH=/bin")
    step.exec.network = pb.NONE
    digest, _ = builder.add(step, base, seeds, (seeds[0], 1))
    out = file_op(
        copy(-1, 0, src="/r", dest="/"),
        copy(3, 1, src="/f", dest="/o"),
        copy(4, 2, 0, src="/sub/f", dest="/p"),
    )
    definition = builder.end(builder.add(out, (digest, 0), (digest, 1), (digest, 2)))
    found = read_all(definition)

    async def body(s: Site) -> None:
        s.trees["tools"] = LocalTree(str(make_base(s.root / "busybox")))
        results: dict[Digest, Result] = {}
        async with s.again() as runner:
            for vertex in walk(found.result):
                inputs = [results[v.digest] for v in vertex.inputs]
                results[vertex.digest] = await runner.run(vertex, inputs, s.events.append)
        result = results[found.result.digest]
        assert isinstance(result, Snapshot)
        top = Path(s.top(result))
        texts = {path.name: path.read_text() for path in top.iterdir()}
        assert texts == {"r": "1\n", "o": "2\n", "p": "3\n"}
        assert s.output() == "zz"  # once, whatever the number of its results

    site(body)


def _file(input: int, path: str, output: int) -> pb.FileAction:
    made = pb.FileActionMkFile(path=path, data=b"zz", mode=0o644, timestamp=-1)
    return pb.FileAction(input=input, secondaryInput=-1, output=output, mkfile=made)
