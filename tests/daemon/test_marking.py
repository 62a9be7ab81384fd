"""Steps of a shared store that are their owner's alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pybuild.daemon.builds.scope import marked
from pybuild.model.ops import (
    ExecOp,
    GitSource,
    Mount,
    MountType,
    ScratchSource,
    StepSettings,
    Vertex,
)
from pybuild.model.platform import LINUX_AMD64
from pybuild.solver import keys

ROOT = Mount(target="/", input=0, output=True)
PLAIN = ExecOp(args=("true",), env=(), cwd="/", mounts=(ROOT,), platform=LINUX_AMD64)


def vertex(op: ExecOp) -> Vertex:
    return Vertex(op, (Vertex(ScratchSource()),))


def test_a_step_whose_key_tells_all_is_anybodys() -> None:
    plain = vertex(PLAIN)
    assert marked(plain, "a") is plain


@pytest.mark.parametrize(
    "op",
    [
        replace(PLAIN, mounts=(ROOT, Mount(target="/s", type=MountType.SECRET, id="s"))),
        replace(PLAIN, mounts=(ROOT, Mount(target="/s", type=MountType.SSH))),
        replace(PLAIN, mounts=(ROOT, Mount(target="/c", type=MountType.CACHE))),
        replace(PLAIN, proxy_env=("HTTP_PROXY=http://x",)),
        replace(PLAIN, settings=StepSettings(add_hosts=(("pypi.example", "6.6.6.6"),))),
    ],
)
def test_a_step_is_its_owners_where_something_goes_in_untold(op: ExecOp) -> None:
    found = {
        keys.definition_key(keys.definition_part(marked(vertex(op), owner).op), [])
        for owner in ("a", "b")
    }
    assert len(found) == 2


def test_cache_mounts_are_their_owners() -> None:
    op = replace(PLAIN, mounts=(ROOT, Mount(target="/c", type=MountType.CACHE, cache_id="x")))
    ids = {marked(vertex(op), owner).op.mounts[1].cache_id for owner in ("a", "b")}  # type: ignore[union-attr]
    assert ids == {"a/x", "b/x"}


def test_a_commit_counts_with_its_remote() -> None:
    found = {
        keys.source_key(keys.definition_part(marked(Vertex(GitSource(remote=url)), "a").op), None)
        for url in ("https://one/x", "https://two/x", "https://me:word@two/x")
    }
    assert len(found) == 2


def test_what_stands_on_a_marked_step_is_made_on_it() -> None:
    op = replace(PLAIN, proxy_env=("HTTP_PROXY=http://x",))
    above = Vertex(PLAIN, (vertex(op),))
    assert marked(above, "a").digest != marked(above, "b").digest != above.digest
