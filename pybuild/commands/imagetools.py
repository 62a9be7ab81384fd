"""``pybuild imagetools``: looks at, joins, copies and deletes images where they are [CMD-7, CMD-8]."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from pybuild.arguments.environment import platforms_of
from pybuild.cache.store import Store
from pybuild.commandline.parser import Parsed
from pybuild.commands.images import open_store
from pybuild.commands.registryclient import with_client
from pybuild.exporter.annotations import attributes_of, from_attributes
from pybuild.exporter.atomicfile import write_whole
from pybuild.exporter.imagetools.copy import copy_image, copy_parts, survey
from pybuild.exporter.imagetools.create import CreatedIndex, make
from pybuild.exporter.imagetools.facts import facts
from pybuild.exporter.imagetools.place import ImagePlace, place_of
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import UsageError, UserError
from pybuild.model.gotemplate import rendered
from pybuild.model.reference import Reference, is_pinned
from pybuild.net.http1.faults import printable
from pybuild.net.tasks import gather
from pybuild.registry.client.client import Client
from pybuild.registry.client.faults import UnresolvedImage
from pybuild.registry.client.referrers import Referrer


def main(parsed: Parsed) -> int:
    """Run the subcommand of the first word."""
    verb, *words = parsed.positionals
    verbs: dict[str, tuple[Callable[[Parsed, list[str]], int], str, int, int]] = {
        "inspect": (_inspect, "a NAME", 1, 1),
        "create": (_create, "SOURCE…", 0, 1000),
        "copy": (_copy, "SOURCE TARGET…", 2, 1000),
        "rm": (_remove, "NAME:TAG or NAME@DIGEST", 1, 1000),
    }
    if verb not in verbs:
        raise UsageError(f'unknown command "imagetools {verb}": one of {", ".join(verbs)}')
    function, shape, least, most = verbs[verb]
    if not least <= len(words) <= most:
        raise UsageError(
            f'"pybuild imagetools {verb}" expects {shape}, got {len(words)} arguments',
            hints=["pybuild imagetools --help shows how it is written"],
        )
    return function(parsed, words)


def _inspect(parsed: Parsed, words: list[str]) -> int:
    """Show an image; ``--raw`` its document, ``--format`` through a template."""
    if parsed.flag("raw"):
        _, data = with_client(parsed, lambda client: place_of(words[0], client).root())
        sys.stdout.write(data.decode())
        return 0
    template = parsed.one("format")
    if parsed.flag("referrers"):
        listed = with_client(parsed, partial(_referring, words[0]))
        sys.stdout.write(_shown_referrers(listed, template))
        return 0
    if not template:
        place, root, data = with_client(parsed, partial(_looked, words[0]))
        sys.stdout.write(_shown(place, root, data))
        return 0
    described = with_client(parsed, lambda client: facts(place_of(words[0], client)))
    if template == "json":
        sys.stdout.write(json.dumps(described, indent=2) + "\n")
    else:
        sys.stdout.write(rendered(template, described, _plain) + "\n")
    return 0


def _plain(value: object) -> str:
    return str(value) if isinstance(value, str | int) else json.dumps(value, indent=2)


async def _looked(text: str, client: Client) -> tuple[ImagePlace, Descriptor, bytes]:
    place = place_of(text, client)
    return (place, *await place.root())


def _shown(place: ImagePlace, root: Descriptor, data: bytes) -> str:
    lines = [
        f"Name:      {place.name}",
        f"MediaType: {root.media_type}",
        f"Digest:    {root.digest}",
    ]
    body: dict[str, Any] = json.loads(data)
    entries: list[dict[str, Any]] = body.get("manifests") or []
    repository = place.repository or place.name
    if entries:
        lines += ["", "Manifests:"]
    for entry in entries:
        child = Descriptor.from_json(entry)
        lines.append(f"  Name:      {repository}@{child.digest}")
        lines.append(f"  MediaType: {child.media_type}")
        if child.platform is not None:
            lines.append(f"  Platform:  {child.platform}")
        if child.annotations:
            lines.append("  Annotations:")
            lines += [f"    {key}: {value}" for key, value in sorted(child.annotations.items())]
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


async def _referring(text: str, client: Client) -> tuple[ImagePlace, dict[Digest, list[Referrer]]]:
    """The referrers of an image or of a part of it, by subject."""
    place = place_of(text, client)
    plan = await survey(place, *await place.root())
    subjects = list(reversed(plan.documents))
    referrers = await gather([place.referrers(subject) for subject in subjects])
    return place, {
        subject: items for subject, items in zip(subjects, referrers, strict=True) if items
    }


def _shown_referrers(listed: tuple[ImagePlace, dict[Digest, list[Referrer]]], form: str) -> str:
    place, by_subject = listed
    if form == "json":
        body = {
            str(subject): [one.to_json() for one in items] for subject, items in by_subject.items()
        }
        return json.dumps(body, indent=2) + "\n"
    if form:
        raise UsageError(f'format "{form}": referrers are shown as text, or as json')
    lines = [f"Name:      {place.name}", ""]
    for subject, items in by_subject.items():
        lines.append(f"Referrers of {subject}:")
        for one in items:
            lines.append(f"  Digest:       {one.descriptor.digest}")
            lines.append(f"  ArtifactType: {printable(one.artifact_type)}")
            notes = sorted(one.descriptor.annotations.items())
            lines += [f"  {printable(key)}: {printable(value)}" for key, value in notes]
            lines.append("")
    if not by_subject:
        lines.append("Nothing refers to it.")
    return "\n".join(lines).rstrip("\n") + "\n"


def _create(parsed: Parsed, words: list[str]) -> int:
    """Join images to an index under one or more names, or show that index."""
    notes = from_attributes(attributes_of(parsed.many("annotation")))
    platforms = platforms_of(parsed)
    prefer_index = parsed.flag("prefer-index", True)
    names = parsed.many("tag")
    is_dry = parsed.flag("dry-run")
    if not names and not is_dry:
        raise UsageError("a name for the index is needed", hints=["give it with -t"])
    texts = [*words, *_from_files(parsed.many("file"), names)]
    if parsed.flag("append"):
        texts = [*names[:1], *texts]
    if not texts:
        raise UsageError("no sources specified")

    async def work(client: Client) -> CreatedIndex:
        sources = [place_of(text, client) for text in texts]
        made = await make(sources, notes, platforms=platforms, prefer_index=prefer_index)
        if not is_dry:
            with open_store(parsed) as store, store.view() as view:
                targets = [place_of(name, client) for name in names]
                await gather([_put(made, target, view) for target in targets])
        return made

    made = with_client(parsed, work)
    if is_dry:
        sys.stdout.write(json.dumps(json.loads(made.data), indent=2) + "\n")
        return 0
    for name in names:
        sys.stdout.write(f"{name}@{made.descriptor.digest}\n")
    _write_metadata(parsed.one("metadata-file"), made, names)
    return 0


async def _put(made: CreatedIndex, target: ImagePlace, store: Store) -> None:
    for part in made.parts:
        await copy_parts(part.source, target, part.plan, store, _no_progress)
        for descriptor, data in list(part.plan.documents.values())[-1:]:
            if descriptor.digest != made.descriptor.digest:
                await target.keep(descriptor, data, named=False)
    await target.keep(made.descriptor, made.data, named=True)


def _copy(parsed: Parsed, words: list[str]) -> int:
    """Copy an image to other names, with all platforms or only that of ``--platform``."""
    source, *targets = words
    platforms = platforms_of(parsed)
    if len(platforms) > 1:
        raise UsageError(
            "copy takes one platform, or all", hints=["imagetools create takes several"]
        )

    async def work(client: Client) -> Descriptor:
        with open_store(parsed) as store, store.view() as view:
            return await copy_image(
                place_of(source, client),
                [place_of(target, client) for target in targets],
                view,
                _no_progress,
                platform=platforms[0] if platforms else None,
                referrers=parsed.flag("referrers"),
            )

    copied = with_client(parsed, work)
    for target in targets:
        sys.stdout.write(f"{target}@{copied.digest}\n")
    return 0


def _remove(parsed: Parsed, words: list[str]) -> int:
    """Delete tags, and manifests by their digests, from their registries."""
    references: list[Reference] = []
    for text in words:
        try:
            reference = Reference.parse(text)
        except ValueError as error:
            raise UsageError(str(error)) from error
        if not is_pinned(text):
            raise UsageError(f'"{text}": a tag or a digest is needed', hints=[f"{text}:latest?"])
        references.append(reference)

    async def work(client: Client) -> None:
        for reference in references:
            try:
                await client.delete(reference)
            except UnresolvedImage:
                if not parsed.flag("force"):
                    raise
            else:
                sys.stdout.write(f"Deleted: {reference}\n")

    with_client(parsed, work)
    return 0


def _from_files(files: list[str], names: list[str]) -> list[str]:
    """Sources that files describe: a descriptor each, of the repository that the index goes to.

    Raises:
        UserError: a file that is no descriptor.
    """
    sources: list[str] = []
    for file in files:
        try:
            with open(file, "rb") as stream:
                descriptor = Descriptor.from_json(json.loads(stream.read(1 << 20)))
        except OSError as error:
            raise UserError(f"open {file}: {(error.strerror or str(error)).lower()}") from error
        except ValueError as error:
            raise UserError(f"{file} is no descriptor: {error}") from error
        if not names:
            raise UsageError(f"{file} names a digest only: the repository comes from -t")
        try:
            repository = Reference.parse(names[0]).repository
        except ValueError as error:
            raise UsageError(str(error)) from error
        sources.append(f"{repository}@{descriptor.digest}")
    return sources


def _write_metadata(file: str, made: CreatedIndex, names: list[str]) -> None:
    if file:
        body = {
            "containerimage.descriptor": made.descriptor.to_json(),
            "containerimage.digest": str(made.descriptor.digest),
            "image.name": ",".join(names),
        }
        write_whole(file, json.dumps(body, indent=2) + "\n")


def _no_progress(_id: str, _current: int, _total: int) -> None:
    """Print the names of a finished copy."""
