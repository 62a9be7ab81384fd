"""Measure the HTTP/2 layer without I/O: ``python -m benchmarks.http2 [--mib 1024]``.

Workloads: messages of 32 KiB in DATA frames of 16 KiB (what Go's clients send) and in whole frames,
from one connection to another in memory; and small calls, both sides together. Printed is processor
time. With the library h2 installed, it does the same work beside.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from pybuild.net.http2.connection import Connection
from pybuild.net.http2.events import Data, Event, Fields

MESSAGE = bytes(range(256)) * 128
PREFIX = b"\0" + len(MESSAGE).to_bytes(4, "big")
SMALL = b"\0\0\0\0\5hello"
BATCH = 8
REQUEST: Fields = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/moby.buildkit.v1.Control/Session"),
    (b":authority", b"localhost"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
    (b"user-agent", b"grpc-go/1.70"),
]
RESPONSE: Fields = [(b":status", b"200"), (b"content-type", b"application/grpc")]
TRAILERS: Fields = [(b"grpc-status", b"0"), (b"grpc-message", b"")]


def main() -> None:
    """Print a line for each workload."""
    parser = argparse.ArgumentParser(description="measure the HTTP/2 layer")
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--calls", type=int, default=5_000)
    options = parser.parse_args()
    size = options.mib << 20
    for frame in (16 << 10, 1 << 20):
        _print_bulk(f"ours, frames of {frame >> 10} KiB", _timed(partial(_ours, size, frame)), size)
    _print_calls("ours", _timed(lambda: _our_calls(options.calls)), options.calls)
    if importlib.util.find_spec("h2"):
        _print_bulk("h2, frames of 16 KiB", _timed(lambda: _theirs(size)), size)
        _print_calls("h2", _timed(lambda: _their_calls(options.calls)), options.calls)


def _timed(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _print_bulk(name: str, took_s: float, size: int) -> None:
    print(f"{name}: sent and received at {size / took_s / (1 << 20):.0f} MiB/s")


def _print_calls(name: str, took_s: float, calls: int) -> None:
    print(f"{name}: {took_s / calls * 1e6:.0f} us a call, both sides")


def _move(source: Connection, target: Connection) -> list[Event]:
    return target.receive(b"".join(source.output()))


def _pair() -> tuple[Connection, Connection]:
    client, server = Connection(client=True), Connection(client=False)
    for _ in range(2):
        _move(client, server)
        _move(server, client)
    return client, server


def _ours(size: int, frame: int) -> None:
    client, server = _pair()
    client.out.peer.max_frame = frame
    stream_id = client.open(REQUEST)
    _move(client, server)
    for _ in range(size // len(MESSAGE) // BATCH):
        for _ in range(BATCH):
            client.send_data(stream_id, PREFIX, MESSAGE)
        pieces: list[bytes] = []
        for event in _move(client, server):
            assert isinstance(event, Data)
            pieces.append(b"".join(event.pieces))
            server.consumed(stream_id, event.size)
        assert len(b"".join(pieces)) == BATCH * (len(PREFIX) + len(MESSAGE))
        _move(server, client)


def _our_calls(calls: int) -> None:
    client, server = _pair()
    for _ in range(calls):
        stream_id = client.open(REQUEST)
        client.send_data(stream_id, SMALL, end=True)
        for event in _move(client, server):
            if isinstance(event, Data):
                server.consumed(stream_id, event.size)
        server.send_headers(stream_id, RESPONSE)
        server.send_data(stream_id, SMALL)
        server.answer(stream_id, TRAILERS)
        assert len(_move(server, client)) == 3


def _their_pair() -> tuple[Any, Any]:
    h2: Any = importlib.import_module("h2.connection")
    config: Any = importlib.import_module("h2.config").H2Configuration
    client = h2.H2Connection(config(client_side=True, header_encoding=None))
    server = h2.H2Connection(config(client_side=False, header_encoding=None))
    client.initiate_connection()
    server.initiate_connection()
    server.update_settings({4: 16 << 20})
    server.increment_flow_control_window((64 << 20) - 65_535)
    for _ in range(3):
        server.receive_data(client.data_to_send())
        client.receive_data(server.data_to_send())
    return client, server


def _theirs(size: int) -> None:
    client, server = _their_pair()
    client.send_headers(1, REQUEST)
    body = PREFIX + MESSAGE
    for _ in range(size // len(MESSAGE) // BATCH):
        for _ in range(BATCH):
            for at in range(0, len(body), 16_384):
                client.send_data(1, body[at : at + 16_384])
        pieces: list[bytes] = []
        for event in server.receive_data(client.data_to_send()):
            data = getattr(event, "data", None)
            if data is not None:
                pieces.append(data)
                server.acknowledge_received_data(event.flow_controlled_length, 1)
        assert len(b"".join(pieces)) == BATCH * len(body)
        if answer := server.data_to_send():
            client.receive_data(answer)


def _their_calls(calls: int) -> None:
    client, server = _their_pair()
    for number in range(calls):
        stream_id = 1 + 2 * number
        client.send_headers(stream_id, REQUEST)
        client.send_data(stream_id, SMALL, end_stream=True)
        for event in server.receive_data(client.data_to_send()):
            if getattr(event, "data", None) is not None:
                server.acknowledge_received_data(event.flow_controlled_length, stream_id)
        server.send_headers(stream_id, RESPONSE)
        server.send_data(stream_id, SMALL)
        server.send_headers(stream_id, TRAILERS, end_stream=True)
        client.receive_data(server.data_to_send())


if __name__ == "__main__":
    main()
