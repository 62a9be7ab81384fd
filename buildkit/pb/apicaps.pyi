# Written by scripts/protos.
# fmt: off

import typing as _t

from google.protobuf.message import Message as _Message

class APICap(_Message):
    ID: str
    Enabled: bool
    Deprecated: bool
    DisabledReason: str
    DisabledReasonMsg: str
    DisabledAlternative: str
    def __init__(self, *, ID: str | None = ..., Enabled: bool | None = ..., Deprecated: bool | None = ..., DisabledReason: str | None = ..., DisabledReasonMsg: str | None = ..., DisabledAlternative: str | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["ID", "Enabled", "Deprecated", "DisabledReason", "DisabledReasonMsg", "DisabledAlternative"]) -> None: ...
