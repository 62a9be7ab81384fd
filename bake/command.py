"""``pybuild bake``, from its words to the builds that it asks for."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from pybuild.bake.allowances import Allowances, check
from pybuild.bake.composefile import environment_with_file
from pybuild.bake.definition import DEFAULT, Definition, Selected
from pybuild.bake.drawing import drawn
from pybuild.bake.files import DEFAULT_NAMES, Environs, read_definition, read_files
from pybuild.bake.hcl.functions.table import functions
from pybuild.bake.overrides import all_targets
from pybuild.bake.prepare import HERE, Flags, check_known, cleaned, flags_of, is_url
from pybuild.bake.printing import printed, targets_listed, variables_listed
from pybuild.builds.namedbuild import NamedBuild
from pybuild.builds.request import BuildRequest
from pybuild.builds.result import BuildResult
from pybuild.engine.host import native_platform
from pybuild.model.amounts import parse_duration
from pybuild.model.errors import UsageError
from pybuild.model.text import boolean, split_csv

if TYPE_CHECKING:
    from pybuild.builds.manymemos import Memos


class CommandLine(Protocol):
    """A command line that was read."""

    positionals: list[str]

    def one(self, name: str, default: str = "") -> str: ...

    def many(self, name: str) -> list[str]: ...

    def flag(self, name: str, default: bool = False) -> bool: ...


def _variables(words: CommandLine) -> dict[str, str]:
    """Read ``--var NAME[=VALUE]``; one without a value takes it from the environment."""
    made: dict[str, str] = {}
    for text in words.many("var"):
        name, equals, value = text.partition("=")
        if not name:
            raise UsageError(f'invalid variable "{text}", expected name=value')
        if equals:
            made[name] = value
        elif name in os.environ:
            made[name] = os.environ[name]
    return made


def _files(words: CommandLine) -> list[str]:
    """Return the files of ``-f``, else those of ``$BUILDX_BAKE_FILE``."""
    if named := words.many("file"):
        return [name.removeprefix(HERE) for name in named]
    separator = os.environ.get("BUILDX_BAKE_PATH_SEPARATOR") or os.pathsep
    paths = os.environ.get("BUILDX_BAKE_FILE", "").split(separator)
    return [path.strip().removeprefix(HERE) for path in paths if path.strip()]


def definition_of(words: CommandLine) -> Definition:
    """Read the definition that a command line names.

    Raises:
        UserError: there is none, or it is wrong.
    """
    if words.positionals and is_url(words.positionals[0]):
        raise UsageError(
            f"a definition elsewhere is not read: {words.positionals[0]}",
            hints=["clone it, and run pybuild bake there"],
        )
    set_here = _variables(words)
    without = boolean(os.environ.get("BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP", "")) is True
    outside: Mapping[str, str] = {} if without else os.environ
    around = Environs(
        given={"BAKE_CMD_CONTEXT": HERE, "BAKE_LOCAL_PLATFORM": str(native_platform())},
        lookup=lambda name: set_here.get(name, outside.get(name)),
        environment={
            "COMPOSE_PROJECT_NAME": "bake",
            **environment_with_file(outside, os.getcwd()),
            **set_here,
        },
        functions=functions(time.time, os.path.expanduser("~")),
    )
    return read_definition(read_files(_files(words), sys.stdin.buffer.read), around)


def selected(definition: Definition, words: CommandLine) -> Selected:
    """Return the targets that a command line asks for, with what it sets.

    Raises:
        UserError: a target is not there, or a value is wrong.
    """
    switches = {name: "true" if words.flag(name) else "" for name in ("push", "load")}
    for name in ("no-cache", "pull"):
        switches[name] = str(words.flag(name)).lower() if words.many(name) else ""
    overrides = [*words.many("set"), *all_targets(switches)]
    for kind in ("sbom", "provenance"):
        if text := words.one(kind):
            switched = boolean(text)
            rest = text if switched is None else f"disabled={str(not switched).lower()}"
            overrides.append(f"*.attest=type={kind},{rest}")
    made = definition.select(words.positionals or [DEFAULT], overrides, os.environ.get)
    return cleaned(made, os.environ)


def listing(definition: Definition, form: str) -> str:
    """Return the text that ``--list`` shows: ``targets`` or ``variables``, or these with ``,format=json``.

    Raises:
        UsageError: it is another word.
    """
    fields: dict[str, str] = {}
    for part in split_csv(form):
        name, equals, value = part.partition("=")
        fields[name if equals else "type"] = value if equals else part
    as_json = fields.get("format") == "json"
    match fields.get("type"):
        case "targets":
            return targets_listed(definition, as_json=as_json)
        case "variables":
            return variables_listed(definition, as_json=as_json)
        case other:
            raise UsageError(
                f'invalid --list "{other}": targets or variables', hints=["--list=targets"]
            )


def text_of(words: CommandLine, request_of: Callable[[str, Flags], BuildRequest]) -> str | None:
    """Return the text of a command line that builds nothing; None of one that builds.

    Args:
        request_of: as of `builds_of`.
    """
    if words.flag("affected"):
        return _affected(words, builds_of(words, request_of))
    if form := words.one("list"):
        return listing(definition_of(words), form)
    form = words.one("graph")
    if not form and not words.flag("print"):
        return None
    definition = definition_of(words)  # once: it may be standard input
    chosen = selected(definition, words)
    if words.one("since"):
        builds = builds_of(words, request_of, definition)
        chosen = chosen.only(name for name, one in builds.items() if one.is_delivered)
    return drawn(chosen, form) if form else printed(chosen)


def _affected(words: CommandLine, builds: Mapping[str, NamedBuild]) -> str:
    """Return the names of the targets that would be built, a line each."""
    unchanged = _memos(words, builds).unchanged()
    names = sorted(name for name, one in builds.items() if one.is_delivered)
    return "".join(f"{name}\n" for name in names if name not in unchanged)


def builds_of(
    words: CommandLine,
    request_of: Callable[[str, Flags], BuildRequest],
    definition: Definition | None = None,
) -> dict[str, NamedBuild]:
    """Return the builds that a command line asks for, by the names of their targets.

    Args:
        request_of: makes a request of a context and the flags of ``pybuild build``.
        definition: that of *words*, where it was read already.

    Raises:
        UserError: a target is wrong, or asks for more than was allowed.
    """
    from dataclasses import replace

    definition = definition or definition_of(words)
    chosen = selected(definition, words)
    check(chosen.targets.values(), Allowances.parse(words.many("allow")), os.environ)
    ages: dict[str, float] = {}
    if age := words.one("max-age"):
        ages[""] = parse_duration(age)
    builds: dict[str, NamedBuild] = {}
    for name, target in sorted(chosen.targets.items()):
        check_known(target)
        flags = flags_of(target)
        request = request_of(target.text("context"), flags)
        if "dockerfile-inline" in target.fields:
            request = replace(request, dockerfile_text=target.text("dockerfile-inline").encode())
        if ages:
            request = replace(request, max_ages=ages)
        if folder := words.one("on-fail-output"):
            request = replace(request, on_fail_output=os.path.join(folder, name))
        builds[name] = NamedBuild(
            request=request,
            flags=flags,
            links=target.links,
            is_delivered=not target.is_linked,
        )
    if revision := words.one("since"):
        from pybuild.bake.since import changed_since, reached

        changed = changed_since(revision, os.getcwd())
        files = [*(_files(words) or DEFAULT_NAMES), *definition.parts]
        return reached(builds, changed, files, _memos(words, builds))
    return builds


def _memos(words: CommandLine, builds: Mapping[str, NamedBuild]) -> Memos:
    from pybuild.builds.manymemos import Memos
    from pybuild.engine.settings import load_settings

    return Memos(load_settings(words.one("config"), words.one("root")).root, builds)


def summary(name: str, result: BuildResult) -> str:
    """Return a line about a target's image; nothing where it has none."""
    if not result.image_id:
        return ""
    names = ", ".join(result.names) or "image"
    return f"{name}: {names} ({result.image_id.hex[:12]})\n"
