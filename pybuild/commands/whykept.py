"""``pybuild why-kept``: what holds a thing of the store, and what would free it."""

from __future__ import annotations

import json
import sys

from pybuild.cache.space.whykept import Kept, command_of, why_kept
from pybuild.commandline.parser import Parsed
from pybuild.commands.disk import since
from pybuild.commands.localstore import with_store
from pybuild.model.amounts import human_bytes
from pybuild.model.printable import printable


def main(parsed: Parsed) -> int:
    """Explain each thing that the name stands for."""
    name = parsed.positionals[0]
    things = with_store(parsed, lambda store: why_kept(store, name), to_read=True)
    if parsed.one("format") == "json":
        sys.stdout.write("".join(json.dumps(_json(k), sort_keys=True) + "\n" for k in things))
    else:
        sys.stdout.write("\n".join(_text(kept) for kept in things))
    return 0


def _text(kept: Kept) -> str:
    record = kept.record
    lines = [f"{record.kind} {record.id}"]
    lines.append(f"  what        {record.description or record.type}, {human_bytes(record.size)}")
    lines.append(f"  last used   {_used(kept)}")
    lines += [f"  needed by   image {name}" for name in kept.images]
    lines += [f"  last of     {context}" for context in kept.last_of]
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


def _json(kept: Kept) -> dict[str, object]:
    return {
        "id": kept.record.id,
        "kind": kept.record.kind,
        "size": kept.record.size,
        "images": list(kept.images),
        "last_of": list(kept.last_of),
        "processes": list(kept.processes),
        "children": list(kept.children),
        "records": [list(name) for name in kept.record.records],
        "reclaimable": kept.record.reclaimable,
        "value": kept.value,
        "place": kept.place,
        "way_out": kept.way_out,
    }
