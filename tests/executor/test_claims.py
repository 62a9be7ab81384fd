"""Ids that a task claims change by the rules of setuid(2) and its kin, capabilities(7), execve(2)."""

from __future__ import annotations

import pytest

from pybuild.executor.zygote.recorder import claims
from pybuild.executor.zygote.recorder.claims import KEEP, Claim

ROOT = Claim.of(0, 0, [0])


def test_root_may_become_anybody_and_nobody_may_come_back() -> None:
    assert claims.set_one((0, 0, 0, 0), 33, True) == (33, 33, 33, 33)
    with pytest.raises(PermissionError):
        claims.set_one((33, 33, 33, 33), 0, False)
    with pytest.raises(OSError, match="22"):
        claims.set_one((0, 0, 0, 0), KEEP, True)


def test_a_saved_id_is_a_way_back() -> None:
    lowered = claims.set_three((0, 0, 0, 0), (KEEP, 33, KEEP), True)
    assert lowered == (0, 33, 0, 33)
    assert claims.set_one(lowered, 0, False) == (0, 0, 0, 0)
    assert claims.set_three(lowered, (33, 33, 33), False) == (33, 33, 33, 33)


@pytest.mark.parametrize(
    ("old", "real", "effective", "new"),
    [
        ((1, 2, 3, 2), KEEP, KEEP, (1, 2, 3, 2)),
        ((1, 2, 3, 2), 2, 1, (2, 1, 1, 1)),
        ((1, 2, 3, 2), KEEP, 3, (1, 3, 3, 3)),
        ((1, 2, 3, 2), KEEP, 1, (1, 1, 3, 1)),
    ],
)
def test_setreuid_sets_the_saved_id_when_the_kernel_does(
    old: claims.Four, real: int, effective: int, new: claims.Four
) -> None:
    assert claims.set_two(old, real, effective, False) == new


def test_setfsuid_refuses_by_doing_nothing() -> None:
    assert claims.set_fs((1, 2, 3, 2), 9, False) == (1, 2, 3, 2)
    assert claims.set_fs((1, 2, 3, 2), 3, False) == (1, 2, 3, 3)


def test_capabilities_are_kept_over_setuid_only_on_request_and_not_over_exec() -> None:
    dropped = ROOT.with_uid((33, 33, 33, 33))
    assert not dropped.is_root
    kept = ROOT.keeping(True).with_uid((33, 33, 33, 33))
    assert kept.is_root
    assert not kept.keeping(False).with_uid((33, 33, 33, 33)).is_root
    assert not claims.executed(kept, 0o755, 0, 0).is_root


def test_set_id_bits_change_effective_and_saved_ids() -> None:
    after = claims.executed(Claim.of(5, 6, []), 0o6755, 33, 44)
    assert (after.uid, after.gid) == ((5, 33, 33, 33), (6, 44, 44, 44))
    # Without the group's x it is a lock, not a set-group-id bit.
    assert claims.executed(Claim.of(5, 6, []), 0o2745, 33, 44).gid == (6, 6, 6, 6)


MINE, OTHERS = (33, 50), (34, 50)


@pytest.mark.parametrize(
    ("owner", "uid", "gid", "allowed"),
    [
        (OTHERS, KEEP, KEEP, True),  # changes nothing
        (MINE, 33, KEEP, True),
        (MINE, 33, 50, True),  # the group that it has
        (MINE, KEEP, 33, True),  # the own group
        (MINE, KEEP, 4, True),  # a supplementary one
        (MINE, 33, 4, True),
        (MINE, KEEP, 5, False),  # a group of others
        (MINE, 34, KEEP, False),
        (MINE, 34, 33, False),
        (OTHERS, KEEP, 33, False),
        (OTHERS, 34, 33, False),
        (OTHERS, 33, KEEP, False),
    ],
)
def test_who_is_not_root_gives_its_own_files_to_its_own_groups(
    owner: tuple[int, int], uid: int, gid: int, allowed: bool
) -> None:
    assert Claim.of(33, 33, [4]).may_give(owner, uid, gid) is allowed
    assert ROOT.may_give(owner, uid, gid)


def test_new_files_have_the_group_of_a_set_gid_directory_alone() -> None:
    claim = Claim.of(33, 44, [4])
    assert claim.owner_below(0o40755, (0, 50)) == (33, 44)
    assert claim.owner_below(0o42775, (0, 50)) == (33, 50)
    assert claim.with_uid((33, 33, 33, 7)).owner_below(0o41777, (0, 50)) == (7, 44)
