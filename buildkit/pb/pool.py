"""Makes message classes from the compiled descriptors, in a pool of their own.

Generated ``_pb2`` modules refuse every other major version of the runtime and share one process-wide
pool in which two packages with the same message clash. Descriptors do neither. The modules
beside this one only name their file; what is in them is told to type checkers by the stubs
(``.pyi``), written from the same descriptors by ``scripts/protos``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

DESCRIPTORS = Path(__file__).with_name("descriptors.bin")
"""All compiled files in a row, each after those it needs and behind its length in 4 bytes."""


def fill(module: dict[str, Any], *files: str) -> None:
    """Put the messages and enum values of *files* into a module's globals, by their own names."""
    pool = _pool()
    for name in files:
        file = pool.FindFileByName(name)
        for message, descriptor in file.message_types_by_name.items():
            module[message] = GetMessageClass(descriptor)
        for enum in file.enum_types_by_name.values():
            for value in enum.values:
                module[value.name] = value.number


@cache
def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    data = DESCRIPTORS.read_bytes()
    at = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        pool.AddSerializedFile(data[at + 4 : end])
        at = end
    return pool
