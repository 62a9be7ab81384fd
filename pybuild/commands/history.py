"""``pybuild history``: the builds of this machine, or of a build server, with their logs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pybuild.builds.builddocument import document_of, rfc3339
from pybuild.builds.buildfilters import parse_build_filters
from pybuild.builds.buildrecord import BuildRecord, BuildStatus, find_record
from pybuild.commandline.parser import Parsed
from pybuild.commands.listing import show_list, table
from pybuild.model.amounts import human_age, human_duration
from pybuild.model.errors import UsageError, UserError
from pybuild.model.events import Event, VertexFailed
from pybuild.model.gotemplate import rendered
from pybuild.model.printable import printable
from pybuild.progress.plain import PlainDisplay
from pybuild.progress.rawjson import RawJsonDisplay

if TYPE_CHECKING:
    from pybuild.builds.builder import Builder

_TITLES = {
    "Ref": "BUILD ID",
    "Name": "NAME",
    "Status": "STATUS",
    "CreatedAt": "CREATED AT",
    "Duration": "DURATION",
}
_NAME_WIDTH = 36


def ls(parsed: Parsed, builder: Builder) -> int:
    """List builds, those that go on first, then the latest first."""
    matches = parse_build_filters(parsed.many("filter"), time.time())
    records = [record for record in builder.builds() if matches(record)]
    records.sort(key=lambda record: record.status is not BuildStatus.RUNNING)
    form = parsed.one("format")
    if parsed.flag("quiet"):
        form = "{{.Ref}}"
    is_table = form in ("", "table") or form.startswith("table ")
    width = _NAME_WIDTH if is_table and not parsed.flag("no-trunc") else sys.maxsize
    rows = [_row(record, width) for record in records]
    show_list(form, rows, _TITLES, list(_TITLES), map(_exact, records))
    return 0


def _row(record: BuildRecord, width: int) -> dict[str, Any]:
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


def _exact(record: BuildRecord) -> dict[str, Any]:
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


def logs(parsed: Parsed, builder: Builder) -> int:
    """Show all that a build said."""
    kind = parsed.one("progress", "plain")
    if kind not in ("plain", "rawjson"):
        raise UsageError(f'invalid progress "{kind}": one of plain, rawjson')
    record = _chosen(parsed, builder)
    display = (RawJsonDisplay if kind == "rawjson" else PlainDisplay)(sys.stdout)
    failed = False

    def show(event: Event) -> None:
        nonlocal failed
        failed = failed or isinstance(event, VertexFailed) and not event.cancelled
        display.show(event)

    builder.replay(record, show)
    display.close()
    if kind == "plain" and record.error and not failed:  # it failed between steps
        sys.stdout.write(f"ERROR: {printable(record.error)}\n")
    return 0


def _chosen(parsed: Parsed, builder: Builder) -> BuildRecord:
    return find_record(builder.builds(), "".join(parsed.positionals))


def rm(parsed: Parsed, builder: Builder) -> int:
    """Forget builds; those that go on stay."""
    names = parsed.positionals
    if bool(names) == parsed.flag("all"):
        raise UsageError(
            "history rm takes builds, or --all", hints=["pybuild history ls lists them"]
        )
    records = builder.builds()
    chosen = [find_record(records, name) for name in names]
    running = [record.id for record in chosen if record.status is BuildStatus.RUNNING]
    if running:
        raise UserError(f"build {running[0]} has not ended", hints=["it goes on; stop it first"])
    builder.forget(chosen or [r for r in records if r.status is not BuildStatus.RUNNING])
    return 0


def inspect(parsed: Parsed, builder: Builder) -> int:
    """Show a build's record."""
    record, form = _chosen(parsed, builder), parsed.one("format", "pretty")
    if form == "pretty":
        sys.stdout.write(_pretty(record))
        return 0
    document = document_of(record)
    if form == "json":
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(rendered(form, document) + "\n")
    return 0


def _pretty(record: BuildRecord) -> str:
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
