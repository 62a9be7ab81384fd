"""A real server that speaks S3, SeaweedFS, on loopback; always ended by its starter."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pybuild.remotecache.places.s3bucket import Bucket
from pybuild.remotecache.places.s3options import S3Place
from tests.ports import free_ports

_LIFETIME_S = 1800
_START_S = 60.0
_PORTS = ("master", "volume", "filer", "s3")


@dataclass(frozen=True)
class S3Server:
    """Where it listens, and one bucket on it."""

    port: int
    key: str
    secret: str
    bucket: str = "caches"

    def url(self, prefix: str, port: int = 0) -> str:
        """Return the words of ``--cache``; the credentials come from the environment."""
        return f"s3://{self.bucket}/{prefix}?region=us-east-1&endpoint_url={self.endpoint(port)}"

    def attrs(self, prefix: str) -> str:
        """Return the words of ``--cache-to``, credentials and all."""
        return (
            f"type=s3,bucket={self.bucket},region=us-east-1,prefix={prefix},"
            f"endpoint_url={self.endpoint()},use_path_style=true,"
            f"access_key_id={self.key},secret_access_key={self.secret}"
        )

    def endpoint(self, port: int = 0) -> str:
        return f"http://127.0.0.1:{port or self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret}

    def place(self, **more: Any) -> S3Place:
        return S3Place(
            bucket=self.bucket,
            region="us-east-1",
            endpoint_url=self.endpoint(),
            path_style=True,
            access_key_id=self.key,
            secret_access_key=self.secret,
            **more,
        )


def weed() -> str | None:
    """Return the server's program; None where it is not installed."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


@contextlib.contextmanager
def s3_server(where: Path) -> Generator[S3Server]:
    """Run a server in *where*; it ends by itself after half an hour, should nobody stop it."""
    program = weed()
    assert program is not None
    (where / "data").mkdir(parents=True)
    key, secret = secrets.token_hex(8), secrets.token_hex(16)
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": key, "secretKey": secret}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    (where / "s3.json").write_text(json.dumps({"identities": [identity]}))
    ports = free_ports(2 * len(_PORTS))
    words = ["-logtostderr", "server", f"-dir={where / 'data'}", "-ip=127.0.0.1"]
    words += ["-ip.bind=127.0.0.1", "-s3"]
    words += [f"-s3.config={where / 's3.json'}", "-master.telemetry.url="]
    words += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=20"]
    # By its defaults it takes nothing where less than 1 % of the disk is free, however much that is.
    words += ["-master.volumeSizeLimitMB=64", "-volume.minFreeSpace=64MiB"]
    for name, port, grpc in zip(_PORTS, ports[::2], ports[1::2], strict=True):
        words += [f"-{name}.port={port}", f"-{name}.port.grpc={grpc}"]
    with (where / "log").open("wb") as log:
        process = subprocess.Popen(
            ["timeout", "-s", "KILL", str(_LIFETIME_S), program, *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=where,
            env={"PATH": os.environ.get("PATH", ""), "HOME": str(where)},
            start_new_session=True,
        )
    server = S3Server(ports[-2], key, secret)
    try:
        _make_bucket(server, where / "log")
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)
        for port in ports:  # killed as it is, it leaves its sockets beside those of everybody
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink()


def _make_bucket(server: S3Server, log: Path) -> None:
    import asyncio

    async def work() -> bool:
        bucket = Bucket(server.place())
        try:
            async with bucket.asking("make it") as client:
                await client.create_bucket(Bucket=server.bucket)
            return True
        except Exception:  # noqa: BLE001  it is not up yet, in one of many ways
            return False
        finally:
            await bucket.close()

    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 1):
            if asyncio.run(work()):
                return
        time.sleep(0.2)
    raise RuntimeError(f"no S3 after {_START_S} s:\n{log.read_text(errors='replace')[-2000:]}")
