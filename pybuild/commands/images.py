"""``pybuild images``, ``inspect``, ``tag`` and ``rmi``: the local image store."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO

from pybuild.cache.store import Store
from pybuild.commandline.parser import Parsed
from pybuild.engine.host import SystemClock, native_platform, platforms_from
from pybuild.engine.settings import load_settings
from pybuild.image.attestation import UNKNOWN
from pybuild.image.manifest import parse_config, parse_index, resolve
from pybuild.model.amounts import human_bytes
from pybuild.model.descriptor import MANIFEST_TYPES, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import UsageError, UserError
from pybuild.model.printable import printable
from pybuild.model.reference import Reference


def open_store(parsed: Parsed, *, to_read: bool = False) -> Store:
    """The store that the options, the environment or the configuration file name.

    Args:
        to_read: nothing in it is to change; see `Store.open`.
    """
    settings = load_settings(parsed.one("config"), parsed.one("root"))
    return Store.open(settings.root, SystemClock(), to_read=to_read)


def find(store: Store, name: str, *, hold: bool = False) -> Descriptor:
    """Return the image called *name*: a reference, an image ID or the start of one.

    Args:
        hold: keep it until *store* is closed, whatever others remove or rename meanwhile.

    Raises:
        UserError: no such image, or several start like this.
    """
    images = store.images
    descriptor = images.held(name, store.lease) if hold else images.resolve(name)
    if descriptor is None:
        raise UserError(f"no such image: {name}", hints=["pybuild images lists what is there"])
    return descriptor


def images(parsed: Parsed) -> int:
    """List images: name, tag, ID, age, size."""
    with open_store(parsed, to_read=True) as store:
        rows = [row for name, descriptor in _flat(store) if (row := _row(store, name, descriptor))]
        if parsed.positionals:
            reference = parse_reference(parsed.positionals[0])
            rows = [row for row in rows if row["repository"] == reference.repository]
    if parsed.one("format") == "json":
        sys.stdout.write("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))
        return 0
    short = not parsed.flag("no-trunc")
    if parsed.flag("quiet"):
        ids = dict.fromkeys(_shown_id(row, short) for row in rows)
        sys.stdout.write("".join(f"{image_id}\n" for image_id in ids))
        return 0
    head = ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]
    body = [
        [
            _familiar(row),
            row["tag"] or "<none>",
            _shown_id(row, short),
            row["age"],
            row["shown_size"],
        ]
        for row in rows
    ]
    if parsed.flag("digests"):
        head.insert(2, "DIGEST")
        for line, row in zip(body, rows, strict=True):
            line.insert(2, row["digest"])
    sys.stdout.write(table([head, *body]))
    return 0


def inspect(parsed: Parsed) -> int:
    """Print an image's manifest, config and layers; with ``--check`` recompute everything."""
    with open_store(parsed, to_read=True) as store:
        descriptor = find(store, parsed.positionals[0])
        data = store.blobs.read(descriptor.digest)
        if parsed.flag("raw"):
            sys.stdout.write(data.decode())
            return 0
        if parsed.flag("check"):
            from pybuild.image.validate import validate_image

            def open_blob(digest: Digest) -> BinaryIO:
                return open(store.blobs.path(digest), "rb")

            problems = validate_image(open_blob, descriptor)
            for problem in problems:
                sys.stderr.write(f"error: {problem}\n")
            if not problems:
                sys.stdout.write(f"{descriptor.digest}: every digest, diffID and size is right\n")
            return 1 if problems else 0
        manifest = json.loads(data)
        shown: dict[str, Any] = {"descriptor": descriptor.to_json(), "manifest": manifest}
        names = [name for name, held in _flat(store) if held.digest == descriptor.digest and name]
        shown["names"] = names
        if "config" in manifest:
            shown["config"] = json.loads(
                store.blobs.read(Digest.parse(manifest["config"]["digest"]))
            )
    sys.stdout.write(json.dumps(shown, indent=2) + "\n")
    return 0


def history(parsed: Parsed) -> int:
    """Show how an image came about, newest step first [RUN-24]; sizes are those of the layers' blobs."""
    with open_store(parsed, to_read=True) as store:
        image = find(store, parsed.positionals[0])
        platforms = platforms_from(parsed.one("platform"))
        platform = platforms[0] if platforms else native_platform()
        _, document = resolve(image, lambda one: store.blobs.read(one.digest), platform)
        config = parse_config(store.blobs.read(document.config.digest))
    sizes = iter([layer.size for layer in document.layers])
    rows: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = config.get("history") or []
    for entry in entries:
        is_empty = bool(entry.get("empty_layer"))
        rows.append(
            {
                "id": "<missing>",
                "created": str(entry.get("created") or ""),
                "created_by": str(entry.get("created_by") or ""),
                "size": 0 if is_empty else next(sizes, 0),
                "comment": str(entry.get("comment") or ""),
            }
        )
    rows.reverse()
    if rows:
        rows[0]["id"] = str(document.config.digest)
    if parsed.one("format") == "json":
        sys.stdout.write("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))
        return 0
    if parsed.flag("quiet"):
        sys.stdout.write("".join(f"{row['id']}\n" for row in rows))
        return 0
    whole = parsed.flag("no-trunc")
    body = [
        [
            row["id"] if whole or row["id"] == "<missing>" else Digest(row["id"]).short,
            age(row["created"]),
            row["created_by"] if whole else _shortened(row["created_by"], 45),
            human_bytes(row["size"]) if row["size"] else "0B",
            row["comment"],
        ]
        for row in rows
    ]
    sys.stdout.write(table([["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"], *body]))
    return 0


def _shortened(text: str, width: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def tag(parsed: Parsed) -> int:
    """Give an image one more name."""
    source, name = parsed.positionals
    reference = parse_reference(name)
    with open_store(parsed) as store:
        store.images.tag(str(reference), find(store, source, hold=True))
    return 0


def rmi(parsed: Parsed) -> int:
    """Remove names; an ID removes all names of its image. ``prune`` frees their space."""
    with open_store(parsed) as store:
        for name in parsed.positionals:
            try:
                descriptor = find(store, name)
            except UserError:
                if parsed.flag("force"):
                    continue
                raise
            if _isparse_reference(name) and store.images.untag(name) is not None:
                sys.stdout.write(f"Untagged: {Reference.parse(name)}\n")
                continue
            for held in store.images.remove(descriptor.digest):
                sys.stdout.write(f"Untagged: {held}\n")
            sys.stdout.write(f"Deleted: {descriptor.digest}\n")
    return 0


def _isparse_reference(name: str) -> bool:
    try:
        Reference.parse(name)
    except ValueError:
        return False
    return True


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns, three spaces apart, one line a row."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ["   ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return "".join(line.rstrip() + "\n" for line in lines)


def parse_reference(text: str) -> Reference:
    """Read a name that somebody typed.

    Raises:
        UsageError: it is none.
    """
    try:
        return Reference.parse(text)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _flat(store: Store) -> list[tuple[str, Descriptor]]:
    """``(name, descriptor)``, the name empty for an image without one."""
    rows: list[tuple[str, Descriptor]] = []
    for names, descriptor in store.images.list():
        rows += [(name, descriptor) for name in names] or [("", descriptor)]
    return rows


def _row(store: Store, name: str, descriptor: Descriptor) -> dict[str, Any]:
    reference = Reference.parse(name) if name else None
    size, created = descriptor.size, ""
    image_id = descriptor.digest
    shown = _only_image(store, descriptor)
    if shown.media_type in MANIFEST_TYPES and store.blobs.has(shown.digest):
        manifest = json.loads(store.blobs.read(shown.digest))
        size = sum(int(layer["size"]) for layer in manifest["layers"])
        image_id = Digest.parse(manifest["config"]["digest"])
        if store.blobs.has(image_id):
            created = str(json.loads(store.blobs.read(image_id)).get("created") or "")
    return {
        "repository": reference.repository if reference else "<none>",
        "tag": (reference.tag or "") if reference else "",
        "id": image_id,
        "digest": descriptor.digest,
        "created": created,
        "age": age(created),
        "size": size,
        "shown_size": human_bytes(size),
    }


def _only_image(store: Store, descriptor: Descriptor) -> Descriptor:
    """The image of an index that has one, beside its attestations; else *descriptor*."""
    if descriptor.media_type in MANIFEST_TYPES or not store.blobs.has(descriptor.digest):
        return descriptor
    children = parse_index(store.blobs.read(descriptor.digest)).manifests
    real = [child for child in children if child.platform != UNKNOWN]
    return real[0] if len(real) == 1 and len(children) > 1 else descriptor


def _familiar(row: dict[str, Any]) -> str:
    repository = str(row["repository"])
    return repository.removeprefix("docker.io/library/").removeprefix("docker.io/")


def _shown_id(row: dict[str, Any], short: bool) -> str:
    digest = Digest(row["id"])
    return digest.short if short else str(digest)


def age(created: str) -> str:
    """``3 minutes ago`` from an RFC 3339 time; ``N/A`` when there is none."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return "N/A"
    if moment.tzinfo is None:  # others' images have whatever time they were given
        moment = moment.replace(tzinfo=UTC)
    seconds = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    for unit, length in (
        ("year", 31_536_000),
        ("month", 2_592_000),
        ("week", 604_800),
        ("day", 86_400),
        ("hour", 3600),
        ("minute", 60),
    ):
        count = int(seconds // length)
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    count = int(seconds)
    return f"{count} second{'' if count == 1 else 's'} ago"
