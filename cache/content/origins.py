"""Whose last result an image is: an annotation of its entries in the index.

An *origin* is all that makes two builds builds of the same thing: the context, and which Dockerfile
and target of it. The mark is in the index itself, so that keeping a result and saying whose it is
are one write, which is there or not.
"""

from __future__ import annotations

import os

from pybuild.model.jsontext import as_list, as_object, parse

Origin = tuple[str, str, str]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Entries = list[dict[str, Any]]

LAST_RESULT_OF = "dev.pybuild.last-result-of"


def origins_of(entry: dict[str, Any]) -> list[Origin]:
    """Return the origins whose last result an entry of the index is, sorted."""
    origins: set[Origin] = set()
    for item in as_list(parse(str(as_object(entry.get("annotations")).get(LAST_RESULT_OF)))):
        parts = tuple(map(str, as_list(item)))
        if len(parts) == 3:
            origins.add(parts)
    return sorted(origins)


def with_last_result(
    entries: Entries, digest: str, origin: Origin | None, before: Entries
) -> Entries:
    """Return *entries* with *origin* at those of the image *digest* alone.

    All entries of an image have the same origins, so that none is lost with a name.

    Args:
        before: the entries until now; what the image is the last result of, it stays.
    """
    of_image = {o for entry in before if entry.get("digest") == digest for o in origins_of(entry)}
    if origin is not None:
        of_image.add(origin)
    changed: Entries = []
    for entry in entries:
        now = origins_of(entry)
        if entry.get("digest") == digest:
            after = sorted(of_image)
        else:
            after = [other for other in now if other != origin]
        changed.append(entry if now == after else _with(entry, after))
    return changed


def _with(entry: dict[str, Any], origins: Sequence[Origin]) -> dict[str, Any]:
    rest = {key: value for key, value in entry.items() if key != "annotations"}
    notes = dict(as_object(entry.get("annotations")))
    notes.pop(LAST_RESULT_OF, None)
    if origins:
        import json

        notes[LAST_RESULT_OF] = json.dumps(origins, ensure_ascii=False)
    return {**rest, "annotations": dict(sorted(notes.items()))} if notes else rest


def may_build_again(origin: Origin) -> bool:
    """Return whether there can be a next build: a directory that is gone has had its last."""
    context = origin[0]
    if not os.path.isabs(context):
        return True  # a repository, an archive or standard input
    try:
        os.stat(context)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return True  # somebody else's directory, to be seen by them
    return True


def shown(origin: Origin) -> str:
    """Return an origin as people know it."""
    context, dockerfile, target = origin
    parts = [f"Dockerfile {dockerfile}"] if dockerfile != "Dockerfile" else []
    parts += [f"target {target}"] if target else []
    return f"{context} ({', '.join(parts)})" if parts else context
