"""The images of a store as lists show them: one row a name, with what the config says; and filters [RUN-24]."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime
from typing import Any

from pybuild.cache.space.filters import parse_moment
from pybuild.cache.store import Store
from pybuild.image.attestation import UNKNOWN
from pybuild.image.manifest import BASE_DIGEST, parse_index
from pybuild.image.unpackedsize import unpacked_size
from pybuild.model.amounts import human_age
from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import MANIFEST_TYPES, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import UsageError, UserError
from pybuild.model.filtertext import filter_values
from pybuild.model.jsontext import as_object
from pybuild.model.reference import Reference
from pybuild.model.text import boolean

_FILTERS = (
    *("dangling=true", "label=K[=V]", "reference=PATTERN"),
    *("before=IMAGE", "since=IMAGE", "until=24h"),
)
Filter = Callable[["ImageFacts"], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """One name of an image, or an image without any.

    Attributes:
        name: in full; empty for none.
        descriptor: of what has that name; *image_id* is its config, or itself for an index.
        config: empty for an index of several platforms, and where it is not here.
        size: of its layers as they are sent.
        base: digest of the manifest of the image that it was made of, where it says so.
    """

    name: str
    descriptor: Descriptor
    image_id: Digest
    config: Mapping[str, Any]
    layers: tuple[Descriptor, ...] = field(repr=False)
    size: int
    base: str = ""

    @property
    def reference(self) -> Reference | None:
        return Reference.parse(self.name) if self.name else None

    @property
    def created(self) -> datetime | None:
        """When it was made, by its config; None where that tells no time."""
        return moment(str(self.config.get("created") or ""))

    @property
    def labels(self) -> Mapping[str, Any]:
        return as_object(as_object(self.config.get("config")).get("Labels"))


def moment(text: str) -> datetime | None:
    """Return an RFC 3339 time; one without a zone, as some images have, is UTC."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def list_images(store: Store) -> Iterator[ImageFacts]:
    """Give every name of every image, then the images without one."""
    for names, descriptor in store.images.list():
        for name in names or ("",):
            yield image_facts(store, name, descriptor)


def image_facts(store: Store, name: str, descriptor: Descriptor) -> ImageFacts:
    """Return the facts of an image's manifest and config; few for those that are not here."""
    shown = _only_image(store, descriptor)
    if shown.media_type not in MANIFEST_TYPES or not store.blobs.has(shown.digest):
        return ImageFacts(
            name=name,
            descriptor=descriptor,
            image_id=descriptor.digest,
            config={},
            layers=(),
            size=descriptor.size,
        )
    manifest = json.loads(store.blobs.read(shown.digest))
    layers = tuple(map(Descriptor.from_json, manifest["layers"]))
    image_id = Digest.parse(manifest["config"]["digest"])
    config: dict[str, Any] = {}
    if store.blobs.has(image_id):
        config = as_object(json.loads(store.blobs.read(image_id)))
    return ImageFacts(
        name=name,
        descriptor=descriptor,
        image_id=image_id,
        config=config,
        layers=layers,
        size=sum(layer.size for layer in layers),
        base=str(as_object(manifest.get("annotations")).get(BASE_DIGEST) or ""),
    )


def parent_id(store: Store, facts: ImageFacts) -> str:
    """Return the id of the image that one was made of, "" where that is not said or not here."""
    is_digest = re.fullmatch("sha256:[0-9a-f]{64}", facts.base)  # whoever wrote it may lie
    parent = store.images.resolve(facts.base) if is_digest else None
    return "" if parent is None else str(image_facts(store, "", parent).image_id)


def names_of(store: Store, descriptor: Descriptor) -> list[str]:
    """Return the names of an image in full; none for one without."""
    listed = store.images.list()
    return [name for names, one in listed if one.digest == descriptor.digest for name in names]


def familiar_repository(reference: Reference) -> str:
    """Return the repository as people write it, without ``docker.io`` and ``library``."""
    return Reference(reference.host, reference.path).familiar


def unpacked_bytes(store: Store, layers: Sequence[Descriptor]) -> int | None:
    """Return the bytes that layers are unpacked; None where one of them is not here."""
    sizes = [unpacked_size(store.blobs.path(layer.digest), layer) for layer in layers]
    return None if None in sizes else sum(size or 0 for size in sizes)


def _only_image(store: Store, descriptor: Descriptor) -> Descriptor:
    """The image of an index that has one, beside its attestations; else *descriptor*."""
    if descriptor.media_type in MANIFEST_TYPES or not store.blobs.has(descriptor.digest):
        return descriptor
    children = parse_index(store.blobs.read(descriptor.digest)).manifests
    real = [child for child in children if child.platform != UNKNOWN]
    return real[0] if len(real) == 1 and len(children) > 1 else descriptor


# --- filters --------------------------------------------------------------------------------------


def parse_image_filters(texts: Sequence[str], store: Store) -> Filter:
    """Return a predicate of the images that the filters choose.

    Of ``reference`` and ``label!`` one is enough, as docker has it; of the others all must hold.

    Raises:
        UsageError: an unknown filter or a wrong value; UserError: an image that is not there.
    """
    references: list[Filter] = []
    others: list[Filter] = []
    values = filter_values(texts)
    for key, value in [(name, value) for name in values for value in values[name]]:
        match key:
            case "reference":
                references.append(_reference_filter(value))
            case "dangling" if (dangles := boolean(value.lower())) is not None:
                others.append(_named_filter(not dangles))
            case "label" | "label!":
                others.append(_label_filter(value, key == "label"))
            case "before" | "since":
                others.append(_age_filter(store, value, key == "before"))
            case "until":
                others.append(_until_filter(parse_moment(value, store.clock.now())))
            case _:
                raise UsageError(
                    f'invalid filter "{key}={value}"',
                    hints=[f"known: {', '.join(_FILTERS)}"],
                )
    return lambda one: (
        all(other(one) for other in others)
        and (not references or any(reference(one) for reference in references))
    )


def _named_filter(yes: bool) -> Filter:
    return lambda one: yes == bool(one.name)


def _until_filter(last: float) -> Filter:
    return lambda one: _seconds(one) < last


def _label_filter(value: str, has: bool) -> Filter:
    key, equals, text = value.partition("=")
    return lambda one: has == (key in one.labels and (not equals or one.labels[key] == text))


def _age_filter(store: Store, name: str, before: bool) -> Filter:
    image = store.images.resolve(name)
    if image is None:
        raise UserError(f"no such image: {name}", hints=["pybuild images lists what is there"])
    limit = _seconds(image_facts(store, "", image))
    return lambda one: _seconds(one) < limit if before else _seconds(one) > limit


def _seconds(one: ImageFacts) -> float:
    return one.created.timestamp() if one.created else 0.0


def _reference_filter(pattern: str) -> Filter:
    """Match names as people write them, with or without the tag; ``*`` is no slash."""
    familiar = pattern.removeprefix("docker.io/").removeprefix("library/")
    parts = re.findall(r"\[[^\]]*\]|.", familiar)
    wild = {"*": "[^/]*", "?": "[^/]"}
    text = "".join(p if p[0] == "[" else wild.get(p) or re.escape(p) for p in map(str, parts))
    try:
        whole = re.compile(f"(?:{text})\\Z")
    except re.error as error:
        raise UsageError(f'invalid filter "reference={pattern}": {error}') from error

    def matches(one: ImageFacts) -> bool:
        reference = one.reference
        if reference is None:
            return False
        names = (reference.familiar, familiar_repository(reference))
        return any(whole.match(name) for name in names)

    return matches


def age(created: datetime | None) -> str:
    """Return ``3 minutes ago``; ``N/A`` where no time is known."""
    if created is None:
        return "N/A"
    return human_age((datetime.now(UTC) - created).total_seconds())


def image_named(store: Store, name: str, *, hold: bool = False) -> Descriptor:
    """Return the image called *name*: a reference, an image ID or the start of one.

    Args:
        hold: keep it until *store* is closed, whatever others remove or rename meanwhile.

    Raises:
        UserError: no such image, or several start like this.
    """
    images = store.images
    descriptor = images.held(name, store.lease) if hold else images.resolve(name)
    if descriptor is None:
        raise UserError(f"no such image: {name}", hints=[_near(store, name)])
    return descriptor


def _near(store: Store, name: str) -> str:
    """Return a hint about the images that there are."""
    from pybuild.model.suggest import nearest

    known = [Reference.parse(one).familiar for names, _ in store.images.list() for one in names]
    wished = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
    near = nearest(wished, known)
    return f"did you mean {near}?" if near else "pybuild images lists what is there"
