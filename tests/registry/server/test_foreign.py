"""Tokens of another issuer are believed by its public keys, and only as it signed them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pybuild.model.errors import UsageError
from pybuild.model.reference import Reference
from pybuild.registry.client.credentials import Credential, StaticCredentials
from pybuild.registry.server.access import MEMBERS, Access, Caller
from pybuild.registry.server.foreign import ForeignIssuer, read_keys
from pybuild.registry.server.routes import Permission
from pybuild.registry.server.settings import RegistrySettings
from pybuild.registry.server.tokens import BadToken
from tests.registry.conftest import client, run
from tests.registry.server.serving import served
from tests.registry.servers import TokenServer, serve

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
P384 = ec.generate_private_key(ec.SECP384R1())


def es256(data: bytes) -> bytes:
    r, s = utils.decode_dss_signature(EC.sign(data, ec.ECDSA(SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


SIGNERS: dict[str, tuple[Any, Callable[[bytes], bytes]]] = {
    "RS256": (RSA.public_key(), lambda data: RSA.sign(data, padding.PKCS1v15(), SHA256())),
    "ES256": (EC.public_key(), es256),
    "EdDSA": (ED.public_key(), ED.sign),
}


def signed(algorithm: str, sign: Callable[[bytes], bytes], **more: Any) -> str:
    claims = {
        "iss": "auth.test",
        "aud": ["other", "registry.test"],
        "sub": "ann",
        "exp": 2000,
        "access": [{"type": "repository", "name": "a", "actions": ["pull"]}],
        **more,
    }
    parts = [json.dumps(part).encode() for part in ({"alg": algorithm}, claims)]
    text = ".".join(encoded(part) for part in parts)
    return f"{text}.{encoded(sign(text.encode()))}"


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", sorted(SIGNERS))
def test_a_token_signed_by_any_of_the_keys_counts(algorithm: str) -> None:
    issuer = ForeignIssuer("auth.test", [key for key, _ in SIGNERS.values()])
    token = signed(algorithm, SIGNERS[algorithm][1])
    caller = issuer.caller(token, "registry.test", 1000.0)
    assert caller == Caller("ann", frozenset({("a", Permission.PULL)}), catalog=False)
    for other, now in (("elsewhere.test", 1000.0), ("registry.test", 9000.0)):
        with pytest.raises(BadToken):
            issuer.caller(token, other, now)
    with pytest.raises(BadToken):
        issuer.caller(signed(algorithm, SIGNERS[algorithm][1], iss="x"), "registry.test", 1000.0)
    with pytest.raises(BadToken):
        issuer.caller(token[:-8] + "AAAAAAAA", "registry.test", 1000.0)


def test_a_key_decides_the_algorithm_and_not_the_token() -> None:
    """A public key is no secret, so it must never be taken for one of HMAC's."""
    issuer = ForeignIssuer("auth.test", [SIGNERS["RS256"][0], P384.public_key()])
    for algorithm in ("HS256", "none", "ES256", "EdDSA", ""):
        with pytest.raises(BadToken):
            token = signed(algorithm, SIGNERS["RS256"][1])
            issuer.caller(token, "registry.test", 1000.0)
    with pytest.raises(BadToken):
        issuer.caller(signed("ES256", lambda data: b"\0" * 64), "registry.test", 1000.0)


def test_keys_are_read_from_pem(tmp_path: Path) -> None:
    path = tmp_path / "keys.pem"
    pem = [
        key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        for key, _ in SIGNERS.values()
    ]
    path.write_bytes(b"some words\n" + b"".join(pem))
    assert len(read_keys(str(path))) == 3
    for text in (b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"):
        path.write_bytes(text)
        with pytest.raises(UsageError):
            read_keys(str(path))
    with pytest.raises(UsageError):
        read_keys(str(tmp_path / "nothing"))


@pytest.mark.slow
def test_our_client_gets_a_token_from_the_issuer_and_our_server_takes_it(tmp_path: Path) -> None:
    issuer = TokenServer(tmp_path, users={"ann": "secret"})

    async def work() -> None:
        async with served(tmp_path / "store") as one:
            await one.push_image("a", "v1")
        async with serve(issuer.handle) as auth:
            settings = RegistrySettings(
                access=Access((MEMBERS,)),
                issuer=issuer.issuer,
                issuer_keys=str(issuer.certificate),
                issuer_url=f"http://{auth}/token",
                service=issuer.service,
                grace_s=0.2,
            )
            async with served(tmp_path / "store", settings) as one:
                assert (await one.ask("GET", "/v2/a/manifests/v1")).status == 401
                mine = StaticCredentials({one.host: Credential("ann", "secret")})
                async with client(credentials=mine) as ours:
                    reference = Reference.parse(f"{one.host}/a:v1")
                    assert (await ours.resolve(reference)).size > 0
                wrong = StaticCredentials({one.host: Credential("ann", "guess")})
                async with client(credentials=wrong) as ours:
                    with pytest.raises(Exception, match="401"):
                        await ours.resolve(reference)

    run(work())
