"""The cache of builds in Docker's API: listed with all that takes space, and pruned [EP-3, EP-5]."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from pybuild.cache.space.prune import Policy
from pybuild.cache.space.prune import prune as free
from pybuild.cache.space.usage import UsageRecord, usage
from pybuild.cache.store import Store
from pybuild.daemon.rest.exchange import ApiExchange, Handler, answer


def cache_entries(store: Store) -> list[dict[str, Any]]:
    """The records that may be pruned or are in use; those that images are made of are no cache."""
    return [_entry(record) for record in usage(store) if not record.pinned]


def _entry(record: UsageRecord) -> dict[str, Any]:
    return {
        "ID": record.id,
        "Parents": list(record.parents) or None,
        "Type": record.type,
        "Description": record.description,
        "InUse": record.in_use,
        "Shared": record.shared,
        "Size": record.size,
        "CreatedAt": _moment(record.created),
        "LastUsedAt": _moment(record.last_used),
        "UsageCount": record.use_count,
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


async def prune(exchange: ApiExchange) -> web.StreamResponse:
    """Free what builds keep and nothing needs."""
    query, host = exchange.query, exchange.host
    policy = Policy(
        filters=tuple(query.filters()),
        reserved_space=query.number("reserved-space") or query.number("keep-storage"),
        max_used_space=query.number("max-used-space") or None,
        min_free_space=query.number("min-free-space") or None,
        all=query.flag("all"),
        by_others=True,
    )
    freed: list[str] = []
    pruned = await host.run(free, host.store, policy, lambda record: freed.append(record.id))
    return answer({"CachesDeleted": freed or None, "SpaceReclaimed": pruned.freed})


HANDLERS: Mapping[str, Handler] = {"POST /build/prune": prune}
