"""Builds for programs that were written for docker-py: ``client.images.build``, and no Docker.

```python
from pybuild.testing import dockershape as docker

image, log = docker.from_env().images.build(path="app", tag="app:1", buildargs={"V": "1"})
```
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from pybuild.api import BuildOptions, build
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import PybuildError, UsageError
from pybuild.model.events import Event, VertexAdded, VertexCached, VertexLog

LogEntry = dict[str, Any]

_NO_MATTER = frozenset(
    ("rm", "forcerm", "quiet", "timeout", "encoding", "gzip", "squash", "use_config_proxy")
)
"""Arguments of docker-py that ask for what is so here, or that say how a daemon is spoken to."""


class BuildError(Exception):
    """A build failed, as docker-py calls it; *msg* is why, *build_log* all that it said."""

    def __init__(self, reason: str, build_log: Sequence[LogEntry]) -> None:
        super().__init__(reason)
        self.msg = reason
        self.build_log = iter(build_log)


@dataclass(frozen=True, slots=True)
class ShapedImage:
    """An image of the store: *id* and *tags* are those of docker-py."""

    id: str
    tags: Sequence[str]

    @property
    def short_id(self) -> str:
        return self.id[: len("sha256:") + 12]


class ShapedImages:
    """The images of a store, with docker-py's way to build one."""

    def __init__(self, root: str) -> None:
        self._root = root

    def build(
        self,
        *,
        path: str = "",
        fileobj: IO[bytes] | None = None,
        custom_context: bool = False,
        dockerfile: str = "",
        tag: str = "",
        buildargs: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        target: str = "",
        platform: str = "",
        nocache: bool = False,
        pull: bool = False,
        cache_from: Sequence[str] = (),
        **others: Any,
    ) -> tuple[ShapedImage, Iterator[LogEntry]]:
        """Build an image, and return it with what the build said.

        Args:
            path: the context: a directory or a URL.
            fileobj: a Dockerfile of an empty context; with *custom_context* an archive of the context.

        Raises:
            BuildError: the build failed. TypeError: an argument that means nothing here.
        """
        if unknown := sorted(others.keys() - _NO_MATTER):
            raise TypeError(f"images.build(): {', '.join(unknown)} cannot be done here")
        if not path and fileobj is None:
            raise TypeError("Either path or fileobj needs to be provided.")
        options: BuildOptions = {
            "build_args": buildargs or {},
            "labels": labels or {},
            "target": target,
            "no_cache": nocache,
            "pull": pull,
            "cache_from": list(cache_from or ()),
            "tags": [tag] if tag else [],
            "platforms": [platform] if platform else [],
            "root": self._root,
        }
        context: str | bytes | dict[str, bytes] = path
        if fileobj is not None:
            data = fileobj.read()
            context = data if custom_context else {}
            if not custom_context:
                options["dockerfile"] = data
        if dockerfile:
            options["dockerfile"] = dockerfile
        log = _Log()
        options["on_event"] = log.watch
        try:
            result = build(context, **options)
        except UsageError as error:
            raise BuildError(error.message, log.entries) from error
        except PybuildError as error:
            detail = {"message": error.message}
            log.entries.append({"error": error.message, "errorDetail": detail})
            raise BuildError(error.message, log.entries) from error
        id = str(result.image_id)
        log.entries.append({"aux": {"ID": id}})
        return ShapedImage(id, [tag] if tag else []), iter(log.entries)


class _Log:
    """The words of a build, as entries of Docker's stream."""

    def __init__(self) -> None:
        self.entries: list[LogEntry] = []
        self._names: dict[str, str] = {}

    def watch(self, event: Event) -> None:
        match event:
            case VertexAdded(vertex=vertex, name=name):
                self._names[vertex] = name
                self.entries.append({"stream": f"{name}\n"})
            case VertexCached(vertex=vertex):
                self.entries.append({"stream": f"{self._names.get(vertex, '')}: CACHED\n"})
            case VertexLog(data=data):
                self.entries.append({"stream": data.decode("utf-8", "replace")})
            case _:
                pass


class ShapedClient:
    """A client with images; *root* is the directory of the store, the user's own by default."""

    def __init__(self, root: str = "") -> None:
        self.images = ShapedImages(root)

    def close(self) -> None:
        """Do nothing: there is no connection."""


def from_env(root: str = "", **_: Any) -> ShapedClient:
    """Return a client; the environment names the store, as for commands."""
    return ShapedClient(root)
