"""Reading requests."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from pybuild.net.grpc.status import Code, RpcError

M = TypeVar("M", bound=Message)


def parse(message: M, data: bytes | None) -> M:
    """Fill *message* from a client's bytes.

    Raises:
        RpcError: it sent nothing, or something else.
    """
    if data is None:
        raise RpcError(Code.INTERNAL, "the call ended without a request")
    try:
        message.ParseFromString(data)
    except (DecodeError, ValueError) as error:
        raise RpcError(Code.INVALID_ARGUMENT, f"cannot read the request: {error}") from error
    return message
