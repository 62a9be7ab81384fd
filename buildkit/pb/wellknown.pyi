# Written by scripts/protos.
# fmt: off

import typing as _t
from collections import abc as _abc

from google.protobuf.internal import containers as _c
from google.protobuf.message import Message as _Message

class Empty(_Message):
    def __init__(self) -> None: ...

class FieldMask(_Message):
    @property
    def paths(self) -> _c.RepeatedScalarFieldContainer[str]: ...
    def __init__(self, *, paths: _abc.Iterable[str] | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["paths"]) -> None: ...

class Timestamp(_Message):
    seconds: int
    nanos: int
    def __init__(self, *, seconds: int | None = ..., nanos: int | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["seconds", "nanos"]) -> None: ...

class Any(_Message):
    type_url: str
    value: bytes
    def __init__(self, *, type_url: str | None = ..., value: bytes | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["type_url", "value"]) -> None: ...
