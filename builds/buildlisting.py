"""Builds of the history in docker's words: a row of a list, and a page."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from pybuild.builds.builddocument import document_of, rfc3339
from pybuild.builds.buildrecord import BuildRecord, BuildStatus
from pybuild.model.amounts import human_age, human_duration
from pybuild.model.listing import table
from pybuild.model.printable import printable

NAME_WIDTH = 36


def row_of(record: BuildRecord, width: int) -> dict[str, Any]:
    """Return a build's fields by docker's names for them."""
    name, now = record.name, time.time()
    is_running = record.seconds is None
    return {
        "CreatedAt": human_age(now - record.at),
        "Duration": human_duration(now - record.at if is_running else record.seconds or 0.0)
        + ("+" if is_running else ""),
        "Name": name if len(name) <= width else f"..{name[2 - width :]}",
        "Ref": record.id,
        "Status": record.status.capitalize(),
    }


def facts_of(record: BuildRecord) -> dict[str, Any]:
    """Return the fields that programs get beside those of the table."""
    return {
        "ref": record.id,
        "name": record.name,
        "status": record.status.capitalize(),
        "created_at": rfc3339(record.at),
        **({} if record.seconds is None else {"completed_at": rfc3339(record.at + record.seconds)}),
        "total_steps": record.total,
        "completed_steps": record.completed,
        "cached_steps": record.cached,
    }


def page_of(record: BuildRecord) -> str:
    document = document_of(record)
    percent = 100 * record.cached / record.total if record.total else 0.0
    took = document["Duration"] / 1e9
    running = " (running)" if record.seconds is None else ""
    blocks: list[list[tuple[str, str]]] = [
        [
            ("Name", record.name),
            ("Ref", record.id),
            ("Context", record.context),
            ("Dockerfile", record.dockerfile),
            ("VCS Repository", document["VCSRepository"]),
            ("VCS Revision", document["VCSRevision"]),
            ("Target", record.target),
            ("Platforms", ", ".join(document["Platform"])),
        ],
        [
            ("Started", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.at))),
            ("Duration", human_duration(took) + running),
            ("Status", "Canceled" if record.status is BuildStatus.CANCELED else ""),
            ("Error", record.error),
            ("Build Steps", f"{record.completed}/{record.total} ({percent:.0f}% cached)"),
        ],
        [
            ("No Cache", "true" if document["Config"]["NoCache"] else ""),
            ("No Cache Filter", ", ".join(document["Config"]["NoCacheFilter"])),
            *((row["Name"], row["Value"]) for row in document["Config"]["RestRaw"]),
        ],
        [
            *(("Image", digest) for digest in record.images),
            ("Image ID", record.image_id),
            ("Names", ", ".join(record.names)),
        ],
    ]
    parts = [_block(block) for block in blocks]
    for title, name in (
        ("NAMED CONTEXT", "NamedContexts"),
        ("BUILD ARG", "BuildArgs"),
        ("LABEL", "Labels"),
    ):
        if rows := document[name]:
            cells = [[title, "VALUE"], *([row["Name"], row["Value"]] for row in rows)]
            parts.append(table(cells))
    if record.log:
        lines = [f"> {printable(line)}\n" for line in record.log]
        parts.append(f"Logs:\n> => {printable(record.step)}:\n" + "".join(lines))
    parts.append(f"Print build logs: pybuild history logs {record.id}\n")
    return "\n".join(part for part in parts if part)


def _block(rows: Iterable[tuple[str, str]]) -> str:
    shown = [(f"{name}:", printable(" ".join(value.split()))) for name, value in rows if value]
    width = max((len(name) for name, _ in shown), default=0)
    return "".join(f"{name:<{width}} {value}\n" for name, value in shown)
