# Written by scripts/protos.
# fmt: off

import typing as _t

from google.protobuf.message import Message as _Message

class HealthCheckRequest(_Message):
    service: str
    def __init__(self, *, service: str | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["service"]) -> None: ...

class HealthCheckResponse(_Message):
    # ServingStatus
    UNKNOWN: _t.Final = 0
    SERVING: _t.Final = 1
    NOT_SERVING: _t.Final = 2
    SERVICE_UNKNOWN: _t.Final = 3

    status: int
    def __init__(self, *, status: int | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["status"]) -> None: ...
