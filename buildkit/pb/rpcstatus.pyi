# Written by scripts/protos.
# fmt: off

import typing as _t
from collections import abc as _abc

from google.protobuf.internal import containers as _c
from google.protobuf.message import Message as _Message

from pybuild.buildkit.pb import wellknown as _wellknown

class Status(_Message):
    code: int
    message: str
    @property
    def details(self) -> _c.RepeatedCompositeFieldContainer[_wellknown.Any]: ...
    def __init__(self, *, code: int | None = ..., message: str | None = ..., details: _abc.Iterable[_wellknown.Any] | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["code", "message", "details"]) -> None: ...
