# Written by scripts/protos.
# fmt: off

import typing as _t
from collections import abc as _abc

from google.protobuf.internal import containers as _c
from google.protobuf.message import Message as _Message

class GetSecretRequest(_Message):
    ID: str
    @property
    def annotations(self) -> _c.ScalarMap[str, str]: ...
    def __init__(self, *, ID: str | None = ..., annotations: _abc.Mapping[str, str] | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["ID", "annotations"]) -> None: ...

class GetSecretResponse(_Message):
    data: bytes
    def __init__(self, *, data: bytes | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["data"]) -> None: ...
