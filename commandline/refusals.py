"""Words of docker, buildx, podman and buildah that cannot be had here, refused by name with the way out."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from importlib.resources import files

_TABLES = tomllib.loads(files("pybuild.commandline").joinpath("refusals.toml").read_text("utf-8"))
_COMMANDS: Mapping[str, str] = _TABLES["commands"]
_VERBS: Mapping[str, str] = _TABLES["verbs"]
_OPTIONS: Mapping[str, Mapping[str, str]] = _TABLES["options"]


def command_way_out(word: str) -> str:
    """Return the way out for a command of others that pybuild does not have."""
    return _COMMANDS.get(word, "")


def verb_way_out(words: str) -> str:
    """Return the way out for a verb of others that pybuild does not have; *words* as ``history open``."""
    return _VERBS.get(words.removeprefix("buildx "), "")


def way_out(name: str, known: Collection[str]) -> str:
    """Return the way out for an option of others; *known* are those of the command, which tell it."""
    group = "run" if "entrypoint" in known else "build" if "build-arg" in known else "anywhere"
    if "no-trunc" in known and "host" in known:
        group = "history"
    return _OPTIONS[group].get(name) or _OPTIONS["anywhere"].get(name, "")
