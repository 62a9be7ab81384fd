# Written by scripts/protos.
# fmt: off

import typing as _t
from collections import abc as _abc

from google.protobuf.internal import containers as _c
from google.protobuf.message import Message as _Message

class Packet(_Message):
    # PacketType
    STAT: _t.Final = 0
    REQ: _t.Final = 1
    DATA: _t.Final = 2
    FIN: _t.Final = 3
    ERR: _t.Final = 4

    type: int
    @property
    def stat(self) -> _Stat: ...
    ID: int
    data: bytes
    def __init__(self, *, type: int | None = ..., stat: _Stat | None = ..., ID: int | None = ..., data: bytes | None = ...) -> None: ...
    def HasField(self, field_name: _t.Literal["stat"]) -> bool: ...
    def ClearField(self, field_name: _t.Literal["type", "stat", "ID", "data"]) -> None: ...

class Stat(_Message):
    path: str
    mode: int
    uid: int
    gid: int
    size: int
    modTime: int
    linkname: str
    devmajor: int
    devminor: int
    @property
    def xattrs(self) -> _c.ScalarMap[str, bytes]: ...
    def __init__(self, *, path: str | None = ..., mode: int | None = ..., uid: int | None = ..., gid: int | None = ..., size: int | None = ..., modTime: int | None = ..., linkname: str | None = ..., devmajor: int | None = ..., devminor: int | None = ..., xattrs: _abc.Mapping[str, bytes] | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["path", "mode", "uid", "gid", "size", "modTime", "linkname", "devmajor", "devminor", "xattrs"]) -> None: ...

_Stat: _t.TypeAlias = Stat
