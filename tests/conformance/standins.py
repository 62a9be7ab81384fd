"""Stand-ins for the public images that BuildKit's suite pulls, in a registry's directory: there is no network.

Each is made of Debian's static busybox. What a case wants of the real image beyond that (packages, another
version) it does not find, with the reference either.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import subprocess
import tarfile
import threading
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

_CONFIG = """\
version: 0.1
loglevel: debug
storage:
    filesystem:
        rootdirectory: {data}
http:
    addr: 127.0.0.1:0
validation:
    manifests:
        urls:
            allow:
                - ^https?://
"""
_DOCKER = "application/vnd.docker."
_MANIFEST = _DOCKER + "distribution.manifest.v2+json"
_INDEX = _DOCKER + "distribution.manifest.list.v2+json"
_TIME = 1700000000
_PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""
_DIRECTORIES = (
    "bin",
    "dev",
    "etc",
    "home",
    "lib",
    "root",
    "sbin",
    "tmp",
    "usr",
    "usr/bin",
    "usr/sbin",
    "var",
)
# An applet of the real images' busybox that Debian's has not: columns, then rows.
_TTYSIZE = b"#!/bin/sh\nset -- $(stty size) && echo $2 $1\n"
# Users as the real images' `adduser -D NAME` adds them: a group of its own each, ids from 1000 on.
_ADDUSER = b"""\
#!/bin/sh
for name; do :; done
id=1000
while grep -q "^[^:]*:[^:]*:$id:" /etc/passwd /etc/group; do id=$((id + 1)); done
echo "$name:x:$id:$id::/home/$name:/bin/sh" >> /etc/passwd
echo "$name:x:$id:" >> /etc/group
mkdir -p "/home/$name" && chown "$id:$id" "/home/$name"
"""
# Debian's busybox can end by a signal in `wget -T`.
_WGET = b"""\
#!/bin/sh
left=$#
while [ $left -gt 0 ]; do
  if [ "$1" = -T ]; then shift 2; left=$((left - 2)); continue; fi
  set -- "$@" "$1"; shift; left=$((left - 1))
done
exec /bin/busybox wget "$@"
"""
_GROUP = "root:x:0:\ndaemon:x:1:\nbin:x:2:\nwheel:x:10:root\nwww-data:x:33:\nnobody:x:65534:\n"


def fill_mirror(
    registry: str, directory: Path, frontend: Path | None = None, platforms: Sequence[str] = ()
) -> None:
    """Start *registry* on *directory*, push the stand-ins to it, and end it.

    *frontend* is the reference's own of Dockerfiles, for cases that name it by its image. With further
    *platforms* busybox and alpine claim to be for these, too: what is in them is always this machine's.
    """
    directory.mkdir(parents=True)
    config = directory / "config.yaml"
    config.write_text(_CONFIG.format(data=directory / "data"))
    process = subprocess.Popen(
        [registry, "serve", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        port = next(m[1] for m in map(_LISTENING.search, process.stderr) if m)
        threading.Thread(target=process.stderr.read, daemon=True).start()
        pusher = _Pusher(f"http://127.0.0.1:{port}/v2/")
        push = pusher.image
        for name, tag, fill in (
            ("busybox", "latest", _busybox),
            ("busybox", "stable-musl", _busybox),
            ("alpine", "latest", _alpine),
            ("alpine", "3.21", _alpine),
        ):
            push(f"library/{name}", tag, [_tar(fill)])
            if platforms:
                pusher.index(f"library/{name}", tag, [_tar(fill)], ("amd64", *platforms))
        push("moby/buildkit", "buildx-stable-1", [_tar(_busybox)])
        if frontend:
            data = frontend.read_bytes()
            layer = _tar(partial(_file, name="bin/frontend", data=data, mode=0o755))
            entrypoint = {"Entrypoint": ["/bin/frontend"]}
            push("docker/dockerfile-upstream", "1.18.0", [layer], config=entrypoint)
        push("tonistiigi/hellofs", "latest", [_tar(partial(_file, name="hellofs", data=b"x"))])
        push("amd64/debian", "bullseye-20230109-slim", [_tar(_alpine)])
        push("tonistiigi/test", "nolayers", [])
        layers = [_tar(partial(_file, name=name, data=b"x")) for name in ("foreign", "own")]
        push("cpuguy83/buildkit-foreign", "latest", layers, foreign=1)
    finally:
        process.terminate()
        process.wait(30)


_LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")


class _Pusher:
    def __init__(self, base: str) -> None:
        self._base = base

    def image(
        self,
        name: str,
        tag: str,
        layers: Sequence[bytes],
        *,
        foreign: int = 0,
        config: Mapping[str, Any] | None = None,
        architecture: str = "amd64",
    ) -> dict[str, Any]:
        """Push an image of *layers*, the first *foreign* ones of which are said to be elsewhere; return its descriptor."""
        described: list[dict[str, Any]] = []
        for number, layer in enumerate(layers):
            kind = "foreign.diff" if number < foreign else "diff"
            described.append(
                self._blob(name, f"image.rootfs.{kind}.tar.gzip", gzip.compress(layer, mtime=0))
            )
            if number < foreign:
                described[-1]["urls"] = [f"https://elsewhere.invalid/{described[-1]['digest']}"]
        content = {
            "architecture": architecture,
            "os": "linux",
            "created": "2023-11-14T22:13:20Z",
            "config": {
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Cmd": ["sh"],
                **(config or {}),
            },
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer) for layer in layers]},
            "history": [
                {"created_by": "stand-in", "created": "2023-11-14T22:13:20Z"} for _ in layers
            ],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": self._blob(name, "container.image.v1+json", json.dumps(content).encode()),
            "layers": described,
        }
        data = json.dumps(manifest).encode()
        self._send("PUT", f"{self._base}{name}/manifests/{tag}", data, _MANIFEST)
        return {"mediaType": _MANIFEST, "size": len(data), "digest": _digest(data)}

    def index(
        self, name: str, tag: str, layers: Sequence[bytes], architectures: Sequence[str]
    ) -> None:
        """Push an image of *layers* for each of *architectures*, and their index under *tag*."""
        manifests = [
            {
                **self.image(name, f"{tag}-{architecture}", layers, architecture=architecture),
                "platform": {"architecture": architecture, "os": "linux"},
            }
            for architecture in architectures
        ]
        index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": manifests}
        data = json.dumps(index).encode()
        self._send("PUT", f"{self._base}{name}/manifests/{tag}", data, _INDEX)

    def _blob(self, name: str, kind: str, data: bytes) -> dict[str, Any]:
        location = self._send("POST", f"{self._base}{name}/blobs/uploads/", b"", "text/plain")
        digest = _digest(data)
        self._send("PUT", f"{location}&digest={digest}", data, "application/octet-stream")
        return {"mediaType": _DOCKER + kind, "size": len(data), "digest": digest}

    @staticmethod
    def _send(method: str, url: str, data: bytes, kind: str) -> str:
        request = urllib.request.Request(url, data, {"Content-Type": kind}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(answer.headers.get("Location", ""))


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _tar(fill: Callable[[tarfile.TarFile], None]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        fill(tar)
    return buffer.getvalue()


def _entry(tar: tarfile.TarFile, name: str, kind: bytes, mode: int, target: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname, info.mtime = kind, mode, target, _TIME
    tar.addfile(info)


def _file(tar: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), mode, _TIME
    tar.addfile(info, io.BytesIO(data))


def _busybox(tar: tarfile.TarFile) -> None:
    _tree(tar)


def _alpine(tar: tarfile.TarFile) -> None:
    _tree(tar)
    for name in ("proc", "sys", "run", "mnt", "opt", "srv"):
        _entry(tar, name, tarfile.DIRTYPE, 0o755)
    _file(tar, "etc/alpine-release", b"3.18.0\n")
    _file(tar, "sbin/apk", b"", 0o755)
    for name in ("etc/ssl", "etc/ssl/certs"):
        _entry(tar, name, tarfile.DIRTYPE, 0o755)
    _file(tar, "etc/ssl/certs/ca-certificates.crt", b"# no authorities\n")
    _file(tar, "usr/bin/wget", _WGET, 0o755)


def _tree(tar: tarfile.TarFile) -> None:
    for name in _DIRECTORIES:
        _entry(tar, name, tarfile.DIRTYPE, {"tmp": 0o1777, "root": 0o700}.get(name, 0o755))
    _file(tar, "bin/busybox", Path("/bin/busybox").read_bytes(), 0o755)
    listed = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True)
    for applet in listed.stdout.split():
        if applet != "busybox":
            # Links of the other kind: who compares trees reads each of them.
            _entry(tar, f"bin/{applet}", tarfile.SYMTYPE, 0o755, "busybox")
    if "ttysize" not in listed.stdout.split():
        _file(tar, "bin/ttysize", _TTYSIZE, 0o755)
    if "adduser" not in listed.stdout.split():
        _file(tar, "usr/sbin/adduser", _ADDUSER, 0o755)
    _file(tar, "etc/passwd", _PASSWD.encode())
    _file(tar, "etc/group", _GROUP.encode())
