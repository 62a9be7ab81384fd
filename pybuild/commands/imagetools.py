"""``pybuild imagetools``: looks at, joins, copies and deletes images where they are [CMD-7, CMD-8]."""

from __future__ import annotations

import json
import sys
from functools import partial

from pybuild.arguments.environment import platforms_of
from pybuild.commandline.parser import Parsed
from pybuild.commands.localstore import open_store
from pybuild.commands.registryclient import with_client
from pybuild.commands.several import Verb, run_verb
from pybuild.exporter.annotations import attributes_of, from_attributes
from pybuild.exporter.imagetools.copy import copy_image
from pybuild.exporter.imagetools.create import (
    CreatedIndex,
    make,
    no_progress,
    put_index,
    sources_of_files,
    write_metadata,
)
from pybuild.exporter.imagetools.facts import facts
from pybuild.exporter.imagetools.place import place_of
from pybuild.exporter.imagetools.shown import (
    plain,
    referrers_of,
    root_of,
    shown_image,
    shown_referrers,
)
from pybuild.model.descriptor import Descriptor
from pybuild.model.errors import UsageError
from pybuild.model.gotemplate import rendered
from pybuild.model.reference import Reference, is_pinned, parse_reference
from pybuild.net.tasks import gather
from pybuild.registry.client.client import Client
from pybuild.registry.client.faults import UnresolvedImage


def main(parsed: Parsed) -> int:
    """Run the subcommand of the first word."""
    verbs: dict[str, Verb] = {
        "inspect": (_inspect, "a NAME", 1, 1),
        "create": (_create, "SOURCE…", 0, 1000),
        "copy": (_copy, "SOURCE TARGET…", 2, 1000),
        "rm": (_remove, "NAME:TAG or NAME@DIGEST", 1, 1000),
    }
    return run_verb(parsed, "imagetools", verbs, parsed.positionals)


def _inspect(parsed: Parsed, words: list[str]) -> int:
    """Show an image; ``--raw`` its document, ``--format`` through a template."""
    if parsed.flag("raw"):
        _, data = with_client(parsed, lambda client: place_of(words[0], client).root())
        sys.stdout.write(data.decode())
        return 0
    template = parsed.one("format")
    if parsed.flag("referrers"):
        listed = with_client(parsed, partial(referrers_of, words[0]))
        sys.stdout.write(shown_referrers(listed, template))
        return 0
    if not template:
        place, root, data = with_client(parsed, partial(root_of, words[0]))
        sys.stdout.write(shown_image(place, root, data))
        return 0
    described = with_client(parsed, lambda client: facts(place_of(words[0], client)))
    if template == "json":
        sys.stdout.write(json.dumps(described, indent=2) + "\n")
    else:
        sys.stdout.write(rendered(template, described, plain) + "\n")
    return 0


def _create(parsed: Parsed, words: list[str]) -> int:
    """Join images to an index under one or more names, or show that index."""
    notes = from_attributes(attributes_of(parsed.many("annotation")))
    platforms = platforms_of(parsed)
    prefer_index = parsed.flag("prefer-index", True)
    names = parsed.many("tag")
    is_dry = parsed.flag("dry-run")
    if not names and not is_dry:
        raise UsageError("a name for the index is needed", hints=["give it with -t"])
    texts = [*words, *sources_of_files(parsed.many("file"), names)]
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
                await gather([put_index(made, target, view) for target in targets])
        return made

    made = with_client(parsed, work)
    if is_dry:
        sys.stdout.write(json.dumps(json.loads(made.data), indent=2) + "\n")
        return 0
    for name in names:
        sys.stdout.write(f"{name}@{made.descriptor.digest}\n")
    write_metadata(parsed.one("metadata-file"), made, names)
    return 0


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
                no_progress,
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
        reference = parse_reference(text)
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
