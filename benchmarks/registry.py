"""Measure ``pybuild registry serve``: ``python -m benchmarks.registry [--mib 256]``.

One client on the same machine pushes a blob of random bytes, pulls it twice and asks for it 500
times over one connection. Printed is the time by the clock and the server's processor time; with
Debian's docker-registry on PATH, it does the same beside.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

QUESTIONS = 500
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print a line for each server and workload."""
    parser = argparse.ArgumentParser(description="measure the registry server")
    parser.add_argument("--mib", type=int, default=256)
    data = os.urandom(parser.parse_args().mib << 20)
    with tempfile.TemporaryDirectory() as folder:
        ours = [sys.executable, "-m", "pybuild", "registry", "serve", "--root", f"{folder}/store"]
        with server("pybuild", lambda port: [*ours, "--addr", f"127.0.0.1:{port}"]) as one:
            measure(*one, data)
        peer = shutil.which("docker-registry")
        if peer is None:
            print("docker-registry is not installed")
            return
        with server("docker-registry", lambda port: [peer, "serve", config(folder, port)]) as one:
            measure(*one, data)


def config(folder: str, port: int) -> str:
    """Write docker-registry's configuration; JSON is YAML."""
    path = Path(folder, "config.json")
    storage = {"filesystem": {"rootdirectory": f"{folder}/peer"}}
    value = {"version": "0.1", "log": {"level": "error"}, "storage": storage}
    path.write_text(json.dumps({**value, "http": {"addr": f"127.0.0.1:{port}"}}))
    return str(path)


@contextmanager
def server(
    name: str, command: Callable[[int], list[str]]
) -> Generator[tuple[str, int, http.client.HTTPConnection]]:
    """Run a server; gives its name, its process and a connection to it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(command(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield name, process.pid, http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    finally:
        process.terminate()
        process.wait(60)


def measure(name: str, pid: int, client: http.client.HTTPConnection, data: bytes) -> None:
    """Push, pull and ask."""
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    blob = f"/v2/bench/blobs/{digest}"

    def push() -> None:
        client.request("POST", "/v2/bench/blobs/uploads/", headers={"Content-Length": "0"})
        begun = client.getresponse()
        begun.read()
        place = (begun.getheader("Location") or "").removeprefix(f"http://127.0.0.1:{client.port}")
        place += ("&" if "?" in place else "?") + f"digest={digest}"
        client.request("PUT", place, data, {"Content-Type": "application/octet-stream"})
        done = client.getresponse()
        done.read()
        assert done.status == 201, done.status

    def pull() -> None:
        client.request("GET", blob)
        answer, buffer, count = client.getresponse(), bytearray(1 << 20), 0
        while got := answer.readinto(buffer):
            count += got
        assert count == len(data)

    def ask() -> None:
        for _ in range(QUESTIONS):
            client.request("HEAD", blob)
            answer = client.getresponse()
            answer.read()
            assert answer.status == 200

    for title, work in (("push", push), ("pull", pull), ("pull again", pull), ("500 HEAD", ask)):
        begun, used = time.perf_counter(), processor_s(pid)
        work()
        took, used = time.perf_counter() - begun, processor_s(pid) - used
        speed = "" if work is ask else f"{len(data) / took / 1e6:8.0f} MB/s"
        print(f"{name:<16}{title:<12}{took:8.2f} s{used:8.2f} s of the server's processor{speed}")


def processor_s(pid: int) -> float:
    """Return the processor time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    main()
