"""Lists and templates, beside docker's own client, which is served the same images by a stand-in engine."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import pytest

from pybuild.cache.store import Store
from pybuild.cli import main
from pybuild.model.descriptor import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor
from pybuild.model.digest import canonical_json
from tests.clocks import FakeClock
from tests.needs import needs

pytestmark = [pytest.mark.slow, needs("docker")]

NAMES = ("one:1", "r.example/two:2", "three:latest")
CREATED = "2020-01-02T03:04:05Z"
SECONDS = 1_577_934_245
CONFIG = {
    "Env": ["A=1", "B=2"],
    "Cmd": ["x", "y"],
    "Labels": {"a": "b", "c": "<d>"},
    "WorkingDir": "/w",
}
HISTORY: list[dict[str, Any]] = [
    {"created": CREATED, "created_by": "ADD a /", "comment": "base"},
    {"created": CREATED, "created_by": "ENV " + "A=1 " * 20, "empty_layer": True},
]


def image(store: Store, size: int) -> tuple[Descriptor, Descriptor]:
    def put(media_type: str, data: bytes) -> Descriptor:
        return Descriptor(media_type, store.blobs.put(data), len(data))

    layer = put(OCI_LAYER, bytes(size))
    config = put(
        OCI_CONFIG,
        canonical_json(
            {
                "architecture": "amd64",
                "os": "linux",
                "created": CREATED,
                "config": CONFIG,
                "history": HISTORY,
                "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
            }
        ),
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.to_json(),
        "layers": [layer.to_json()],
    }
    return put(OCI_MANIFEST, canonical_json(manifest)), config


class Engine(ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.answers: dict[str, object] = {}
        super().__init__(str(path), Handler)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].split("/", 2)[-1]
        assert isinstance(self.server, Engine)
        known = path in self.server.answers
        data = json.dumps(self.server.answers.get(path, {"message": "none"})).encode()
        self.send_response(200 if known or "ping" in self.path else 404)
        for name, value in (("Api-Version", "1.41"), ("Content-Length", str(len(data)))):
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_HEAD = do_GET

    def address_string(self) -> str:
        return "docker"

    def log_message(self, format: str, *args: object) -> None:
        pass


class Both:
    """Runs the same words here and in docker's client."""

    def __init__(self, root: Path, output: pytest.CaptureFixture[str]) -> None:
        self._root, self._output = root / "store", output
        self._socket = root / "e"
        self.engine = Engine(self._socket)
        listed: list[object] = []
        with Store.open(self._root, FakeClock()) as store:
            for name, size in zip(NAMES, (300_000, 1_234_567, 998_950), strict=True):
                manifest, config = image(store, size)
                store.images.tag(name, manifest)
                digests = [f"{name.partition(':')[0]}@{manifest.digest}"]
                listed.append(
                    {
                        "Id": config.digest,
                        "RepoTags": [name],
                        "RepoDigests": digests,
                        "Created": SECONDS,
                        "Size": size,
                        "VirtualSize": size,
                        "Labels": CONFIG["Labels"],
                        "Containers": -1,
                        "SharedSize": -1,
                    }
                )
                self.engine.answers[f"images/{name}/json"] = {
                    "Id": config.digest,
                    "RepoTags": [name],
                    "RepoDigests": digests,
                    "Created": CREATED,
                    "Config": CONFIG,
                    "Architecture": "amd64",
                    "Os": "linux",
                    "Size": size,
                    "RootFS": {"Type": "layers", "Layers": [store.blobs.put(bytes(size))]},
                }
                steps = [{**step, "Id": "<missing>", "Size": 0} for step in reversed(HISTORY)]
                steps[0]["Id"], steps[1]["Size"] = config.digest, size
                self.engine.answers[f"images/{name}/history"] = [
                    {
                        "Id": step["Id"],
                        "Created": SECONDS,
                        "CreatedBy": step["created_by"],
                        "Size": step["Size"],
                        "Comment": step.get("comment", ""),
                        "Tags": None,
                    }
                    for step in steps
                ]
        self.engine.answers["images/json"] = listed

    def here(self, *words: str) -> str:
        assert main(["--root", str(self._root), *words]) == 0
        return self._output.readouterr().out

    def docker(self, *words: str) -> str:
        environment = {
            **os.environ,
            "DOCKER_HOST": f"unix://{self._socket}",
            "HOME": "/nonexistent",
        }
        done = subprocess.run(
            ["docker", *words],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Generator[Both]:
    both = Both(tmp_path, capsys)
    thread = threading.Thread(target=both.engine.serve_forever)
    thread.start()
    yield both
    both.engine.shutdown()
    thread.join()
    both.engine.server_close()


def test_lists_of_images_by_a_template(both: Both) -> None:
    for form in (
        "{{.Repository}}:{{.Tag}} {{.ID}} {{.Size}} {{.CreatedSince}} {{.CreatedAt}}",
        "{{json .ID}} {{upper .Tag}} {{.Repository | title | printf `%-20s|`}}",
        "{{.SharedSize}}\\t{{.UniqueSize}}\\n{{.Containers}}",
        '{{if eq .Tag "1"}}one{{else}}{{pad .Tag 1 1}}{{end}} {{join (split .Repository "/") "-"}}',
        "{{with .Size}}{{.}}{{end}} {{- truncate .Repository 3 -}} {{len .Tag}}",
    ):
        assert sorted(both.here("images", "--format", form).splitlines()) == sorted(
            both.docker("images", "--format", form).splitlines()
        )
    for words in (("-q",), ("-q", "--no-trunc")):
        assert sorted(both.here("image", "ls", *words).split()) == sorted(
            both.docker("image", "ls", *words).split()
        )
    form = "table {{.Repository}}\\t{{lower .Tag}}\\t{{.ID}}\\t{{.Size}}\\t{{.CreatedSince}}"
    here, there = (
        [line.split() for line in run("images", "--format", form).splitlines()]
        for run in (both.here, both.docker)
    )
    assert (here[0], sorted(here[1:])) == (there[0], sorted(there[1:]))


def test_images_as_json_have_the_fields_of_docker(both: Both) -> None:
    for form in ("json", "{{json .}}"):
        ours = {
            r["ID"]: r for r in map(json.loads, both.here("images", "--format", form).splitlines())
        }
        theirs = list(map(json.loads, both.docker("images", "--format", form).splitlines()))
        assert len(theirs) == len(NAMES) == len(ours)
        for row in theirs:
            row.pop("VirtualSize")  # docker has left it out since
            row.pop("Digest")  # docker tells it only with --digests
            assert {key: ours[row["ID"]][key] for key in row} == row


def test_the_history_of_an_image(both: Both) -> None:
    for form in (
        "{{.ID}}|{{.CreatedBy}}|{{.Size}}|{{.Comment}}|{{.CreatedSince}}",
        "table {{.ID}}|{{.CreatedBy}}|{{.Size}}",
        "{{json .CreatedAt}}",
    ):
        words = ("history", "--format", form, "one:1")
        assert both.here(*words) == both.docker(*words)
    assert (
        both.here("image", "history", "-q", "one:1").split()[0][7:19]
        == (both.docker("history", "-q", "one:1").split()[0])
    )


def test_an_image_by_a_template(both: Both) -> None:
    for form in (
        "{{.Id}} {{.Config.Env}} {{json .Config.Cmd}} {{index .RepoTags 0}} {{len .RootFS.Layers}}",
        "{{.Config.Labels}} {{json .Config.Labels}} {{.Size}} {{.Os}}/{{.Architecture}}",
        "{{range .Config.Env}}{{println .}}{{end}}{{range $k, $v := .Config.Labels}}{{$k}}{{end}}",
        '{{index .Config.Labels "a"}} {{.Config.WorkingDir}} {{index .RepoDigests 0}}',
    ):
        for command in (("inspect", "--type=image"), ("image", "inspect")):
            several = (*command, "-f", form, "one:1", "three:latest")
            assert both.here(*several) == both.docker(*several)
    same = ("Id", "RepoTags", "RepoDigests", "Created", "Architecture", "Os", "Size", "RootFS")
    for words in (("image", "inspect", "--format=json"), ("image", "inspect"), ("inspect",)):
        (ours,), (theirs,) = (json.loads(run(*words, "one:1")) for run in (both.here, both.docker))
        assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
        for key in ("Cmd", "Entrypoint", "Env", "Labels", "User", "WorkingDir"):
            assert ours["Config"][key] == theirs["Config"].get(key, ours["Config"][key])
