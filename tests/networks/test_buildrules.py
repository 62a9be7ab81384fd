"""The table of the network of builds, as text."""

from __future__ import annotations

from pybuild.networks import buildrules

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
