# Written by scripts/protos.
# fmt: off

import typing as _t
from collections import abc as _abc

from google.protobuf.internal import containers as _c
from google.protobuf.message import Message as _Message

class BytesMessage(_Message):
    data: bytes
    def __init__(self, *, data: bytes | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["data"]) -> None: ...

class CredentialsRequest(_Message):
    Host: str
    def __init__(self, *, Host: str | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["Host"]) -> None: ...

class CredentialsResponse(_Message):
    Username: str
    Secret: str
    def __init__(self, *, Username: str | None = ..., Secret: str | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["Username", "Secret"]) -> None: ...

class FetchTokenRequest(_Message):
    ClientID: str
    Host: str
    Realm: str
    Service: str
    @property
    def Scopes(self) -> _c.RepeatedScalarFieldContainer[str]: ...
    def __init__(self, *, ClientID: str | None = ..., Host: str | None = ..., Realm: str | None = ..., Service: str | None = ..., Scopes: _abc.Iterable[str] | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["ClientID", "Host", "Realm", "Service", "Scopes"]) -> None: ...

class FetchTokenResponse(_Message):
    Token: str
    ExpiresIn: int
    IssuedAt: int
    def __init__(self, *, Token: str | None = ..., ExpiresIn: int | None = ..., IssuedAt: int | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["Token", "ExpiresIn", "IssuedAt"]) -> None: ...

class GetTokenAuthorityRequest(_Message):
    Host: str
    Salt: bytes
    def __init__(self, *, Host: str | None = ..., Salt: bytes | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["Host", "Salt"]) -> None: ...

class GetTokenAuthorityResponse(_Message):
    PublicKey: bytes
    def __init__(self, *, PublicKey: bytes | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["PublicKey"]) -> None: ...

class VerifyTokenAuthorityRequest(_Message):
    Host: str
    Payload: bytes
    Salt: bytes
    def __init__(self, *, Host: str | None = ..., Payload: bytes | None = ..., Salt: bytes | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["Host", "Payload", "Salt"]) -> None: ...

class VerifyTokenAuthorityResponse(_Message):
    Signed: bytes
    def __init__(self, *, Signed: bytes | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["Signed"]) -> None: ...
