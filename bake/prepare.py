"""Selected targets as they are built and printed: contexts cleaned, flags of builds made of fields."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from pybuild.bake.definition import Selected
from pybuild.bake.entries import Entry, entry_text
from pybuild.bake.target import LINK, Target
from pybuild.builds.contextkinds import is_remote_name
from pybuild.frontend.giturl import is_http, parse_git_url
from pybuild.model.errors import UserError
from pybuild.model.text import boolean

HERE = "cwd://"  # before a path of this machine, also where the definition is elsewhere

Flags = dict[str, list[str]]
"""Values of the options of ``pybuild build``, by their names."""


def is_url(place: str) -> bool:
    """Whether a context is one that is fetched."""
    return is_http(place) or parse_git_url(place, is_context=True) is not None


def cleaned(selected: Selected, environment: Mapping[str, str]) -> Selected:
    """Return targets with the paths of their contexts in their shortest form.

    Args:
        environment: gives SOURCE_DATE_EPOCH to those that have none.

    Raises:
        UserError: a context is standard input, which is the definition's.
    """
    epoch = environment.get("SOURCE_DATE_EPOCH", "")
    targets: dict[str, Target] = {}
    for name, target in selected.targets.items():
        for field in ("context", "dockerfile"):
            if target.text(field) == "-":
                raise UserError(f"target {name}: {field} from stdin not allowed in bake")
        made = target.changed("context", _path(target.text("context")))
        args = target.pairs("args")
        if epoch and "SOURCE_DATE_EPOCH" not in args:
            made = made.changed("args", {**args, "SOURCE_DATE_EPOCH": epoch})
        targets[name] = made
    return Selected(selected.groups, targets)


def _path(place: str) -> str:
    if place.startswith(HERE):
        return posixpath.normpath(place.removeprefix(HERE) or ".")
    return place if is_url(place) else posixpath.normpath(place)


def local_paths(target: Target) -> list[str]:
    """Return the paths of this machine that a target's contexts and Dockerfile are."""
    paths: list[str] = []
    context = target.text("context")
    if not is_url(context):
        paths.append(context)
        if "dockerfile-inline" not in target.fields:
            paths.append(dockerfile_of(target))
    for value in target.pairs("contexts").values():
        if not is_remote_name(value) or value.startswith(HERE):
            paths.append(_path(value))
    return paths


def dockerfile_of(target: Target) -> str:
    """Return the path of a target's Dockerfile; of this machine where the context is."""
    context, path = target.text("context"), target.text("dockerfile", "Dockerfile")
    if path.startswith(HERE):
        return posixpath.abspath(path.removeprefix(HERE))
    if is_url(path) or is_url(context) or posixpath.isabs(path):
        return path
    return posixpath.normpath(posixpath.join(context, path))


def check_known(target: Target) -> None:
    """Refuse what a target asks for and no build here does; to leave it out would be another build.

    Raises:
        UserError: says what.
    """
    if target.text("call") not in ("", "build"):
        hint = f"pybuild build --call={target.text('call')} {target.text('context')}"
        raise UserError(f"target {target.name}: call is not done by bake", hints=[hint])
    if any(boolean(str(one.get("disabled", ""))) is not True for one in target.entries("policy")):
        raise UserError(
            f"target {target.name}: policy is not done: policies in Rego are not read",
            hints=["give rules as JSON: $EXPERIMENTAL_BUILDKIT_SOURCE_POLICY names their file"],
        )


def flags_of(target: Target) -> Flags:
    """Return the flags of ``pybuild build`` that ask for what a target does."""
    flags: Flags = {
        "add-host": _pairs(target.pairs("extra-hosts")),
        "allow": target.texts("entitlements"),
        "annotation": target.texts("annotations"),
        "attest": [entry_text(one) for one in target.entries("attest")],
        "build-arg": _pairs(target.pairs("args")),
        "build-context": _contexts(target),
        "cache-from": _texts(target.entries("cache-from")),
        "cache-to": _texts(target.entries("cache-to")),
        "label": _pairs(target.pairs("labels")),
        "no-cache-filter": target.texts("no-cache-filter"),
        "output": _texts(target.entries("output")),
        "resource": _resources(target),
        "secret": _texts(target.entries("secret")),
        "ssh": [_agent(one) for one in target.entries("ssh")],
        "tag": target.texts("tags"),
        "ulimit": target.texts("ulimits"),
    }
    if "dockerfile-inline" not in target.fields:
        flags["file"] = [dockerfile_of(target)]
    for name in ("network", "shm-size", "target"):
        if target.text(name):
            flags[name] = [target.text(name)]
    for name in ("no-cache", "pull"):
        if target.flag(name):
            flags[name] = ["true"]
    if platforms := target.texts("platforms"):
        flags["platform"] = [",".join(platforms)]
    return {name: values for name, values in flags.items() if values}


def _pairs(pairs: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in sorted(pairs.items())]


def _texts(entries: list[Entry]) -> list[str]:
    return [entry_text(one) for one in entries]


def _contexts(target: Target) -> list[str]:
    return [
        f"{name}={_path(value) if value.startswith(HERE) else value}"
        for name, value in sorted(target.pairs("contexts").items())
        if not value.startswith(LINK)
    ]


def _resources(target: Target) -> list[str]:
    limits = target.fields.get("resources") or {}
    assert isinstance(limits, dict)
    return [f"{name}={value}" for name, value in limits.items()]


def _agent(entry: Entry) -> str:
    paths = entry.get("paths")
    return (
        f"{entry['id']}={','.join(map(str, paths))}"
        if isinstance(paths, list)
        else str(entry["id"])
    )
