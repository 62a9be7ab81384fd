"""Images in registries as people read them: an image or index, and what refers to it."""

from __future__ import annotations

import json
from typing import Any

from pybuild.exporter.imagetools.copy import survey
from pybuild.exporter.imagetools.place import ImagePlace, place_of
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import UsageError
from pybuild.net.http1.faults import printable
from pybuild.net.tasks import gather
from pybuild.registry.client.client import Client
from pybuild.registry.client.referrers import Referrer


def plain(value: object) -> str:
    return str(value) if isinstance(value, str | int) else json.dumps(value, indent=2)


async def root_of(text: str, client: Client) -> tuple[ImagePlace, Descriptor, bytes]:
    place = place_of(text, client)
    return (place, *await place.root())


def shown_image(place: ImagePlace, root: Descriptor, data: bytes) -> str:
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


async def referrers_of(
    text: str, client: Client
) -> tuple[ImagePlace, dict[Digest, list[Referrer]]]:
    """The referrers of an image or of a part of it, by subject."""
    place = place_of(text, client)
    plan = await survey(place, *await place.root())
    subjects = list(reversed(plan.documents))
    referrers = await gather([place.referrers(subject) for subject in subjects])
    return place, {
        subject: items for subject, items in zip(subjects, referrers, strict=True) if items
    }


def shown_referrers(listed: tuple[ImagePlace, dict[Digest, list[Referrer]]], form: str) -> str:
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
