"""The two channels between the main process and the zygote, and what is said on them.

*Control*, one SOCK_SEQPACKET pair per zygote, carries small messages, some with descriptors:

    main → zygote   ("start", job, StepStart or a function's name) + fds
                    ("kill", job, signal)    ("rest",)
    zygote → main   ("ready", rung, detail)  ("dead", kind, message, hints)  ("exit", job, StepExit)

*Job*, one SOCK_STREAM pair per job, carries what may be large: the request, then progress and the
result; a step says ``("warning", text)`` for what it goes on without, and ``("ready", …)`` before its
exec, which closes its end, and with that the listener of its filter. It goes straight between
the main process and the child; the zygote never reads it. A job channel that ends without a word
means that the child died.

Everything is `marshal`: a C module, in both processes of the same interpreter. It is not safe
against hostile bytes and need not be: a step has lost the channel before its program runs, and a
worker runs our own code with our own rights.
"""

from __future__ import annotations

import marshal
import struct

TYPE_CHECKING = False  # typing takes 16 ms to import, and checkers know the name
if TYPE_CHECKING:
    from _socket import socket as RawSocket
    from typing import Any

RECORDER_FAILED = -2
"""The status of a step whose recorder ended with an error: what it made is worth nothing."""

_LENGTH = struct.Struct("=I")
CONTROL_BYTES = 64 * 1024
MAX_MESSAGE_BYTES = 1 << 30
MOST_DESCRIPTORS = 64
"""That come with one message of a job; the kernel drops what the receiver left no room for."""


def frame(message: Any) -> bytes:
    """Return *message* as bytes for a job channel."""
    data = marshal.dumps(message)
    if len(data) > MAX_MESSAGE_BYTES:
        raise ValueError(f"message of {len(data)} bytes: at most {MAX_MESSAGE_BYTES}")
    return _LENGTH.pack(len(data)) + data


class Reassembler:
    """Makes messages of the pieces that a job channel delivers."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        self._buffer += data
        messages: list[Any] = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                break
            messages.append(marshal.loads(bytes(self._buffer[_LENGTH.size : end])))
            del self._buffer[:end]
        return messages


def receive_one(channel: RawSocket) -> Any:
    """Return the next message of a blocking job channel; EOFError when it has ended."""
    (length,) = _LENGTH.unpack(_exactly(channel, _LENGTH.size))
    return marshal.loads(_exactly(channel, length))


def _exactly(channel: RawSocket, size: int) -> bytearray:
    data = bytearray(size)
    at = 0
    with memoryview(data) as rest:
        while at < size:
            count = channel.recv_into(rest[at : at + (1 << 20)])
            if not count:
                raise EOFError("the main process is gone")
            at += count
    return data
