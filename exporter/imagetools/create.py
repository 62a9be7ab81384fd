"""Makes an index of images that are already somewhere, as fleets of builders need it [CMD-7]."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from pybuild.cache.store import Store
from pybuild.exporter.annotations import (
    AnnotationPlace,
    Annotations,
)
from pybuild.exporter.atomicfile import write_whole
from pybuild.exporter.imagetools.copy import Plan, copy_parts, survey
from pybuild.exporter.imagetools.place import ImagePlace
from pybuild.image.attestation import REFERENCE_DIGEST
from pybuild.image.manifest import Index, Manifest, build_index, parse_config, parse_manifest
from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import (
    DOCKER_INDEX,
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_INDEX,
    Descriptor,
)
from pybuild.model.digest import Digest
from pybuild.model.errors import UsageError, UserError
from pybuild.model.platform import Platform
from pybuild.model.reference import parse_reference


@dataclass(frozen=True, slots=True)
class IndexPart:
    """One entry of the index to be, with all that it is made of and where that is."""

    entry: Descriptor
    source: ImagePlace
    plan: Plan


@dataclass(frozen=True, slots=True)
class CreatedIndex:
    """The index, or the one document that is copied as it is, and its parts."""

    descriptor: Descriptor
    data: bytes
    parts: tuple[IndexPart, ...]


async def parts_of(source: ImagePlace) -> tuple[Descriptor, bytes, list[IndexPart]]:
    """Return the document that *source* names, and its entries; an index brings its own."""
    root, data = await source.root()
    document = parse_manifest(data, root.media_type)
    if isinstance(document, Index):
        parts: list[IndexPart] = []
        for child in document.manifests:
            below = await source.document(child)
            parts.append(IndexPart(child, source, await survey(source, child, below)))
        return root, data, parts
    entry = replace(root, annotations={}, platform=await _platform(source, document))
    return root, data, [IndexPart(entry, source, await survey(source, entry, data))]


async def _platform(source: ImagePlace, manifest: Manifest) -> Platform | None:
    """The platform in an image's config; None for an artifact."""
    if not manifest.config.media_type.endswith(("image.config.v1+json", "container.image.v1+json")):
        return None
    return Platform.from_json(parse_config(await source.document(manifest.config)))


async def make(
    sources: Sequence[ImagePlace],
    notes: Annotations,
    *,
    platforms: Sequence[Platform] = (),
    prefer_index: bool = True,
) -> CreatedIndex:
    """Join *sources* in their order; an entry for a platform replaces an earlier one for it.

    Args:
        notes: for the index, and for the descriptors in it.
        platforms: only these, with their attestations.
        prefer_index: one image alone gets an index, too; an index alone is kept as it is.

    Raises:
        UsageError: an annotation that would change an image. UserError: nothing is left.
    """
    for item in notes.items:
        if item.place is AnnotationPlace.MANIFEST:
            raise UsageError(
                f"annotation {item.key}: an image that exists cannot be changed",
                hints=["annotate the index, or the manifest-descriptor"],
            )
    surveyed = [await parts_of(source) for source in sources]
    if len(surveyed) == 1 and not notes.items and not platforms:
        root, data, parts = surveyed[0]
        if root.media_type in INDEX_TYPES or not prefer_index:
            plain = replace(root, annotations={})
            return CreatedIndex(plain, data, tuple(parts))
    parts = _chosen(_joined([part for _, _, parts in surveyed for part in parts]), platforms)
    if not parts:
        raise UserError("no image for these platforms")
    entries = [_annotated(part.entry, notes) for part in parts]
    only_docker = all("docker" in entry.media_type for entry in entries) and not notes.items
    media_type = DOCKER_INDEX if only_docker else OCI_INDEX
    data = build_index(entries, media_type, annotations=notes.of(AnnotationPlace.INDEX))
    descriptor = Descriptor(
        media_type, Digest.of(data), len(data), notes.of(AnnotationPlace.INDEX_DESCRIPTOR)
    )
    return CreatedIndex(descriptor, data, tuple(parts))


def _joined(parts: Sequence[IndexPart]) -> list[IndexPart]:
    """Each digest once, each platform once, the last of them; attestations go with their image."""
    last: dict[Platform, Digest] = {}
    for part in parts:
        if part.entry.platform is not None and not _is_about(part.entry):
            last[part.entry.platform] = part.entry.digest
    replaced = {
        part.entry.digest
        for part in parts
        if (platform := part.entry.platform) is not None
        and not _is_about(part.entry)
        and last[platform] != part.entry.digest
    }
    kept: dict[Digest, IndexPart] = {}
    for part in parts:
        if part.entry.digest not in replaced and _is_about(part.entry) not in replaced:
            kept.setdefault(part.entry.digest, part)
    return list(kept.values())


def _chosen(parts: Sequence[IndexPart], platforms: Sequence[Platform]) -> list[IndexPart]:
    if not platforms:
        return list(parts)
    images = {p.entry.digest for p in parts if p.entry.platform in platforms}
    return [p for p in parts if p.entry.digest in images or _is_about(p.entry) in images]


def _is_about(entry: Descriptor) -> str:
    """The digest of the image that an attestation is about; empty for an image."""
    return entry.annotations.get(REFERENCE_DIGEST, "")


def _annotated(entry: Descriptor, notes: Annotations) -> Descriptor:
    if entry.media_type not in MANIFEST_TYPES or _is_about(entry):
        return entry
    more = notes.of(AnnotationPlace.MANIFEST_DESCRIPTOR, entry.platform)
    return replace(entry, annotations={**entry.annotations, **more}) if more else entry


async def put_index(made: CreatedIndex, target: ImagePlace, store: Store) -> None:
    for part in made.parts:
        await copy_parts(part.source, target, part.plan, store, no_progress)
        for descriptor, data in list(part.plan.documents.values())[-1:]:
            if descriptor.digest != made.descriptor.digest:
                await target.keep(descriptor, data, named=False)
    await target.keep(made.descriptor, made.data, named=True)


def sources_of_files(files: list[str], names: list[str]) -> list[str]:
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
        repository = parse_reference(names[0]).repository
        sources.append(f"{repository}@{descriptor.digest}")
    return sources


def write_metadata(file: str, made: CreatedIndex, names: list[str]) -> None:
    if file:
        body = {
            "containerimage.descriptor": made.descriptor.to_json(),
            "containerimage.digest": str(made.descriptor.digest),
            "image.name": ",".join(names),
        }
        write_whole(file, json.dumps(body, indent=2) + "\n")


def no_progress(_id: str, _current: int, _total: int) -> None:
    """Print the names of a finished copy."""
