"""Requests of any kind on all routes of Docker's API; prints what went wrong.

    python -m tests.stress.apifuzz --count 20000 --seed 1

Wrong is an answer of 5xx, but of what no server without a swarm has and of registries that are not to be reached; a refusal that is not one line
of JSON; no answer; a bug in the server's log; and what is left of containers, networks and volumes when all were removed. The
exit code is 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import socket
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

from pybuild.daemon.rest.handlers import ROUTES
from tests.daemon.buildsites import daemon
from tests.e2e.networked import NetworkedPybuild, network_namespace
from tests.harness import make_base
from tests.stress.apishapes import IMAGES, NAMES, OTHER, SHAPES, any_json, value
from tests.stress.containers import Summary, left, settled
from tests.stress.spoiledjson import spoiled

_ANSWER_S = 60.0
_STREAM_S = 0.2
_MOST = 1 << 20
_VERSIONS = (*("", "/v1.51", "/v1.44", "/v1.41", "/v1.24") * 5, "/v1.99", "/v1.5")
_OF_SWARMS = re.compile(r" /(swarm|nodes|services|tasks|secrets|configs)|checkpoints|PUT /volumes")
_FAR = re.compile(r"no such host|connection refused|network is unreachable")
_NEAR = {"containers": NAMES[:7], "networks": NAMES[7:9], "volumes": NAMES[9:11]}
_EXTRA = ("GET /nowhere", "OPTIONS /_ping", "POST /_ping", "GET /containers/{name}/nowhere")


@dataclass(frozen=True)
class Sent:
    """A request.

    Attributes:
        part: how much of the body is sent before the client goes.
    """

    route: str
    path: str
    body: bytes
    kind: str
    upgrade: bool = False
    part: float = 1.0

    def data(self) -> bytes:
        method = self.route.partition(" ")[0]
        head = [f"{method} {self.path} HTTP/1.1", "Host: d"]
        if self.upgrade:
            head += ["Connection: Upgrade", "Upgrade: tcp"]
        if self.kind:
            head.append(f"Content-Type: {self.kind}")
        if self.body or method in ("POST", "PUT"):
            head.append(f"Content-Length: {len(self.body)}")
        return ("\r\n".join(head) + "\r\n\r\n").encode("utf-8", "replace")


class Drawing:
    """Requests in an order that the seed gives.

    Attributes:
        execs: ids of processes that were answered.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.execs = ["nope"]
        self._routes = [*ROUTES, *_EXTRA]
        self._own = [route for route in self._routes if not _OF_SWARMS.search(route)]
        self._likely = [
            *(
                "POST /containers/create",
                "POST /containers/{name}/start",
                "POST /exec/{name}/start",
            ),
            *("POST /containers/{name}/exec", "POST /networks/create", "POST /volumes/create"),
        ]

    def next(self) -> Sent:
        random = self.random
        kinds = (self._likely, self._own, self._routes)
        route = random.choice(random.choices(kinds, (30, 65, 5))[0])
        shape = SHAPES.get(route, OTHER)
        path = route.partition(" ")[2].replace("{name}", quote(self._name(route), errors="replace"))
        query = [
            f"{name}={quote(self._written(str(value(random, draw)).encode('utf-8', 'replace')))}"
            for name, draw in shape.query.items()
            if random.random() < 0.4
        ]
        path = random.choice(_VERSIONS) + path + ("?" + "&".join(query) if query else "")
        body, kind = b"", ""
        if shape.tar:
            body, kind = self._tar(), "application/x-tar"
        elif shape.body is not None or random.random() < 0.05:
            drawn = any_json(random) if shape.body is None else shape.body(random)
            body, kind = self._written(json.dumps(drawn).encode()), "application/json"
        if random.random() < 0.02:
            body = body[: random.randrange(len(body) + 1)]
        if random.random() < 0.01:
            kind = "text/plain"
        part = random.random() if random.random() < 0.02 else 1.0
        upgrade = route.endswith(("/attach", "exec/{name}/start")) and random.random() < 0.5
        return Sent(route, path, body, kind, upgrade, part)

    def _written(self, data: bytes) -> bytes:
        """Return JSON as it is, or as none should be; of parameters only those that are objects or lists."""
        is_json = data[:1] in (b"{", b"[")
        return spoiled(self.random, data) if is_json and self.random.random() < 0.1 else data

    def _name(self, route: str) -> str:
        if self.random.random() < 0.03:
            return str(any_json(self.random, 0))
        if " /exec/" in route:
            return self.random.choice(self.execs[-20:])
        kind = route.split("/")[1]
        if kind == "images":
            removes = route.startswith("DELETE")
            return self.random.choice(IMAGES[2:4] if removes else IMAGES)
        near = _NEAR.get(kind)
        return self.random.choice(near if near and self.random.random() < 0.9 else NAMES)

    def _tar(self) -> bytes:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for name in ("Dockerfile", "manifest.json", "a/b", "../x"):
                if self.random.random() < 0.6:
                    data = b"FROM base:1\nRUN true\n" if name == "Dockerfile" else b"[]"
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
        packed = bytearray(stream.getvalue())
        if self.random.random() < 0.1:
            packed[self.random.randrange(len(packed))] ^= 0xFF
        return bytes(packed)


class Fuzz:
    """Sends requests to a server, and notes what is wrong with the answers."""

    def __init__(self, path: Path, drawing: Drawing, summary: Summary) -> None:
        self._path, self._drawing, self._summary = path, drawing, summary
        self.statuses: Counter[int] = Counter()
        self.refusals: Counter[str] = Counter()

    def run(self, count: int) -> None:
        for number in range(count):
            sent = self._drawing.next()
            self._summary.count("requests")
            try:
                self._take(number, sent, *ask(self._path, sent))
            except (OSError, HTTPException) as error:
                if sent.part == 1.0:
                    self._wrong(number, sent, f"no answer: {error!r}")

    def _take(self, number: int, sent: Sent, status: int, body: bytes) -> None:
        self.statuses[status] += 1
        text = body.decode(errors="replace").strip()
        if status >= 400:
            self.refusals[f"{status} {sent.route}"] += 1
            if not _is_one_line(text) and not sent.route.startswith("HEAD"):
                self._wrong(number, sent, f"{status} {text!r}")
        is_far = status == 500 and _FAR.search(text)
        if status >= 500 and not is_far and not _OF_SWARMS.search(sent.route):
            self._wrong(number, sent, f"{status} {text!r}")
        if status == 201 and sent.route.endswith("/exec"):
            self._drawing.execs.append(json.loads(text)["Id"])

    def _wrong(self, number: int, sent: Sent, words: str) -> None:
        body = sent.body[:1500] if sent.kind == "application/json" else b""
        self._summary.wrong.append(f"{number}: {sent.route} {sent.path} {body!r}: {words[:300]}")


def _is_one_line(text: str) -> bool:
    try:
        known: dict[str, Any] = json.loads(text)
    except ValueError:
        return False
    return set(known) == {"message"} and "\n" not in known["message"]


def ask(path: Path, sent: Sent) -> tuple[int, bytes]:
    """Send a request; return the status and the beginning of the body, of streams what comes soon."""
    with closing(socket.socket(socket.AF_UNIX)) as own:
        own.settimeout(_ANSWER_S)
        own.connect(str(path))
        data = sent.data() + sent.body[: int(len(sent.body) * sent.part)]
        with suppress(BrokenPipeError):  # it has heard enough
            own.sendall(data)
        if sent.part < 1:
            return 0, b""
        answer = HTTPResponse(own, method=sent.route.partition(" ")[0])
        answer.begin()
        if answer.status >= 400 or answer.status == 201:
            return answer.status, answer.read(_MOST)
        own.settimeout(_STREAM_S)
        body = b""
        with suppress(TimeoutError):
            while len(body) < _MOST and (piece := answer.read1(1 << 16)):
                body += piece
        return answer.status, body


def clean(path: Path) -> Iterable[str]:
    """Remove all that there is by the API itself; yield what could not be."""

    def call(route: str, path_: str) -> tuple[int, Any]:
        status, body = ask(path, Sent(route, path_, b"", ""))
        return status, json.loads(body) if body.strip() else None

    for entry in call("GET /containers/json", "/containers/json?all=1")[1]:
        status, answer = call("DELETE /containers/{name}", f"/containers/{entry['Id']}?force=1&v=1")
        if status not in (204, 404):
            yield f"removing {entry}: {status} {answer}"
    for entry in call("GET /networks", "/networks?filters=%7B%22type%22:%5B%22custom%22%5D%7D")[1]:
        status, answer = call("DELETE /networks/{name}", f"/networks/{entry['Id']}")
        if status != 204:
            yield f"removing {entry}: {status} {answer}"
    for entry in call("GET /volumes", "/volumes")[1]["Volumes"]:
        status, answer = call("DELETE /volumes/{name}", f"/volumes/{quote(entry['Name'])}")
        if status != 204:
            yield f"removing {entry}: {status} {answer}"


def fuzz(pybuild: NetworkedPybuild, folder: Path, count: int, seed: int) -> tuple[Summary, Fuzz]:
    """Send *count* requests to a server of *pybuild*, whose base image is there; nothing is left of them."""
    summary, path = Summary(), folder / "docker.sock"
    with daemon(pybuild, folder, "--docker-socket", str(path)) as server:
        pybuild("run", "-d", "--name", "keeper", "--network", "none", "base:1", "sleep", "10000")
        found = Fuzz(path, Drawing(seed), summary)
        found.run(count)
        summary.wrong += clean(path)
        info: Mapping[str, Any] = json.loads(ask(path, Sent("GET", "/info", b"", ""))[1])
        summary.done["descriptors"] = info["NFd"]
        summary.wrong += [line for line in server.said().splitlines() if "bug" in line]
        summary.done["stopped with"] = server.stop()
    if not settled(lambda: not left(pybuild, ())):
        summary.wrong.append(f"left {left(pybuild, ())[:5]}")
    return summary, found


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as directory, network_namespace() as pid:
        folder = Path(directory)
        pybuild = NetworkedPybuild(folder / "store", pid=pid)
        make_base(pybuild, folder / "context", "base:1")
        summary, found = fuzz(pybuild, folder, given.count, given.seed)
    for line in summary.wrong:
        print(line)
    print(summary.done, dict(sorted(found.statuses.items())), found.refusals.most_common(20))
    return bool(summary.wrong)


if __name__ == "__main__":
    sys.exit(main())
