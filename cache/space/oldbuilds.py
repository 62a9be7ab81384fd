"""Pruning takes the records and logs of old builds, too."""

from __future__ import annotations

from collections.abc import Callable

from pybuild.cache.content.buildhistory import Builds
from pybuild.cache.space.filters import parse_filters
from pybuild.cache.space.prune import Policy
from pybuild.cache.space.usage import INTERNAL, UsageRecord
from pybuild.cache.store import Store
from pybuild.model.jsontext import as_number

_RECENT_S = 48 * 3600.0


def prune_builds(store: Store, policy: Policy, freed: Callable[[UsageRecord], None]) -> int:
    """Forget the builds that *policy* picks, of more than two days ago unless it says ``all`` or a filter.

    A policy that frees until so much is left is about results, and forgets none. Returns the number of bytes.

    Raises:
        UsageError: a filter is wrong.
    """
    if policy.max_used_space is not None or policy.min_free_space is not None:
        return 0
    now, builds, total = store.clock.now(), Builds(store), 0
    picks, _ = parse_filters(policy.filters, now)
    for build in builds.all():
        at = min(as_number(build.facts.get("at")), now)
        record = UsageRecord(
            kind="build",
            id=build.id,
            type=INTERNAL,
            size=builds.size(build),
            created=at,
            last_used=at,
            description=f"record of build {build.id}",
        )
        is_recent = not policy.all and not policy.filters and now - at < _RECENT_S
        if build.is_running or is_recent or not picks(record):
            continue
        try:
            builds.remove(build)
        except OSError:
            continue
        total += record.size
        freed(record)
    return total
