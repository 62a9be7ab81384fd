"""Cache mounts as things that people can name, measure and limit [MNT-14].

A mount's directory is ``mounts/<name>/``: ``fs`` is what steps see, ``meta.json`` says which id it is
of, and the time of that file is when a step last used it. One id has several directories where
steps seed it or want it private.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from pybuild.cache.disk.atomic import faults
from pybuild.cache.disk.plainfile import plain
from pybuild.cache.store import Store
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.model.jsontext import as_number, as_object, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.cache.store import Store

ANY = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class MountLimit:
    """The largest size of a cache mount after a build, and its longest time unused; 0: any."""

    max_bytes: int = 0
    max_age_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheMount:
    """One directory of an id.

    Attributes:
        name: of its directory.
        id: as in ``RUN --mount=type=cache,id=…``; the target where that has none. Empty if unknown.
        seeded: it began with files of an image or stage.
        last_used: seconds since the epoch; never in the future.
        in_use: a living process has it.
    """

    name: str
    id: str
    seeded: bool
    created: float
    last_used: float
    in_use: bool


def list_mounts(store: Store) -> list[CacheMount]:
    """Return all cache mounts by id and name.

    Raises:
        EnvironmentFault: the leases cannot be read.
    """
    held = {name for kind, name in store.leases.held() if kind == "mount"}
    mounts = [look(store, name, held) for name in os.listdir(store.mounts_dir)]
    return sorted(mounts, key=lambda mount: (mount.id, mount.name))


def look(store: Store, name: str, held: set[str]) -> CacheMount:
    """Return the facts about one cache mount; of a stranger's directory, none."""
    meta = os.path.join(store.mounts_dir, name, "meta.json")
    try:
        with open(meta, "rb", opener=plain) as file:
            facts = as_object(parse(file.read()))
            used = os.fstat(file.fileno()).st_mtime
    except OSError:
        facts, used = {}, 0.0
    return CacheMount(
        name=name,
        id=str(facts.get("id") or ""),
        seeded=bool(facts.get("seeded")),
        created=as_number(facts.get("created")),
        last_used=min(used, store.clock.now()),
        in_use=name in held,
    )


def begin(store: Store, draft: str, facts: Mapping[str, object]) -> None:
    """Make the beginnings of a mount's directory at *draft*, in ``tmp/``; `put` ends it.

    Raises:
        EnvironmentFault: it cannot be made, or the store is at its ceiling.
    """
    if store.budget is not None:
        store.budget.prepare()
    with faults("cannot make a cache mount", store.root):
        store.disk.mkdir(draft)
        store.disk.mkdir(os.path.join(draft, "fs"))
        fd = store.disk.create(os.path.join(draft, "meta.json"))
        try:
            store.disk.write(fd, json.dumps(facts, sort_keys=True).encode())
        finally:
            os.close(fd)


def put(store: Store, draft: str, name: str) -> None:
    """Give the directory that `begin` made its place; what is there goes. Whoever calls holds the mount's lock.

    Raises:
        EnvironmentFault: it cannot be moved; what is there may be gone then, never half of it.
    """
    home = os.path.join(store.mounts_dir, name)
    if os.path.lexists(home):
        store.discard(home)
    with faults("cannot make a cache mount", store.root), store.tmp.moving:
        store.disk.rename(draft, home)


def note_use(store: Store, name: str) -> None:
    """Remember that a step uses it now; best effort, as freeing is all that asks."""
    now = store.clock.now()
    try:
        os.utime(os.path.join(store.mounts_dir, name, "meta.json"), (now, now))
    except OSError:
        pass


def find(store: Store, text: str) -> list[CacheMount]:
    """Return the directories of an id, or the one whose name begins so.

    Raises:
        UserError: there is none.
    """
    mounts = list_mounts(store)
    matches = [mount for mount in mounts if mount.id == text]
    if not matches and len(text) >= 4:
        matches = [mount for mount in mounts if mount.name.startswith(text)]
    if matches:
        return matches
    from difflib import get_close_matches

    near = get_close_matches(text, sorted({mount.id for mount in mounts}), n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise UserError(
        f'there is no cache mount "{text}"{hint}', hints=("pybuild cache mounts ls lists them",)
    )


def remove(store: Store, names: Sequence[str]) -> tuple[list[str], int]:
    """Delete those of *names* that nobody uses; return them, and the bytes that came free.

    Raises:
        EnvironmentFault: the leases cannot be read, or one cannot be removed.
    """
    removed: list[str] = []
    waiting: list[str] = []
    with store.leases.collecting():
        held = store.leases.held()
        for name in names:
            if ("mount", name) in held:
                continue
            path = os.path.join(store.mounts_dir, name)
            with faults(f"cannot remove {path}", store.root):
                taken = store.tmp.take_away(path)
            if taken is not None:
                removed.append(name)
                waiting.append(taken)
    return removed, sum(store.tmp.delete(path) for path in waiting)


def limit(store: Store, limits: Mapping[str, MountLimit]) -> list[str]:
    """Delete what is older or larger than its id may be; return lines that say so.

    A cache over its size begins anew: which of its files could go, only the tool that made them
    knows. It is measured only if it was used since it was last measured.

    Raises:
        EnvironmentFault: as `remove`.
    """
    notices: list[str] = []
    now = store.clock.now()
    for mount in list_mounts(store) if limits else ():
        rule = limits.get(mount.id) or limits.get(ANY) or MountLimit()
        why = ""
        if rule.max_age_s and now - mount.last_used > rule.max_age_s:
            why = "nobody has used it for longer than its max-age"
        elif rule.max_bytes and not mount.in_use:
            size = _size(store, mount)
            if size > rule.max_bytes:
                why = f"it takes {size} of {rule.max_bytes} bytes"
        if why and remove(store, [mount.name])[0]:
            notices.append(f'cache mount "{mount.id}" begins anew: {why}')
    return notices


def _size(store: Store, mount: CacheMount) -> int:
    """Return its size, as noted since it was last used."""
    note = os.path.join(store.mounts_dir, mount.name, "size")
    try:
        with open(note, encoding="ascii") as file:
            text = file.read(32)
            fresh = os.fstat(file.fileno()).st_mtime == mount.last_used
        if fresh and text.endswith("\n") and text[:-1].isdecimal():
            return int(text)
    except OSError:
        pass
    size = store.measure(os.path.join(store.mounts_dir, mount.name)).size
    temporary = store.scratch("size")
    try:
        with open(temporary, "w", encoding="ascii") as file:
            file.write(f"{size}\n")
        os.utime(temporary, (mount.last_used, mount.last_used))
        os.rename(temporary, note)
    except OSError:
        pass  # measured again the next time
    return size


def only_one(mounts: list[CacheMount], text: str) -> CacheMount:
    if len(mounts) > 1:
        names = ", ".join(mount.name[:12] for mount in mounts)
        raise UserError(
            f'cache mount "{text}" has {len(mounts)} directories: {names}',
            hints=("name one of them instead of the id",),
        )
    return mounts[0]


def mount_row(store: Store, mount: CacheMount) -> dict[str, Any]:
    return {
        "id": mount.id,
        "name": mount.name,
        "size": store.measure(os.path.join(store.mounts_dir, mount.name)).size,
        "created": mount.created,
        "last_used": mount.last_used,
        "seeded": mount.seeded,
        "in_use": mount.in_use,
    }
