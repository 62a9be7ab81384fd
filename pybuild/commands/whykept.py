"""``pybuild why-kept``: what holds a thing of the store, and what would free it."""

from __future__ import annotations

import json
import sys

from pybuild.cache.kept import Kept, command_of, why_kept
from pybuild.commands.disk import since, with_store
from pybuild.model.amounts import human_bytes
from pybuild.model.printable import printable
from pybuild.options import Parsed


def main(parsed: Parsed) -> int:
    """Explain each thing that the name stands for."""
    found = with_store(parsed, lambda store: why_kept(store, parsed.positionals[0]))
    if parsed.one("format") == "json":
        sys.stdout.write("".join(json.dumps(_json(k), sort_keys=True) + "\n" for k in found))
    else:
        sys.stdout.write("\n".join(_text(kept) for kept in found))
    return 0


def _text(kept: Kept) -> str:
    record = kept.record
    used = f"last used {since(record.last_used) or 'never'}, {record.use_count} uses"
    what = f"{record.description or record.type}, {human_bytes(record.size)}, {used}"
    lines = [f"{record.kind} {record.id}", f"  what       {what}"]
    lines += [f"  image      {name}" for name in kept.images]
    lines += [f"  build      process {pid}: {command_of(pid)[:80]}" for pid in kept.processes]
    lines += [f"  child      {id}" for id in kept.children]
    lines += [f"  record     {kind} {key}" for kind, key in record.records]
    lines.append(f"  value      {kept.value:.3g} seconds of work a byte and second of age")
    if kept.place is not None:
        lines.append(f"  next to go {kept.place} before it")
    lines.append(f"  way out    {kept.way_out}")
    return "\n".join(map(printable, lines)) + "\n"


def _json(kept: Kept) -> dict[str, object]:
    return {
        "id": kept.record.id,
        "kind": kept.record.kind,
        "size": kept.record.size,
        "images": list(kept.images),
        "processes": list(kept.processes),
        "children": list(kept.children),
        "records": [list(name) for name in kept.record.records],
        "reclaimable": kept.record.reclaimable,
        "value": kept.value,
        "place": kept.place,
        "way_out": kept.way_out,
    }
