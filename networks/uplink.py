"""The packet filters of others on this machine, as networks of builds and of containers see them."""

from __future__ import annotations

import fcntl
import os

from pybuild.model.lightlib import contextmanager
from pybuild.networks import buildrules, dockerchain, wayout
from pybuild.networks.firewall import firewall
from pybuild.networks.rules import strict_chains

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def alone() -> Generator[None]:
    """Keep others from choosing a subnet at the same time; where there is no place for a lock, do without."""
    try:
        try:
            os.mkdir(wayout.SHARED, 0o700)
        except FileExistsError:
            pass
        lock = os.open(
            f"{wayout.SHARED}/buildnetwork", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
    except OSError:
        yield
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def obstacle(listing: str) -> str:
    """Return why packets of bridges would be lost, "": they would not.

    Args:
        listing: what ``list chains`` printed.
    """
    strict = strict_chains(listing, buildrules.TABLE)
    if "table inet firewalld " in listing:
        return "firewalld lets no packets pass that it does not know"
    if strict and not dockerchain.alone_drops(strict, listing):
        return f"the packet filter's chain {strict[0]} drops what is not allowed there"
    if wayout.has_legacy_filter():
        return "iptables-legacy has rules, which cannot be seen"
    return ""


def let_by_docker(listing: str, bridge: str) -> None:
    """Let packets of a bridge pass where docker has all dropped; *listing* is what ``list chains`` printed."""
    if dockerchain.decides(listing):
        known = firewall()
        if commands := dockerchain.let_pass(bridge, known.run(dockerchain.LISTED)):
            known.run(commands)


def forget_by_docker(bridge: str) -> None:
    """Take a bridge out of docker's chain, if it is in there."""
    known = firewall()
    if dockerchain.decides(known.run("list chains")):
        listed = known.run(dockerchain.LISTED, numbers=True)
        if commands := dockerchain.take_back(bridge, listed):
            known.run(commands)
