"""The table of the network of builds, as text."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pybuild.networks import buildrules
from tests.needs import needs

LIBRARY = (
    "import sys; from pybuild.networks.firewall import Library; Library().run(sys.stdin.read())"
)
TABLE = buildrules.table("172.17.0.1", "172.17.0.0/16", "127.0.0.1", guarded=True)
LISTING = "table inet pybuild_builds {\n\tchain passing {\n\t\tdrop\n\t}\n}\n"


def marked(listing: str, table: str = TABLE) -> str:
    """Return the listing with the mark of *table*, as nft prints it."""
    name = buildrules.mark(table, listing).split()[-1]
    return listing[:-2] + f"\n\tchain {name} {{\n\t}}\n}}\n"


def test_a_table_is_known_again_by_its_mark() -> None:
    assert buildrules.is_as_made(TABLE, marked(LISTING))
    assert not buildrules.is_as_made(TABLE, LISTING)
    assert not buildrules.is_as_made(TABLE, "")


def test_one_that_somebody_has_changed_is_not() -> None:
    assert not buildrules.is_as_made(TABLE, marked(LISTING).replace("\t\tdrop\n", ""))


def test_nor_is_one_that_was_made_for_something_else() -> None:
    other = buildrules.table("172.17.0.1", "172.17.0.0/16", "", guarded=True)
    assert not buildrules.is_as_made(TABLE, marked(LISTING, other))


def test_a_machine_that_was_no_router_is_guarded_and_stays_so() -> None:
    assert buildrules.is_guarded(TABLE)
    assert not buildrules.is_guarded(
        buildrules.table("172.17.0.1", "172.17.0.0/16", "", guarded=False)
    )


@pytest.mark.root
@needs("nft", "unshare")
@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize("server", ["", "127.0.0.1"])
def test_the_kernel_takes_each_table(server: str, guarded: bool) -> None:
    """Not only that of a machine that forwards, or does not, as the one that tests has it."""
    table = buildrules.table("172.17.0.1", "172.17.0.0/16", server, guarded=guarded)
    for way in (["nft", "-f", "-"], [sys.executable, "-c", LIBRARY]):
        done = subprocess.run(
            ["unshare", "--net", *way],
            input=table,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
