"""Differences between the named inputs of two keys, named so that people find them. Pure.

The first difference is the likeliest cause: what belongs to the vertex itself comes before what it
was given, and an input that is only known to be another one comes last, since it has a cause of its
own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pybuild.model.dataclass import dataclass
from pybuild.model.jsontext import as_list, as_object
from pybuild.model.named import Listing
from pybuild.model.options import STEP_OPTIONS

FindListing = Callable[[str], Listing | None]
MAX_TEXT = 2000

# Fields of ops under the names that people write them by.
_NAMES = {option.field: option.name for option in STEP_OPTIONS} | {
    "actions": "command",
    "args": "command",
    "cwd": "workdir",
    "devices": "device",
    "env": "env",
    "host_mounts": "volume",
    "mounts": "mount",
    "owner": "chown",
    "valid_exit_codes": "exit-codes",
    "contents_only": "contents",
    "keep_git_dir": "keep-git-dir",
    "parents_pivot": "parents",
    "readonly": "readonly",
    "tmpfs_size_bytes": "size",
    "own_cache": "id or sharing",
    "cache_id": "id",
    "data": "content",
    "mtime": "epoch",
}
# What a frontend makes of how a source is written: a difference there says no more.
_OF_SOURCE = {"allow_empty", "contents_only", "wildcard"}
_IDENTITIES = {"ImageSource": "base", "OciLayoutSource": "base", "GitSource": "commit"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One named input that is not what it was.

    Attributes:
        field: ``env.VERSION``, ``command``, ``file.mode``, ``mount.readonly``, ``base``, ``parent``…
        path: the file or mount that it is about.
        was, now: None where there is none; texts are cut at `MAX_TEXT`.
        note: a further help, such as the line of an ignore file.
    """

    field: str
    was: str | None = None
    now: str | None = None
    path: str = ""
    note: str = ""


def differences(
    was: Mapping[str, Any], now: Mapping[str, Any], find: FindListing
) -> list[Difference]:
    """Return the differences of two `NamedInputs.parts`, the likeliest cause first.

    Args:
        find: gives the files of a content; not called for contents that are equal.
    """
    before, after = as_object(was.get("op")), as_object(now.get("op"))
    changes = [
        *_platform(before, after),
        *_origins(was, now),
        *_op(before, after),
        *_contents(was, now, find),
        *_parents(was, now),
    ]
    return [*dict.fromkeys(changes)]


def _platform(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    if "platform" in was and "platform" in now and was["platform"] != now["platform"]:
        yield Difference(
            field="platform",
            was=_platform_text(was["platform"]),
            now=_platform_text(now["platform"]),
        )


def _platform_text(platform: Any) -> str:
    fields = as_object(platform)
    names = [str(fields[name]) for name in ("os", "arch", "variant") if fields.get(name)]
    return "/".join(names)


# --- sources --------------------------------------------------------------------------------------


def _origins(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    """Compare what a source, and sources below, stand for."""
    kind = str(as_object(now.get("op")).get("type"))
    yield from _identity(kind, was, now, "")
    for before, after in _pairs(was, now):
        if before.get("key") != after.get("key"):
            yield from _identity(
                str(after.get("type")), before, after, source_name(str(after.get("name") or ""))
            )


def _identity(
    kind: str, was: Mapping[str, Any], now: Mapping[str, Any], path: str
) -> Iterator[Difference]:
    before, after = was.get("identity"), now.get("identity")
    if before and after and before != after:
        field = _IDENTITIES.get(kind, "url")
        yield Difference(field=field, was=str(before), now=str(after), path=path)


def source_name(name: str) -> str:
    """Return the name of a source as its author wrote it: ``[1/3] FROM a:1@sha256:…`` is ``a:1``."""
    text = name.rpartition("] ")[2] if name.startswith("[") else name
    return text.removeprefix("FROM ").partition("@sha256:")[0]


def _parents(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    """Name inputs that count by key and have another, for which no better reason is known."""
    for before, after in _pairs(was, now):
        if "key" not in before or "key" not in after or before["key"] == after["key"]:
            continue
        if before.get("identity") and after.get("identity"):
            continue
        yield Difference(
            field="parent", was=str(before.get("name") or ""), now=str(after.get("name") or "")
        )


def _pairs(
    was: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    for before, after in zip(as_list(was.get("inputs")), as_list(now.get("inputs")), strict=False):
        yield as_object(before), as_object(after)


# --- contents -------------------------------------------------------------------------------------


def _contents(
    was: Mapping[str, Any], now: Mapping[str, Any], find: FindListing
) -> Iterator[Difference]:
    for before, after in _pairs(was, now):
        old, new = as_list(before.get("content")), as_list(after.get("content"))
        for one, other in zip(old, new, strict=False):
            if one != other:
                yield from _content(str(one), str(other), str(after.get("name") or ""), find)


def _content(was: str, now: str, name: str, find: FindListing) -> Iterator[Difference]:
    before, after = find(was), find(now)
    changes: list[Difference] = []
    if before is not None and after is not None:
        from pybuild.explain.listings import file_differences  # misses are seldom about files

        changes = [
            Difference(field=f"file.{one.what}", was=one.was, now=one.now, path=one.path)
            for one in file_differences(before, after)
        ]
    # Lists that are equal, or too long to be kept, leave the digests to tell.
    yield from changes or [Difference(field="content", was=was, now=now, path=name)]


# --- the op ---------------------------------------------------------------------------------------


def _op(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    for name in sorted({*was, *now} - {"platform", "type"}, key=_order):
        before, after = was.get(name), now.get(name)
        if before == after:
            continue
        match name:
            case "args":
                yield from _command(as_list(before), as_list(after))
            case "env":
                yield from _env(as_list(before), as_list(after))
            case "mounts":
                yield from _mounts(as_list(before), as_list(after))
            case "actions":
                yield from _actions(as_list(before), as_list(after))
            case _:
                yield _plain(name, before, after)


def _order(name: str) -> tuple[int, str]:
    first = ("args", "actions", "env")
    return first.index(name) if name in first else len(first), name


def _plain(name: str, was: Any, now: Any, *, within: str = "", path: str = "") -> Difference:
    field = within + _NAMES.get(name, name)
    return Difference(field=field, was=_text(was), now=_text(now), path=path)


def _command(was: list[Any], now: list[Any]) -> Iterator[Difference]:
    if was[-1:] == now[-1:] and len(was) > 1 and len(now) > 1:
        yield Difference(field="shell", was=_words(was[:-1]), now=_words(now[:-1]))
    elif was[:-1] == now[:-1] and len(was) == 3:
        yield Difference(field="command", was=_text(was[-1]), now=_text(now[-1]))
    else:
        yield Difference(field="command", was=_words(was), now=_words(now))


def _words(args: list[Any]) -> str:
    return _text(" ".join(str(word) for word in args)) or ""


def _env(was: list[Any], now: list[Any]) -> Iterator[Difference]:
    before, after = _variables(was), _variables(now)
    for name in [*after, *(name for name in before if name not in after)]:
        if before.get(name) != after.get(name):
            yield Difference(
                field=f"env.{name}", was=_text(before.get(name)), now=_text(after.get(name))
            )
    if before == after:
        yield Difference(field="env.order", was=", ".join(before), now=", ".join(after))


def _variables(items: list[Any]) -> dict[str, str]:
    split = (str(item).partition("=") for item in items)
    return {name: value for name, _, value in split}


def _mounts(was: list[Any], now: list[Any]) -> Iterator[Difference]:
    before = {_place(as_object(mount)): as_object(mount) for mount in was}
    after = {_place(as_object(mount)): as_object(mount) for mount in now}
    differs = False
    for target in [*after, *(target for target in before if target not in after)]:
        old, new = before.get(target), after.get(target)
        if old is None or new is None:
            yield Difference(
                field="mount.removed" if new is None else "mount.added",
                was=None if old is None else _kind(old),
                now=None if new is None else _kind(new),
                path=target,
            )
            differs = True
            continue
        for name in sorted({*old, *new} - {"input", "selection"}):
            one, other = old.get(name), new.get(name)
            if one != other and name == "type":
                one, other = _kind(old), _kind(new)
            if one != other and name == "value":  # a keyed digest is for nobody to read
                secret = str(new.get("id") or old.get("id"))
                yield Difference(field="secret", path=secret)
                differs = True
            elif one != other:
                yield _plain(name, one, other, within="mount.", path=target)
                differs = True
    if not differs:
        yield Difference(field="mount.order", was=", ".join(before), now=", ".join(after))


def _place(mount: Mapping[str, Any]) -> str:
    """Return where a mount is: of a secret that is no file, its variable."""
    return str(mount.get("target") or f"${mount.get('env')}")


def _kind(mount: Mapping[str, Any]) -> str:
    # The type of a bind is the default and not in the encoding, whose own "type" is then the class.
    kind = str(mount.get("type"))
    return "bind" if kind == "Mount" else kind


def _actions(was: list[Any], now: list[Any]) -> Iterator[Difference]:
    kinds = [[as_object(action).get("type") for action in actions] for actions in (was, now)]
    if kinds[0] != kinds[1]:
        yield Difference(field="command", was=_actions_text(was), now=_actions_text(now))
        return
    for before, after in zip(was, now, strict=True):
        old, new = as_object(before), as_object(after)
        names = {*old, *new} - {"input", "selection", "type"}
        if old.get("source") != new.get("source"):
            names -= _OF_SOURCE
        for name in sorted(names, key=lambda name: (name != "source", name)):
            if old.get(name) == new.get(name):
                continue
            kind = old.get("type")
            if name == "path" and kind == "Mkdir":
                yield _plain("workdir", old.get(name), new.get(name))
            elif name == "mode":
                yield Difference(field="chmod", was=_mode(old.get(name)), now=_mode(new.get(name)))
            else:
                yield _plain(name, old.get(name), new.get(name))


def _actions_text(actions: list[Any]) -> str:
    texts = [
        " ".join(
            str(as_object(action)[name])
            for name in ("type", "source", "path", "dest")
            if name in as_object(action)
        )
        for action in actions
    ]
    return _text("; ".join(texts)) or ""


def _mode(mode: Any) -> str | None:
    return f"{mode:04o}" if isinstance(mode, int) else _text(mode)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    match value:
        case {"user": user, "group": group}:
            text = f"{user}:{group}"
        case {"type": "Owner"}:
            text = f"{value.get('user', '0')}:{value.get('group', '')}".rstrip(":")
        case {"bytes": digest, "size": size}:
            text = f"{size} bytes, {digest}"
        case str():
            text = value
        case [*items] if all(isinstance(item, str) for item in items):
            text = ", ".join(items)
        case _:
            text = json.dumps(value, sort_keys=True)
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"
