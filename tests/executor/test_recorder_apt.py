"""Debian's package tools where they have no real root: the tree that root gets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.executor.debian_packages import (
    Entry,
    built,
    differing,
    make_base,
    without_what_stat_cannot_see,
)
from tests.executor.plain_user import PlainUser, need_packages, plain_user
from tests.needs import need

pytestmark = [pytest.mark.sandbox, pytest.mark.slow, pytest.mark.network]

PACKAGES = "openssh-client dbus sudo iputils-ping"
MORE = """\
RUN adduser --disabled-password --gecos '' app && install -d -o app -g www-data -m 2750 /srv/app
RUN su app -c 'umask 022; cd /srv/app && mkdir x && touch x/y && ln -s y x/z'
"""


@pytest.fixture(scope="module")
def user() -> Iterator[PlainUser]:
    with plain_user() as made:
        need_packages(made)
        yield made


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("mmdebstrap")
    made = tmp_path_factory.mktemp("debian") / "debian.tar"
    if problem := make_base(made):
        pytest.skip(f"no Debian mirror in reach: {problem}")
    return made


@pytest.fixture(scope="module")
def root(user: PlainUser, debian: Path) -> list[dict[str, Entry]]:
    """The layers that root gets."""
    return built(user, debian, "root", PACKAGES, MORE)


def test_with_one_id_packages_that_create_users_and_set_bits_give_the_tree_that_root_gets(
    user: PlainUser, debian: Path, root: list[dict[str, Entry]]
) -> None:
    one = built(user, debian, "one", PACKAGES, MORE)
    for number, (theirs, ours) in enumerate(zip(root, one, strict=True)):
        assert differing(ours, theirs) == {}, number
    assert one[2]["usr/lib/dbus-1.0/dbus-daemon-launch-helper"][1] == "0o4754"
    assert one[2]["usr/bin/ssh-agent"][1:3] == ("0o2755", 0)
    assert one[2]["usr/bin/ping"][-1]  # its capability
    assert one[4]["srv/app/x/z"][2:4] == (1000, 33)


def test_in_a_container_that_may_not_mount_they_give_the_tree_that_root_gets(
    user: PlainUser, debian: Path, root: list[dict[str, Entry]]
) -> None:
    layers = zip(root, built(user, debian, "jailed", PACKAGES, MORE), strict=True)
    theirs, ours = (without_what_stat_cannot_see(list(each)) for each in zip(*layers, strict=True))
    for number, (their, our) in enumerate(zip(theirs, ours, strict=True)):
        assert differing(our, their) == {}, number
