"""The image config while a stage is being read: what the base gave, and each change to it [CFG]."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pybuild.frontend.lowering.interface import HistoryItem
from pybuild.frontend.words.environment import DEFAULT_PATH
from pybuild.model.errors import UserError
from pybuild.model.ops import Vertex
from pybuild.model.platform import Platform

EXPORTER_COMMENT = "buildkit.exporter.image.v0"

# Of the build that made the base, not of the image; BuildKit does not write them either [CFG-2].
_DROPPED = ("container", "container_config", "created", "docker_version", "rootfs")
_TEXTS = ("StopSignal", "User", "WorkingDir")
_LISTS = ("Cmd", "Entrypoint", "Env", "OnBuild", "Shell")
_MAPS = ("ExposedPorts", "Labels", "Volumes")
_MAX_DEPTH = 100


class ImageConfig:
    """One stage's config and history.

    Attributes:
        top: the fields beside ``config`` and ``history``; unknown ones are kept [CFG-1].
        run: the ``config`` object.
        base_history: entries of the base image, as parsed JSON.
        base_layer_count: layers of the base image; -1 where they are not known yet.
        added: entries of this build.
    """

    def __init__(
        self,
        top: dict[str, Any],
        run: dict[str, Any],
        base_history: list[dict[str, Any]] | None = None,
        base_layer_count: int = 0,
        added: list[HistoryItem] | None = None,
    ) -> None:
        self.top = top
        self.run = run
        self.base_history = base_history or []
        self.base_layer_count = base_layer_count
        self.added = added or []
        self._env_places: dict[str, int] = {}

    @classmethod
    def empty(cls, platform: Platform) -> ImageConfig:
        """Return the config that ``FROM scratch`` starts with [FROM-6]."""
        config = cls({}, {"WorkingDir": "/"})
        if platform.os != "windows":  # which has its own way of finding programs [EV-9]
            config.run["Env"] = ["PATH=" + DEFAULT_PATH]
        config.set_platform(platform)
        return config

    @classmethod
    def of_image(cls, config: Mapping[str, Any], layer_count: int, name: str) -> ImageConfig:
        """Start from a base image's config.

        Raises:
            UserError: a field that is read here has the wrong type.
        """
        try:
            given = _text_only({k: v for k, v in config.items() if k not in _DROPPED})
        except RecursionError:
            raise _bad(name, "it is nested too deeply") from None
        run_given: Any = _or(given.pop("config", None), {})
        history: Any = _or(given.pop("history", None), [])
        top = given
        if not isinstance(run_given, dict):
            raise _bad(name, "config is not an object")
        run: dict[str, Any] = {k: v for k, v in run_given.items() if v is not None}  # pyright: ignore
        for kind, keys in ((str, _TEXTS), (list, _LISTS), (dict, _MAPS)):
            for key in keys:
                if key in run and not isinstance(run[key], kind):
                    raise _bad(name, f"config.{key} has the wrong type")
        for key in _LISTS:
            items: list[Any] = run.get(key, [])
            if not all(isinstance(item, str) for item in items):
                raise _bad(name, f"config.{key} is not a list of strings")
        for key in ("architecture", "author", "os", "os.version", "variant"):
            if not isinstance(_or(top.get(key), ""), str):
                raise _bad(name, f"{key} is not a string")
        if not isinstance(history, list) or not all(isinstance(item, dict) for item in history):  # pyright: ignore
            raise _bad(name, "history is not a list of objects")
        return cls(top, run, _fitted(history, layer_count), layer_count)  # pyright: ignore

    def child(self) -> ImageConfig:
        """Return the start of a stage that is based on this one; triggers stay behind [FROM-14]."""
        run = copy.deepcopy(self.run)
        run.pop("OnBuild", None)
        return ImageConfig(
            dict(self.top), run, list(self.base_history), self.base_layer_count, list(self.added)
        )

    # --- reading ---

    @property
    def platform(self) -> Platform | None:
        """The platform that the config names; None when it names none."""
        if not self.top.get("os") or not self.top.get("architecture"):
            return None
        return Platform.from_json(self.top)

    @property
    def size(self) -> int:
        """The number of items that a child has to copy: list items, members and history entries."""
        fields: Iterable[Any] = self.run.values()
        lists = sum(len(field) for field in fields if isinstance(field, (dict, list)))  # pyright: ignore[reportUnknownArgumentType]
        return lists + len(self.base_history) + len(self.added)

    @property
    def user(self) -> str:
        return str(self.run.get("User", ""))

    @property
    def workdir(self) -> str:
        return str(self.run.get("WorkingDir", ""))

    @property
    def environment(self) -> list[tuple[str, str]]:
        """Names and values; an entry without ``=`` has an empty value."""
        pairs = (entry.partition("=") for entry in self.run.get("Env", ()))
        return [(name, value) for name, _, value in pairs]

    @property
    def triggers(self) -> tuple[str, ...]:
        return tuple(self.run.get("OnBuild", ()))

    def shell_command(self, text: str) -> list[str]:
        """Return the argument vector that runs *text* in the stage's shell [RUN-1]."""
        windows = self.top.get("os") == "windows"
        shell = ("cmd", "/S", "/C") if windows else ("/bin/sh", "-c")
        return [*(self.run.get("Shell") or shell), text]

    # --- changing ---

    def set_platform(self, platform: Platform) -> None:
        """Overwrite what the image says it is for [FROM-9]."""
        same_kind = (self.top.get("os"), self.top.get("architecture")) == (
            platform.os,
            platform.arch,
        )
        self.top["os"], self.top["architecture"] = platform.os, platform.arch
        for key, value in (("variant", platform.variant), ("os.version", platform.os_version)):
            if value:
                self.top[key] = value
            elif not same_kind:
                self.top.pop(key, None)

    def set_env(self, name: str, value: str) -> None:
        """Replace in place, else append [EV-7]."""
        env: list[str] = self.run.setdefault("Env", [])
        places = self._env_places
        if not places:  # of a repeated name, the first counts
            for index in range(len(env) - 1, -1, -1):
                places[env[index].partition("=")[0]] = index
        index = places.setdefault(name, len(env))
        env[index : index + 1] = [f"{name}={value}"]

    def add_keys(self, field: str, keys: Sequence[str]) -> None:
        """Add members to ``ExposedPorts`` or ``Volumes``."""
        self.run.setdefault(field, {}).update({key: {} for key in keys})

    def commit(self, created_by: str, vertex: Vertex | None = None) -> None:
        """Add a history entry; *vertex* makes its layer."""
        self.added.append(HistoryItem(created_by=created_by, vertex=vertex))

    def to_json(self) -> dict[str, Any]:
        """Return the config object; empty fields are left out, as Go's ``omitempty`` does."""
        run = {key: value for key, value in self.run.items() if value not in ("", [], {}, False)}
        top = {key: value for key, value in self.top.items() if value not in ("", None)}
        platform = self.platform
        if platform is not None:
            for key in ("variant", "os.version"):
                top.pop(key, None)
            top.update(platform.to_json())
        return {**top, "config": run, "history": list(self.base_history)}


def _text_only(value: Any, depth: int = 0) -> Any:
    """Return a copy of JSON in which lone halves of surrogate pairs, no text, are replaced.

    Raises:
        RecursionError: it is nested deeper than any config is.
    """
    if depth > _MAX_DEPTH:
        raise RecursionError
    match value:
        case str():
            return value if value.isascii() else value.encode("utf-8", "replace").decode()
        case dict():
            items: Any = value.items()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            return {_text_only(k): _text_only(v, depth + 1) for k, v in items}
        case list():
            return [_text_only(item, depth + 1) for item in value]  # pyright: ignore[reportUnknownVariableType]
        case _:
            return value


def _fitted(history: list[dict[str, Any]], layer_count: int) -> list[dict[str, Any]]:
    """Make the entries that are not empty as many as there are layers [CFG-3]."""
    extra = sum(not item.get("empty_layer") for item in history) - layer_count
    for item in history:  # too many: the oldest ones become empty
        if extra > 0 and not item.get("empty_layer"):
            item["empty_layer"] = True
            extra -= 1
    return history + [{"comment": EXPORTER_COMMENT} for _ in range(-extra)]


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _bad(name: str, what: str) -> UserError:
    return UserError(f"failed to parse image config of {name}: {what}")
