"""Keeps the store within its limits: frees space after builds, seldom and within bounds [GC-5].

Looking through a store takes time that grows with it, so it is done at most once an hour, or when
the disk is nearly full.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.cache.content.cachemounts import limit
from pybuild.cache.store import Store
from pybuild.engine.settings import Settings, StoreLimits
from pybuild.model.amounts import parse_size

if TYPE_CHECKING:
    from pybuild.cache.space.prune import Policy

_EVERY_S = 3600.0
_NEARLY_FULL = 0.95
_STAMP = "gc-stamp"


def keep_mounts(store: Store, settings: Settings) -> None:
    """Let cache mounts begin anew that are older or larger than they may be; says which."""
    for line in limit(store, settings.mounts):
        store.warn(line)


def keep_within(store: Store, limits: StoreLimits) -> int:
    """Free what the limits want freed, if it is time to look; returns the bytes freed."""
    if not limits.enabled or not _is_due(store, limits):
        return 0
    from pybuild.cache.space.prune import collect  # once an hour at most

    return collect(store, policies(store, limits)).freed


def policies(store: Store, limits: StoreLimits) -> list[Policy]:
    """The default rules, with what the configuration says in place of their numbers."""
    from pybuild.cache.space.prune import Policy, default_policies  # as in `keep_within`

    disk = os.statvfs(store.root)
    size = disk.f_blocks * disk.f_frsize
    if not _has_own(limits):
        return default_policies(store)

    def parsed(text: str) -> int | None:
        return parse_size(text, size) if text else None

    policy = Policy(
        reserved_space=parsed(limits.reserved_space) or 0,
        max_used_space=parsed(limits.max_used_space),
        min_free_space=parsed(limits.min_free_space),
    )
    return [policy]


def ceiling_of(store: Store, settings: Settings) -> int:
    """Return the ceiling of the store in bytes; 0: none was set."""
    if not settings.cache_max:
        return 0
    disk = os.statvfs(store.root)
    return parse_size(settings.cache_max, disk.f_blocks * disk.f_frsize)


def _has_own(limits: StoreLimits) -> bool:
    return bool(limits.reserved_space or limits.max_used_space or limits.min_free_space)


def _is_due(store: Store, limits: StoreLimits) -> bool:
    """Return whether the last check is an hour old, or the disk is nearly full; notes this check."""
    path = os.path.join(store.root, _STAMP)
    now = store.clock.now()
    age = _age(path, now)
    if age is None:
        # A store just made has nothing that the default rules want freed, and its first build
        # should not be kept waiting while all that it has pulled is measured.
        of_store = None if _has_own(limits) else _age(os.path.join(store.root, "store.json"), now)
        age = _EVERY_S if of_store is None else of_store
    disk = os.statvfs(store.root)
    full = 1 - disk.f_bavail / max(1, disk.f_blocks) > _NEARLY_FULL
    if 0 <= age < _EVERY_S and not full:
        return False
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.utime(fd, (now, now))
    finally:
        os.close(fd)
    return True


def _age(path: str, now: float) -> float | None:
    try:
        return now - os.stat(path).st_mtime
    except FileNotFoundError:
        return None
