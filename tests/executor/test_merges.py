"""Merged trees: each hides of the others only what it took away of its own."""

from __future__ import annotations

import pytest

from pybuild.model.ops import MergeOp, Mkdir, Mkfile
from tests.executor.runner_site import Run, Site, site

__all__ = ["site"]

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]
AGAIN = (
    "rm -rf /bar; mkdir -m 0750 /bar; echo n > /bar/new; mkdir /bar/sub; echo s > /bar/sub/s;"
    " ln /bar/new /bar/again; rm /gone; mkdir /fresh; echo f > /fresh/f"
)
LOOK = "cd /; find bar fresh gone 2>/dev/null | sort; stat -c %a bar; test bar/new -ef bar/again && echo linked"
SAME = "bar bar/again bar/kept bar/new bar/sub bar/sub/s fresh fresh/f fresh/kept"


@pytest.mark.parametrize(
    ("is_on_top", "expected"),
    [
        pytest.param(True, f"{SAME} 750 linked", id="above"),
        pytest.param(False, f"{SAME} bar/old gone 755 linked", id="below"),
    ],
)
def test_a_directory_that_was_made_again_hides_its_own_past_alone(
    site: Run, is_on_top: bool, expected: str
) -> None:
    async def body(s: Site) -> None:
        base = await s.base()
        mine = await s.files(
            Mkfile(path="/bar/old", data=b"o"), Mkfile(path="/gone", data=b"g"), base=base
        )
        again = await s.shell(AGAIN, mine)
        theirs = await s.files(
            Mkdir(path="/bar"),
            Mkfile(path="/bar/old", data=b"theirs"),
            Mkfile(path="/bar/kept", data=b"k"),
            Mkfile(path="/fresh/kept", data=b"k"),
            Mkfile(path="/gone", data=b"g"),
        )
        inputs = (theirs, again) if is_on_top else (again, theirs)
        merged = await s.run(MergeOp(), *inputs)
        s.events.clear()
        await s.shell(LOOK, merged)
        names = [word for line in s.output().splitlines() for word in line.split()]
        assert sorted(names[:-2]) == sorted(expected.split()[:-2])
        assert names[-2:] == expected.split()[-2:]

    site(body)
