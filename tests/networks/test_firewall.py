"""The packet filter by the library and by the program: the same words, the same refusals [NET-20]."""

from __future__ import annotations

import shutil
from collections.abc import Generator

import pytest

from pybuild.networks.firewall import Library, Program, firewall
from tests.needs import need

pytestmark = [pytest.mark.root, pytest.mark.sandbox]

TABLE = "table ip pybuild_test"


@pytest.fixture(params=["library", "program"])
def one(request: pytest.FixtureRequest) -> Generator[Library | Program]:
    need("nft")
    if request.param == "library":
        made: Library | Program = Library()
    else:
        made = Program(str(shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin")))
    yield made
    made.run(f"add {TABLE}; delete {TABLE}")


def test_all_of_a_change_is_done_and_shown(one: Library | Program) -> None:
    one.run(
        f"add {TABLE}; add chain ip pybuild_test c; add rule ip pybuild_test c tcp dport 7 drop"
    )
    listed = one.run(f"list {TABLE}")
    assert listed.startswith(TABLE + " {") and "tcp dport 7 drop\n" in listed
    assert "handle" not in listed
    assert "tcp dport 7 drop # handle " in one.run(f"list {TABLE}", numbers=True)


def test_a_change_that_is_refused_changes_nothing(one: Library | Program) -> None:
    with pytest.raises(OSError) as caught:
        one.run(f"add {TABLE}; add rule ip pybuild_test none drop")
    assert caught.value.strerror and "\n" not in caught.value.strerror
    with pytest.raises(OSError):
        one.run(f"list {TABLE}")
    with pytest.raises(OSError):
        one.run("no word of it")


def test_one_of_them_is_chosen() -> None:
    need("nft")
    assert firewall().name in ("libnftables", "nft")
    assert firewall() is firewall()
