"""``pybuild builder``: names build servers, and chooses the one that builds."""

from __future__ import annotations

import os
import re
import sys

from pybuild.client.builders import LOCAL, BuilderRecord, Builders, tls_files, with_files
from pybuild.commandline.parser import Parsed
from pybuild.commands.several import Verb, run_verb
from pybuild.model.errors import UsageError
from pybuild.model.listing import table

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")


def main(parsed: Parsed) -> int:
    """Run the subcommand of the first word."""
    verbs: dict[str, Verb] = {
        "add": (_add, "NAME ADDR", 2, 2),
        "use": (_use, "NAME", 1, 1),
        "ls": (_ls, "no arguments", 0, 0),
        "rm": (_rm, "NAME", 1, 1),
        "inspect": (_inspect, "at most a NAME", 0, 1),
    }
    return run_verb(parsed, "builder", verbs, parsed.positionals)


def _add(parsed: Parsed, words: list[str]) -> int:
    name, address = words
    if not _NAME.match(name) or name == LOCAL:
        raise UsageError(
            f'invalid builder name "{name}"', hints=["letters, digits, dots, dashes; not local"]
        )
    if not address.startswith(("unix://", "tcp://")):
        raise UsageError(f'invalid address "{address}": expected unix://PATH or tcp://HOST:PORT')
    if address.startswith("unix://"):
        address = "unix://" + os.path.abspath(address.removeprefix("unix://"))
    builder = with_files(
        BuilderRecord(name, address), tls_files(parsed), parsed.one("tlsservername")
    )
    if builder.uses_tls:
        from pybuild.client.connect import client_context

        client_context(builder)  # now is the time to find out that a file is not there
    builders = Builders.load()
    if name in builders.known and not parsed.flag("force"):
        raise UsageError(f'there is a builder "{name}"', hints=["replace it with --force"])
    builders.known[name] = builder
    if parsed.flag("use"):
        builders.in_use = name
    builders.save()
    sys.stdout.write(f"{name}\n")
    return 0


def _use(parsed: Parsed, words: list[str]) -> int:
    builders = Builders.load()
    if words[0] == LOCAL:
        builders.in_use = ""
    else:
        builders.in_use = builders.get(words[0]).name
    builders.save()
    return 0


def _ls(parsed: Parsed, words: list[str]) -> int:
    builders = Builders.load()
    rows = [["NAME", "ADDRESS", "TLS"]]
    rows.append([LOCAL + ("" if builders.in_use else " *"), "this process", ""])
    for name, one in sorted(builders.known.items()):
        mark = " *" if name == builders.in_use else ""
        tls = "mutual" if one.cert else "server" if one.uses_tls else ""
        rows.append([name + mark, one.address, tls])
    sys.stdout.write(table(rows))
    return 0


def _rm(parsed: Parsed, words: list[str]) -> int:
    builders = Builders.load()
    name = builders.get(words[0]).name
    del builders.known[name]
    if builders.in_use == name:
        builders.in_use = ""
    builders.save()
    sys.stdout.write(f"{name}\n")
    return 0


def _inspect(parsed: Parsed, words: list[str]) -> int:
    """Show a record, and the builder's description of itself."""
    from pybuild.client.builderfacts import lines_about

    builders = Builders.load()
    name = words[0] if words else builders.in_use
    record = builders.get(name) if name and name != LOCAL else None
    lines, failed = lines_about(record, parsed)
    sys.stdout.write("".join(f"{key + ':':<11}{value}\n" for key, value in lines if value))
    if failed is not None:
        raise failed
    return 0
