"""The holders of a thing of the store, as people and programs read them."""

from __future__ import annotations

from pybuild.cache.space.usage import since
from pybuild.cache.space.whykept import Kept, command_of
from pybuild.model.amounts import human_bytes
from pybuild.model.printable import printable


def kept_text(kept: Kept) -> str:
    record = kept.record
    lines = [f"{record.kind} {record.id}"]
    lines.append(f"  what        {record.description or record.type}, {human_bytes(record.size)}")
    lines.append(f"  last used   {_used(kept)}")
    lines += [f"  needed by   image {name}" for name in kept.images]
    lines += [f"  last of     {context}" for context in kept.last_of]
    lines += [f"  needed by   container {id[:12]}" for id in kept.containers]
    lines += [f"  needed by   process {pid}: {command_of(pid)[:80]}" for pid in kept.processes]
    lines += [f"  needed by   delta {id}, which lies on it" for id in kept.children]
    results = sum(kind == "result" for kind, _ in record.records)
    if results:
        lines.append(f"  found as    the result of {results} cache key{'s' if results > 1 else ''}")
    lines.append(f"  kept until  {_until(kept)}")
    lines.append(f"  to free it  {kept.way_out}")
    return "\n".join(map(printable, lines)) + "\n"


def _used(kept: Kept) -> str:
    count, ago = kept.record.use_count, since(kept.record.last_used)
    if not ago:
        return "never"
    if not count:
        return f"{ago}, not reused so far"
    return f"{ago}, reused {count} time{'' if count == 1 else 's'}"


def _until(kept: Kept) -> str:
    if kept.last_of:
        return "the next build"
    if kept.place is None:
        return "nothing needs it any more"
    if not kept.place:
        return "space is needed; it goes first"
    things = "1 other thing" if kept.place == 1 else f"{kept.place} other things"
    return f"space is needed; {things} would go before it"


def kept_document(kept: Kept) -> dict[str, object]:
    return {
        "id": kept.record.id,
        "kind": kept.record.kind,
        "size": kept.record.size,
        "images": list(kept.images),
        "last_of": list(kept.last_of),
        "processes": list(kept.processes),
        "containers": list(kept.containers),
        "children": list(kept.children),
        "records": [list(name) for name in kept.record.records],
        "reclaimable": kept.record.reclaimable,
        "value": kept.value,
        "place": kept.place,
        "way_out": kept.way_out,
    }
