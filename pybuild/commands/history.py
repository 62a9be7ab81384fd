"""``pybuild history``: the builds of this machine, or of a build server, with their logs."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

from pybuild.builds.builddocument import document_of
from pybuild.builds.buildfilters import parse_build_filters
from pybuild.builds.buildlisting import NAME_WIDTH, facts_of, page_of, row_of
from pybuild.builds.buildrecord import BuildRecord, BuildStatus, find_record
from pybuild.commandline.parser import Parsed
from pybuild.model.errors import UsageError, UserError
from pybuild.model.events import Event, VertexFailed
from pybuild.model.gotemplate import rendered
from pybuild.model.listing import list_text
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


def ls(parsed: Parsed, builder: Builder) -> int:
    """List builds, those that go on first, then the latest first."""
    matches = parse_build_filters(parsed.many("filter"), time.time())
    records = [record for record in builder.builds() if matches(record)]
    records.sort(key=lambda record: record.status is not BuildStatus.RUNNING)
    form = parsed.one("format")
    if parsed.flag("quiet"):
        form = "{{.Ref}}"
    is_table = form in ("", "table") or form.startswith("table ")
    width = NAME_WIDTH if is_table and not parsed.flag("no-trunc") else sys.maxsize
    rows = [row_of(record, width) for record in records]
    sys.stdout.write(list_text(form, rows, _TITLES, list(_TITLES), map(facts_of, records)))
    return 0


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
        sys.stdout.write(page_of(record))
        return 0
    document = document_of(record)
    if form == "json":
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(rendered(form, document) + "\n")
    return 0
