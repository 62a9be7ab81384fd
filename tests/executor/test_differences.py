"""Differences between trees, as a stack of changes that another tree takes."""

from __future__ import annotations

import pytest

from pybuild.model.ops import DiffOp, MergeOp, Mkdir, Mkfile, Rm, Symlink
from pybuild.model.snapshot import Result, Snapshot
from tests.executor.runner_site import EMPTY, Run, Site, site

__all__ = ["site"]

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]


async def listed(s: Site, tree: Result, base: Snapshot) -> dict[str, str]:
    """Return the files of *tree* below ``/t``, with what they hold."""
    s.events.clear()
    script = "cd /t; for f in $(find . | sort); do echo $f $(cat $f 2>/dev/null); done"
    await s.shell(script, await merged(s, base, tree))
    lines = [line.split(" ", 1) for line in s.output().splitlines()]
    return {words[0].removeprefix("./"): " ".join(words[1:]) for words in lines}


async def merged(s: Site, *trees: Result) -> Snapshot:
    result = await s.run(MergeOp(), *trees)
    assert isinstance(result, Snapshot)
    return result


async def difference(s: Site, lower: Result, upper: Result) -> Snapshot:
    result = await s.run(DiffOp(), lower, upper)
    assert isinstance(result, Snapshot)
    return result


def test_unrelated_trees_have_a_difference(site: Run) -> None:
    async def body(s: Site) -> None:
        base = await s.base()
        lower = await s.files(
            Mkdir(path="/t"),
            Mkfile(path="/t/same", data=b"1", mtime=1),
            Mkfile(path="/t/gone", data=b"2", mtime=1),
            Mkfile(path="/t/other", data=b"3", mtime=1),
            Mkdir(path="/t/both/was"),
            Symlink(path="/t/kind", target="same"),
        )
        upper = await s.files(
            Mkdir(path="/t"),
            Mkfile(path="/t/same", data=b"1", mtime=1),
            Mkfile(path="/t/other", data=b"4", mtime=1),
            Mkfile(path="/t/new", data=b"5", mtime=1),
            Mkdir(path="/t/both/is"),
            Mkdir(path="/t/kind"),
        )
        made = await difference(s, lower, upper)
        assert await listed(s, made, base) == {
            ".": "",
            "other": "4",
            "new": "5",
            "both": "",
            "both/is": "",
            "kind": "",
        }
        # Put on the first tree it makes the second of it.
        both = await merged(s, lower, made)
        assert await listed(s, both, base) == await listed(s, upper, base)

    site(body)


def test_a_difference_to_nothing_takes_everything_away(site: Run) -> None:
    async def body(s: Site) -> None:
        base = await s.base()
        lower = await s.files(Mkdir(path="/t/old"), Mkfile(path="/t/old/f", data=b"x"))
        made = await difference(s, lower, EMPTY)
        other = await s.files(Mkfile(path="/t/mine", data=b"m"))
        rest = await merged(s, lower, await merged(s, made, other))
        assert await listed(s, rest, base) == {
            ".": "",
            "mine": "m",
        }

    site(body)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("chmod 600 /t/a; chmod 644 /t/a", {}),
        ("chmod 700 /t/d; chmod 755 /t/d; rm -f /t/none", {}),
        ("touch /t/a /t/d/x; rm /t/d/x", {".": "", "a": "1"}),
        ("echo -n 2 > /t/a; chmod 600 /t/b; chmod 644 /t/b", {".": "", "a": "2"}),
        ("rm -r /t/d; mkdir /t/d; echo -n n > /t/d/n", {".": "", "d": "", "d/n": "n"}),
    ],
)
def test_what_a_step_touched_and_did_not_change_is_no_difference(
    site: Run, script: str, expected: dict[str, str]
) -> None:
    async def body(s: Site) -> None:
        base = await s.base()
        lower = await s.files(
            Mkdir(path="/t/d"),
            Mkfile(path="/t/a", data=b"1"),
            Mkfile(path="/t/b", data=b"b"),
            Mkfile(path="/t/d/f", data=b"f"),
            base=base,
        )
        made = await difference(s, lower, await s.shell(script, lower))
        under = await s.files(Mkdir(path="/t")) if not expected else EMPTY
        assert await listed(s, await merged(s, under, made), base) == (expected or {".": ""})

    site(body)


def test_a_step_that_changed_all_that_it_wrote_is_its_own_difference(site: Run) -> None:
    async def body(s: Site) -> None:
        lower = await s.files(Mkfile(path="/t/a", data=b"1"), Mkfile(path="/t/b", data=b"1"))
        upper = await s.files(Mkfile(path="/t/c", data=b"1"), Rm(path="/t/a"), base=lower)
        made = await difference(s, lower, upper)
        assert made.deltas[-1:] == upper.deltas[1:]

    site(body)
