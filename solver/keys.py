"""Cache keys: the names under which results are stored and found [KEY].

A vertex has one *result key*. It is the *definition key* (the op and its inputs' result keys)
unless the op reads some inputs only in part, as copies and mounts do; then it is the *content
key*: for those inputs the digest of what is really read takes the place of their key. A definition
key of such a vertex still exists and is remembered as an alias of the content key, so that the
next build need not have the files at hand.

Everything here is pure. What counts in which key:

* `definition_part`: the op as written, except what may never count (cache-mount ids, addresses of
  extra hosts, a git remote's spelling once the commit is known).
* `content_part`: the same, but where a path is covered by a content digest its text gives way to
  the number of that digest. Of a copy's source the base name stays, as a name or as a pattern:
  it decides what the result is called [KEY-2]. What a pattern matched is in the digest [KEY-17].
  With ``--parents`` the whole source stays, since its directories appear in the result.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from pybuild.model.contents import ContentDigest
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.encoding import encode_op
from pybuild.model.named import Listing, NamedInputs
from pybuild.model.ops import (
    CacheSharing,
    Copy,
    ExecOp,
    FileOp,
    GitSource,
    HttpSource,
    ImageSource,
    LocalSource,
    Mount,
    MountType,
    OciLayoutSource,
    Op,
    Vertex,
    image_identity,
)
from pybuild.model.secrets import redacted, redacted_variables, without
from pybuild.model.selection import Selection

_MAX_PATTERNS = 500
# Results of before archives were confined to their destination have another name.
_UNPACKED = "confined"

_WHOLE_LOCAL = Selection(path="/", keep_owner=False)


@dataclass(frozen=True, slots=True)
class ByKey:
    """An input that counts by its result key."""

    key: Digest


@dataclass(frozen=True, slots=True)
class ByContent:
    """An input that counts by what its selections hold, in the order of the selections."""

    digests: tuple[ContentDigest, ...]


KeyInput = ByKey | ByContent
ContentInputs = Mapping[int, tuple[Selection, ...]]


def content_inputs(vertex: Vertex) -> dict[int, tuple[Selection, ...]]:
    """Return, per index of an input that counts by content, what the op reads of it.

    Local sources always count by content: they have no other identity. The tree that a file op
    changes and the root of an exec count by key, since digesting them would cost more than it
    could save [KEY-13]; so does a writable mount of a sub-path whose result is kept, because files
    beside the sub-path would leak from a stale result [KEY-18].
    """
    selections: dict[int, tuple[Selection, ...]] = {}
    for index, uses in _uses(vertex).items():
        local = _is_local(vertex.inputs[index])
        if None not in uses:
            selections[index] = tuple(dict.fromkeys(s for s in uses if s is not None))
        elif local:
            selections[index] = (_WHOLE_LOCAL,)
    for index, source in enumerate(vertex.inputs):
        if _is_local(source) and index not in selections:
            selections[index] = (_WHOLE_LOCAL,)
    return dict(sorted(selections.items()))


def _is_local(vertex: Vertex) -> bool:
    return isinstance(vertex.op, LocalSource)


def _uses(vertex: Vertex) -> dict[int, list[Selection | None]]:
    """Return the selections that the uses of each input read; None is a use that needs the key."""
    uses: dict[int, list[Selection | None]] = {}
    match vertex.op:
        case FileOp(actions=actions):
            if vertex.inputs:
                uses[0] = [None]
            for action in actions:
                if isinstance(action, Copy):
                    _check_input(vertex, action.input)
                    uses.setdefault(action.input, []).append(_copied(vertex, action))
        case ExecOp(mounts=mounts):
            for mount in mounts:
                if mount.input is not None:
                    _check_input(vertex, mount.input)
                    uses.setdefault(mount.input, []).append(_mounted(vertex, mount))
        case _:
            pass
    return uses


def _check_input(vertex: Vertex, index: int) -> None:
    if not 0 <= index < len(vertex.inputs):
        raise ValueError(
            f'vertex "{vertex.meta.name}" refers to input {index}, it has {len(vertex.inputs)}'
        )


def _copied(vertex: Vertex, copy: Copy) -> Selection:
    return Selection(
        path=copy.source,
        wildcard=copy.wildcard,
        exclude=copy.exclude,
        follow_links=copy.follow_source_links,
        contents_only=copy.contents_only,
        # Owners that the copy replaces anyway do not count.
        keep_owner=copy.owner is None and not _is_local(vertex.inputs[copy.input]),
        allow_empty=copy.allow_empty,
        parents_pivot=copy.parents_pivot,
    )


def _mounted(vertex: Vertex, mount: Mount) -> Selection | None:
    path = _selector(mount)
    if mount.target == "/" or (mount.output and not mount.readonly and path != "/"):
        return None
    assert mount.input is not None
    return Selection(path=path, keep_owner=not _is_local(vertex.inputs[mount.input]))


def _selector(mount: Mount) -> str:
    return posixpath.normpath("/" + mount.selector.lstrip("/"))


# --- the part of the op ---------------------------------------------------------------------------


def source_identity(op: Op) -> Digest | None:
    """Return a source's identity if its op alone gives it; None where a registry or server must be asked.

    An ``HttpSource`` with a checksum is known; a git ref may move, so it must be asked for.
    """
    match op:
        case ImageSource() | OciLayoutSource():
            return image_identity(op)
        case HttpSource(checksum=Digest() as checksum):
            return checksum
        case _:
            return None


def definition_part(op: Op) -> dict[str, Any]:
    """Return the part of *op* that counts in a definition key, as JSON-able data."""
    match op:
        case ImageSource() | OciLayoutSource():
            # [KEY-3] the same manifest gives the same tree wherever it comes from.
            return {"type": "ImageSource"}
        case HttpSource():
            part = encode_op(op)
            part.pop("checksum", None)  # it is the identity
            part["url"] = _without_userinfo(op.url)  # a record must not tell a password
            return part
        case GitSource():
            part = encode_op(op)
            unseen = ["remote", "checksum", "fetch_by_commit", "bundle"]
            unseen += [] if op.keep_git_dir or op.as_bundle else ["ref"]
            for name in unseen:
                part.pop(name, None)  # [KEY-5] the identity is the commit
            return part
        case ExecOp():
            return _exec_part(op)
        case FileOp(actions=actions):
            part = encode_op(op)
            for action, encoded in zip(actions, part["actions"], strict=True):
                if isinstance(action, Copy) and action.unpack:
                    encoded["unpack"] = _UNPACKED
            return part
        case _:
            return encode_op(op)


def _without_userinfo(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return scheme + mark + host.rpartition("@")[2] + slash + path


def _exec_part(op: ExecOp) -> dict[str, Any]:
    part = encode_op(op)
    part["mounts"] = [
        _mount_part(mount, part) for mount, part in zip(op.mounts, part["mounts"], strict=True)
    ]
    if op.settings.add_hosts:
        part["add_hosts"] = [name for name, _ in op.settings.add_hosts]
    return part


def _mount_part(mount: Mount, part: dict[str, Any]) -> dict[str, Any]:
    if mount.selector != "/":
        part["selector"] = _selector(mount)
    if mount.type is MountType.CACHE:
        # [KEY-1] ids and sharing modes of cache mounts count only as "the default or not": what
        # a cache mount holds never counts, so which one it is should not either.
        _, _, behind_namespace = mount.cache_id.partition("/")
        default_id = mount.cache_id in ("", mount.target) or behind_namespace == mount.target
        part.pop("cache_id", None)
        part.pop("sharing", None)
        if not (default_id and mount.sharing is CacheSharing.SHARED):
            part["own_cache"] = True
    return part


def content_part(vertex: Vertex, content: ContentInputs) -> dict[str, Any]:
    """Return the part of the vertex's op that counts in a content key, given its `content_inputs`."""
    op = vertex.op
    part = definition_part(op)
    match op:
        case FileOp(actions=actions):
            for action, encoded in zip(actions, part["actions"], strict=True):
                if isinstance(action, Copy) and action.input in content:
                    _cover_copy(vertex, action, encoded, content[action.input])
        case ExecOp(mounts=mounts):
            for mount, encoded in zip(mounts, part["mounts"], strict=True):
                if mount.input is not None and mount.input in content:
                    selection = _mounted(vertex, mount)
                    if selection in content[mount.input]:
                        encoded.pop("selector", None)
                        encoded["selection"] = content[mount.input].index(selection)
        case _:
            pass
    return part


def _cover_copy(
    vertex: Vertex, copy: Copy, encoded: dict[str, Any], selections: Sequence[Selection]
) -> None:
    selection = _copied(vertex, copy)
    if selection not in selections:
        return  # the whole tree was digested, so the path has to stay
    encoded["selection"] = selections.index(selection)
    if copy.parents_pivot is None:
        encoded["source"] = posixpath.basename(copy.source)


# --- keys -----------------------------------------------------------------------------------------


def source_key(part: Mapping[str, Any], identity: Digest | None) -> Digest:
    """Return the key of a source that stands for *identity*; only scratch has none.

    Args:
        part: its `definition_part`.
    """
    return Digest.of_json({"key": "source", "op": part, "identity": identity})


def definition_key(part: Mapping[str, Any], inputs: Sequence[Digest]) -> Digest:
    """Return the definition key of the op with this `definition_part` on these result keys."""
    return Digest.of_json({"key": "definition", "op": part, "inputs": list(inputs)})


def content_key(part: Mapping[str, Any], inputs: Sequence[KeyInput]) -> Digest:
    """Return the content key of the op with this `content_part`, one of *inputs* per input."""
    counted = [
        {"key": i.key} if isinstance(i, ByKey) else {"content": [d.digest for d in i.digests]}
        for i in inputs
    ]
    return Digest.of_json({"key": "content", "op": part, "inputs": counted})


@dataclass(frozen=True, slots=True)
class NamedSource:
    """An input of a vertex, as its named inputs tell of it."""

    vertex: Vertex
    identity: Digest | None = None


def named_inputs(
    part: Mapping[str, Any],
    sources: Sequence[NamedSource],
    inputs: Sequence[KeyInput],
    identity: Digest | None = None,
    secrets: Sequence[str] = (),
) -> NamedInputs:
    """Return the parts of a key, by name, to be kept beside the record.

    Args:
        part: the `content_part` or `definition_part` that the key has.
        sources: the vertex's inputs.
        inputs: the keys or contents that they count by; empty where those are not known.
        identity: of the vertex itself, where it is a source.
        secrets: values that are not to be kept in the clear.
    """
    named: dict[str, Any] = {"op": _without_secrets(part, secrets)}
    if identity is not None:
        named["identity"] = identity
    if sources:
        known: Sequence[KeyInput | None] = inputs or [None] * len(sources)
        named["inputs"] = [
            {**_source_facts(source), **_counted(counts)}
            for source, counts in zip(sources, known, strict=True)
        ]
    listings: dict[str, Listing] = {
        counted.digest: counted.entries
        for counts in inputs
        if isinstance(counts, ByContent)
        for counted in counts.digests
        if counted.entries
    }
    return NamedInputs(named, listings)


def _source_facts(source: NamedSource) -> dict[str, Any]:
    op = source.vertex.op
    facts: dict[str, Any] = {"name": redacted(source.vertex.meta.name), "type": type(op).__name__}
    identity = source.identity or source_identity(op)
    if identity is not None:
        facts["identity"] = identity
    if isinstance(op, LocalSource) and op.exclude:
        facts["exclude"] = list(op.exclude[:_MAX_PATTERNS])
    return facts


def _counted(counts: KeyInput | None) -> dict[str, Any]:
    match counts:
        case ByKey(key=key):
            return {"key": key}
        case ByContent(digests=digests):
            return {"content": [counted.digest for counted in digests]}
        case None:
            return {}


def _without_secrets(part: Mapping[str, Any], secrets: Sequence[str]) -> dict[str, Any]:
    shown = dict(part)
    if "env" in shown:
        shown["env"] = redacted_variables(shown["env"])
    redacted_part: dict[str, Any] = without(shown, secrets)
    return redacted_part
