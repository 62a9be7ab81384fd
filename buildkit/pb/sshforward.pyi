# Written by scripts/protos.
# fmt: off

import typing as _t

from google.protobuf.message import Message as _Message

class CheckAgentRequest(_Message):
    ID: str
    def __init__(self, *, ID: str | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["ID"]) -> None: ...

class CheckAgentResponse(_Message):
    def __init__(self) -> None: ...

class BytesMessage(_Message):
    data: bytes
    def __init__(self, *, data: bytes | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["data"]) -> None: ...
