"""A builder in words: its record, and its description of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.builds.localbuilder import LocalBuilder
from pybuild.client.builders import LOCAL, BuilderRecord
from pybuild.client.remotebuilder import RemoteBuilder
from pybuild.model.errors import EnvironmentFault, PybuildError

if TYPE_CHECKING:
    from pybuild.builds.builder import Builder
    from pybuild.builds.memo import CommandOptions


def lines_about(
    record: BuilderRecord | None, options: CommandOptions
) -> tuple[list[tuple[str, str]], PybuildError | None]:
    """Return names and values, empty ones too, and the reason if the builder cannot be reached.

    Args:
        record: None for this process.
        options: those of the command line.
    """
    builder: Builder
    if record is None:
        builder = LocalBuilder(options)
        lines = [("Name", LOCAL), ("Address", "this process")]
    else:
        builder = RemoteBuilder(record, options)
        lines = [("Name", record.name), ("Address", record.address)]
        lines += [("CA", record.ca), ("Cert", record.cert), ("Key", record.key)]
        lines += [("Server", record.server_name)]
    try:
        facts = builder.facts()
    except EnvironmentFault as error:
        return [*lines, ("Status", "unreachable")], error
    lines += [("Status", "running"), ("Version", facts.version)]
    lines.append(("Platforms", ", ".join(facts.platforms)))
    lines += [("Label", f"{key}={value}") for key, value in facts.labels]
    return lines, None
