"""Requests of Docker's API, one connection each, and their answers [ENG-10…38]."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import quote, urlencode

from pybuild.client.docker.pipes import Pipe, dial, reading
from pybuild.client.docker.places import EnginePlace
from pybuild.model.errors import EnvironmentFault, PybuildError, UserError
from pybuild.model.printable import in_log

Query = Mapping[str, str | int | bool | list[str]]
_OLDEST = (1, 41)
"""Engines of 2020 speak it, and those of today still do."""

_MOST_HEAD = 1 << 16


class EngineRefusal(UserError):
    """An engine's answer that refuses; *status* is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class EngineFault(EnvironmentFault):
    """An engine's answer that its machine or it itself failed."""


class Requests:
    """Asks one engine."""

    def __init__(self, place: EnginePlace) -> None:
        self.place = place
        self._newest: tuple[int, int] | None = None

    @contextmanager
    def asking(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: Any = None,
        *,
        since: tuple[int, int] = _OLDEST,
        headers: Mapping[str, str] | None = None,
    ) -> Generator[http.client.HTTPResponse]:
        """Ask, and give the answer, whose body may be read piece by piece.

        Args:
            body: JSON, or a file that is sent in chunks.
            since: the version of the API that knows all of it.

        Raises:
            EngineRefusal: it is refused. EnvironmentFault: there is no answer.
        """
        target = self._target(path, query, since)
        pipe = dial(self.place)
        connection = http.client.HTTPConnection("docker")
        connection.sock = cast(socket.socket, _HttpSocket(pipe))
        sent = dict(headers or {})
        data = body
        if body is not None and not hasattr(body, "read"):
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        try:
            connection.request(
                method,
                target,
                data,
                sent,
                encode_chunked=data is not None and data is body,
            )
            response = connection.getresponse()
            if response.status >= 400:
                raise _refusal(response.status, response.read())
            yield response
        except (http.client.HTTPException, ConnectionError) as error:
            raise self._unanswered(error) from error
        finally:
            pipe.close()

    def ask(
        self, method: str, path: str, query: Query | None = None, body: Any = None, **how: Any
    ) -> Any:
        """Ask, and return the JSON of the answer, None where it has none."""
        with self.asking(method, path, query, body, **how) as response:
            data = response.read()
        try:
            return json.loads(data) if data.strip() else None
        except ValueError as error:
            raise EnvironmentFault(f"{self.place.url}: the answer is no JSON") from error

    def lines(
        self, method: str, path: str, query: Query | None = None, body: Any = None, **how: Any
    ) -> Generator[dict[str, Any]]:
        """Ask, and yield the objects of the answer as they come.

        Raises:
            UserError: one of them says that the work failed.
        """
        with self.asking(method, path, query, body, **how) as response:
            for line in response:
                if not line.strip():
                    continue
                one = json.loads(line)
                if error := one.get("error"):
                    raise UserError(in_log(str(error)))
                yield one

    def hijacked(self, path: str, query: Query | None = None, body: Any = None) -> Pipe:
        """Ask for a raw stream, and return it.

        Raises:
            EngineRefusal: there is none. EnvironmentFault: there is no answer.
        """
        data = b"" if body is None else json.dumps(body).encode()
        kind = "" if body is None else "Content-Type: application/json\r\n"
        head = (
            f"POST {self._target(path, query, _OLDEST)} HTTP/1.1\r\nHost: docker\r\n"
            f"Connection: Upgrade\r\nUpgrade: tcp\r\n{kind}Content-Length: {len(data)}\r\n\r\n"
        )
        pipe = dial(self.place)
        try:
            pipe.sendall(head.encode() + data)
            answer = bytearray()
            while not answer.endswith(b"\r\n\r\n"):
                piece = pipe.receive(1)  # never more: what follows is the stream
                if not piece or len(answer) > _MOST_HEAD:
                    raise ConnectionError("it closed the connection")
                answer += piece
            status = int(answer.split(b" ", 2)[1])
            if status not in (101, 200):
                raise _refusal(status, reading(pipe).read1())
        except BaseException as error:
            pipe.close()
            if isinstance(error, (OSError, ValueError, IndexError)):
                raise self._unanswered(error) from error
            raise
        return pipe

    def newest(self) -> tuple[int, int]:
        """Return the newest version of the API that the engine speaks."""
        if self._newest is None:
            self._newest = _OLDEST
            with self.asking("GET", "/_ping") as response:
                major, _, minor = response.headers.get("Api-Version", "").partition(".")
            if major.isdecimal() and minor.isdecimal():
                self._newest = (int(major), int(minor))
        return self._newest

    def _target(self, path: str, query: Query | None, since: tuple[int, int]) -> str:
        if since > _OLDEST and self.newest() < since:
            shown = ".".join(map(str, since))
            raise UserError(
                f"the engine at {self.place.url} is too old for this: "
                f"it does not speak API version {shown}"
            )
        pairs: list[tuple[str, str]] = []
        for key, value in (query or {}).items():
            for one in value if isinstance(value, list) else [value]:
                text = ("1" if one else "0") if isinstance(one, bool) else str(one)
                pairs.append((key, text))
        version = ".".join(map(str, since))
        return f"/v{version}{path}" + (f"?{urlencode(pairs)}" if pairs else "")

    def _unanswered(self, error: Exception) -> PybuildError:
        return EnvironmentFault(
            f"{self.place.url}: no answer of Docker's API: {str(error) or type(error).__name__}",
            hints=["a build server is another address: pybuild daemon --docker-address"],
        )


class _HttpSocket:
    """A pipe as `http.client` takes it."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self.sendall = pipe.sendall

    def close(self) -> None:
        """Leave it open: the answer is read after this, and whoever asked closes the pipe."""

    def makefile(self, mode: str) -> Any:
        return reading(self._pipe)


def _refusal(status: int, data: bytes) -> PybuildError:
    try:
        message = str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        message = data[:200].decode("utf-8", "replace").strip() or f"HTTP status {status}"
    text = in_log(message)
    return EngineFault(text) if status >= 500 else EngineRefusal(status, text)


def named(noun: str, name: str, *more: str) -> str:
    """Return the path of a thing by its name."""
    return "/".join([f"/{noun}", quote(name, safe="/:@" if noun == "images" else ":"), *more])
