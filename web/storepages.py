"""The pages of the store: its images, the steps of one of them, and its containers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from pybuild.cache.content.imagelist import ImageFacts, list_images
from pybuild.cache.store import Store
from pybuild.containers.listing import rows_of
from pybuild.engine.host import native_platform
from pybuild.exporter.docker.rows import history_rows, image_row
from pybuild.history.markup import as_text
from pybuild.model.errors import PybuildError
from pybuild.web.access import PageRefusal
from pybuild.web.frame import framed

_IMAGES = (
    ("Repository", "repository"),
    ("Tag", "tag"),
    ("ID", "image"),
    ("CreatedSince", "created"),
    ("CompressedSize", "compressed"),
)
_STEPS = (
    ("CreatedBy", "made by"),
    ("CreatedSince", "created"),
    ("Size", "size"),
    ("CompressedSize", "compressed"),
    ("Comment", "comment"),
)
_CONTAINERS = (
    ("Names", "container"),
    ("Image", "image"),
    ("Status", "status"),
    ("Ports", "ports"),
    ("Networks", "networks"),
    ("Command", "command"),
)
_RIGHT = ("Size", "CompressedSize")
_LATER = ("CreatedSince", "Comment", "Networks", "Command")
"""Columns that a narrow page leaves out."""
_WIDE = ("Repository", "CreatedBy", "Names")


def images_page(store: Store) -> str:
    """Return the page of all images."""
    rows = [_image_row(store, one) for one in list_images(store)]
    return framed("Images", _listed("Images", _IMAGES, rows, "There is no image here yet."))


def image_page(store: Store, digest: str) -> str:
    """Return the page of one image: its names, its config, its steps with the sizes of their layers.

    Args:
        digest: of its manifest or index, the hexadecimal part.

    Raises:
        PageRefusal: there is none of that digest.
    """
    known = [one for one in list_images(store) if one.descriptor.digest.hex == digest]
    if not known:
        raise PageRefusal(404, "no image of that digest is here")
    names = [one.reference.familiar for one in known if one.reference is not None]
    title = ", ".join(names) or known[0].descriptor.digest.short
    parts = [f"<h1>{as_text(title)}</h1>", *_facts(known[0]), "<h2>Steps</h2>"]
    try:
        rows, _ = history_rows(
            store, known[0].descriptor, native_platform(), whole=True, has_whole_ids=True
        )
        parts.append(
            _table(_STEPS, [{name: as_text(str(row[name])) for name, _ in _STEPS} for row in rows])
        )
    except (PybuildError, OSError) as error:
        parts.append(f'<p class="soft">{as_text(str(error))}</p>')
    return framed(f"image {title}", "\n".join(parts))


def containers_page(store: Store) -> str:
    """Return the page of all containers, the newest first."""
    containers = rows_of(store, (), all=True, last=-1, sized=False, whole=False)
    rows = [{name: as_text(str(row[name])) for name, _ in _CONTAINERS} for row in containers]
    return framed(
        "Containers", _listed("Containers", _CONTAINERS, rows, "There is no container here.")
    )


def _image_row(store: Store, one: ImageFacts) -> Mapping[str, str]:
    row = {name: as_text(str(value)) for name, value in image_row(store, one, False, False).items()}
    link = f'<a href="/images/{one.descriptor.digest.hex}">{row["ID"]}</a>'
    return {**row, "ID": link}


def _facts(one: ImageFacts) -> Iterator[str]:
    config: Mapping[str, Any] = one.config
    given: object = config.get("config")
    settings: Mapping[str, Any] = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
    facts = (
        ("Digest", one.descriptor.digest),
        ("Image", one.image_id),
        ("Platform", "/".join(str(config[key]) for key in ("os", "architecture", "variant") if config.get(key))),
        ("Created", config.get("created") or ""),
        ("Entrypoint", _words(settings.get("Entrypoint"))),
        ("Command", _words(settings.get("Cmd"))),
        ("User", settings.get("User") or ""),
        ("Directory", settings.get("WorkingDir") or ""),
        ("Labels", ", ".join(f"{name}={value}" for name, value in sorted(one.labels.items()))),
        ("Made of", one.base),
    )  # fmt: skip
    yield '<dl class="facts">'
    for name, value in facts:
        if value:
            yield f"<dt>{name}</dt><dd>{as_text(str(value))}</dd>"
    yield "</dl>"


def _words(value: object) -> str:
    """Return a list of words as JSON has it, which tells where each one ends."""
    return json.dumps(value, ensure_ascii=False) if value else ""


def _listed(
    title: str,
    columns: Sequence[tuple[str, str]],
    rows: Sequence[Mapping[str, str]],
    empty: str,
) -> str:
    return f"<h1>{title}</h1>\n" + (_table(columns, rows) if rows else f"<p>{empty}</p>")


def _table(columns: Sequence[tuple[str, str]], rows: Iterable[Mapping[str, str]]) -> str:
    """Return a table; the cells are markup."""
    head = "".join(f'<th scope="col"{_kind(name)}>{title}</th>' for name, title in columns)
    lines = (
        "<tr>" + "".join(f"<td{_kind(name)}>{row[name]}</td>" for name, _ in columns) + "</tr>"
        for row in rows
    )
    body = "\n".join(lines)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def _kind(column: str) -> str:
    kinds = [("number", _RIGHT), ("more", _LATER), ("name", _WIDE)]
    names = " ".join(kind for kind, columns in kinds if column in columns)
    return f' class="{names}"' if names else ""
