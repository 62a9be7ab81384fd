"""Docker's API as a client: addresses, bodies of requests, answers and frames; and on systems that are no Linux."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pybuild.client.docker.creation import body_of
from pybuild.client.docker.places import EnginePlace, engine_place
from pybuild.client.docker.requests import EngineRefusal, Requests, named
from pybuild.commandline import find
from pybuild.commandline.parser import HOST, TLS, Parsed, parse
from pybuild.model.errors import EnvironmentFault, PybuildError, UsageError, UserError
from pybuild.model.filtertext import filter_values


def _parsed(*words: str, command: str = "run") -> Parsed:
    known = find(command)
    assert known is not None
    return parse(words, (*known.options, HOST, *TLS))


def _body(*words: str) -> dict[str, Any]:
    return body_of(_parsed(*words), "i", ["c", "d"], attached=True)


def test_a_body_has_what_was_given_and_nothing_else() -> None:
    assert _body() == {
        "Image": "i",
        "Cmd": ["c", "d"],
        "AttachStdin": False,
        "AttachStdout": True,
        "AttachStderr": True,
        "OpenStdin": False,
        "StdinOnce": False,
        "Tty": False,
        "HostConfig": {
            "NetworkMode": "default",
            "RestartPolicy": {"Name": "", "MaximumRetryCount": 0},
        },
    }


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        ("-e A=1 -e B_NOT_SET", "Env", ["A=1", "B_NOT_SET"]),
        ("-l a=b -l c", "Labels", {"a": "b", "c": ""}),
        ("--entrypoint=", "Entrypoint", [""]),
        ("--no-healthcheck", "Healthcheck", {"Test": ["NONE"]}),
        (
            "--health-cmd x --health-interval 2s",
            "Healthcheck",
            {"Test": ["CMD-SHELL", "x"], "Interval": 2 * 10**9},
        ),
        ("--stop-timeout 3", "StopTimeout", 3),
        ("-p 8080:80 --expose 9/udp", "ExposedPorts", {"9/udp": {}, "80/tcp": {}}),
    ],
)
def test_options_are_fields(words: str, key: str, value: object) -> None:
    assert _body(*words.split())[key] == value


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        ("-p 127.0.0.1:8080:80", "PortBindings", {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}),
        ("-p 80/udp", "PortBindings", {"80/udp": [{"HostIp": "", "HostPort": ""}]}),
        ("-v vol:/d:ro -v /h:/e", "Binds", ["vol:/d:ro", "/h:/e"]),
        ("-v ./x:/d", "Binds", [f"{os.getcwd()}/x:/d"]),
        ("--mount type=volume,source=vol,target=/d,readonly", "Mounts", [{"Type": "volume", "Target": "/d", "Source": "vol", "ReadOnly": True}]),
        ("--tmpfs /t:size=1m", "Tmpfs", {"/t": "size=1m"}),
        ("-m 64m", "Memory", 64 << 20),
        ("--cpus 1.5", "NanoCpus", 1_500_000_000),
        ("--restart on-failure:3", "RestartPolicy", {"Name": "on-failure", "MaximumRetryCount": 3}),
        ("--network n1 --network n2", "NetworkMode", "n1"),
        ("--ulimit nofile=10:20", "Ulimits", [{"Name": "nofile", "Soft": 10, "Hard": 20}]),
        ("--device /dev/a:/dev/b:r", "Devices", [{"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"}]),
        ("--gpus all", "DeviceRequests", [{"Driver": "", "Capabilities": [["gpu"]], "Count": -1}]),
        ("--log-opt max-size=1m", "LogConfig", {"Type": "json-file", "Config": {"max-size": "1m"}}),
    ],
)  # fmt: skip
def test_options_are_fields_of_the_host(words: str, key: str, value: object) -> None:
    assert _body(*words.split())["HostConfig"][key] == value


def test_a_network_has_names_and_addresses_of_the_first() -> None:
    places = _body(
        *["--network", "a", "--network", "b", "--network-alias", "x", "--ip", "10.0.0.9"]
    )
    assert places["NetworkingConfig"]["EndpointsConfig"] == {
        "a": {"Aliases": ["x"], "IPAMConfig": {"IPv4Address": "10.0.0.9"}},
        "b": {"Aliases": [], "IPAMConfig": {}},
    }


@pytest.mark.parametrize(
    "words",
    ["--stage x", "--device x", "--cpus x", "--pids-limit x", "--env-file /nowhere", "-e =x"],
)
def test_wrong_options_are_refused_before_anything_is_sent(words: str) -> None:
    with pytest.raises(UsageError):
        _body(*words.split())


def test_filters_and_paths() -> None:
    assert filter_values(["a=b", "a=c", "label!=x=y"]) == {"a": ["b", "c"], "label!": ["x=y"]}
    with pytest.raises(UsageError):
        filter_values(["a"])
    assert named("images", "r.io:5/a/b:1", "json") == "/images/r.io:5/a/b:1/json"
    assert named("containers", "a/../b?c", "json") == "/containers/a%2F..%2Fb%3Fc/json"


def test_an_address_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", "tcp://there:1")
    for name in ("ca", "cert", "key"):
        (tmp_path / f"{name}.pem").write_text("")
    assert engine_place(_parsed("-H", "docker")) == EnginePlace(url="tcp://there:1")
    assert engine_place(_parsed("-H", "unix:///x")).url == "unix:///x"
    assert engine_place(_parsed("-H", "ssh://u@h")).url == "ssh://u@h"
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    place = engine_place(_parsed("-H", "tcp://h:2"))
    assert place.tls is not None and place.tls.only
    assert dict(place.files) == {name: f"{tmp_path}/{name}.pem" for name in ("ca", "cert", "key")}
    for name in ("nowhere", "http://x", "npipe:////./pipe/x"):
        with pytest.raises(UsageError):
            engine_place(_parsed("-H", name))


def whole_request(own: socket.socket) -> bytes:
    """Return a whole request: one that is answered too early breaks the pipe of its sender."""
    data = b""
    while True:
        head, end, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if end and len(body) >= int(length[1] if length else 0):
            return data
        piece = own.recv(1 << 16)
        if not piece:
            return data
        data += piece


@contextmanager
def _answering(tmp_path: Path, answer: bytes) -> Generator[tuple[Requests, list[bytes]]]:
    """An engine that gives the same answer to each request."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    heard: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                own, _ = listener.accept()
            except OSError:
                return
            with own:
                heard.append(whole_request(own))
                own.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield Requests(EnginePlace(url=f"unix://{tmp_path}/s")), heard
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(60)


def http_answer(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (
            http_answer("404 x", b'{"message":"No such container: a"}'),
            EngineRefusal,
            "No such container: a",
        ),
        (http_answer("500 x", b'{"message":"broken\\u001b[2J"}'), EnvironmentFault, "broken"),
        (http_answer("400 x", b"not json"), EngineRefusal, "not json"),
        (http_answer("200 OK", b"{"), EnvironmentFault, "no JSON"),
        (b"", EnvironmentFault, "no answer of Docker's API"),
        (b"\0\0\x12\x04\0\0\0\0\0" * 3, EnvironmentFault, "a build server is another address"),
    ],
)
def test_answers_that_are_none_are_told(
    tmp_path: Path, answer: bytes, kind: type[PybuildError], text: str
) -> None:
    with _answering(tmp_path, answer) as (engine, _), pytest.raises(kind) as caught:
        engine.ask("GET", "/x")
    assert text in " ".join([caught.value.message, *caught.value.hints])
    assert "\x1b" not in caught.value.message


def test_an_error_in_a_stream_is_the_end_of_it(tmp_path: Path) -> None:
    body = b'{"status":"a"}\r\n{"error":"denied"}\r\n'
    with _answering(tmp_path, http_answer("200 OK", body)) as (engine, heard):
        lines = engine.lines("POST", "/images/create", {"tag": "t", "all": True})
        assert next(lines) == {"status": "a"}
        with pytest.raises(UserError, match="^denied$"):
            next(lines)
    assert heard[0].startswith(b"POST /v1.41/images/create?tag=t&all=1 HTTP/1.1\r\n")


def test_an_old_engine_is_named(tmp_path: Path) -> None:
    with (
        _answering(tmp_path, http_answer("200 OK", b"OK", "Api-Version: 1.41")) as (engine, _),
        pytest.raises(UserError, match="does not speak API version 1.44"),
    ):
        engine.ask("POST", "/containers/create", since=(1, 44))


_BARE = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name in {"fcntl", "termios", "tty", "pty", "pwd", "grp", "resource", "uvloop"}:
            raise ImportError(f"{name} is not on this system")
for name in list(sys.modules):
    if name in {"fcntl", "termios", "tty", "pwd", "grp", "resource"}:
        del sys.modules[name]
sys.meta_path.insert(0, Blocked())
from pybuild.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_it_needs_nothing_that_only_linux_has(tmp_path: Path) -> None:
    row = b"""[{"Id":"abcdef0123456789","Names":["/n"],"Image":"i","Command":"c","Created":1,"Mounts":[],
        "State":"running","Status":"Up 1 second","HostConfig":{"NetworkMode":"none"}}]"""
    with _answering(tmp_path, http_answer("200 OK", row.replace(b"\n", b""))) as (engine, _):
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                _BARE,
                "-H",
                engine.place.url,
                "ps",
                "--format",
                "{{.ID}} {{.Names}}",
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "abcdef012345 n\n", "")
    other = tmp_path / "t"
    other.mkdir()
    with _answering(other, http_answer("404 x", b'{"message":"No such thing"}')) as (engine, heard):
        done = subprocess.run(
            [sys.executable, "-c", _BARE, "-H", engine.place.url, "run", "i", "c"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (125, "error: No such thing\n")
    assert b"/containers/create" in heard[0]
