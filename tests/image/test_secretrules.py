"""Rules by which secrets are found in files, and what looks like some and is none."""

from __future__ import annotations

import base64
import random
import string

import pytest

from pybuild.image.layer.secretrules import (
    Leak,
    SecretValue,
    has_checksum,
    is_example,
    is_telling,
    leaks_in,
)

LETTERS = string.ascii_letters + string.digits


def letters(count: int, seed: int = 1) -> str:
    return "".join(random.Random(seed).choices(LETTERS, k=count))


def pem(kind: str = "", size: int = 600) -> str:
    text = base64.encodebytes(random.Random(2).randbytes(size)).decode()
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{text}-----END {kind}PRIVATE KEY-----\n"


ENCRYPTED = pem("RSA ").replace(
    "KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0A1B\n\n", 1
)
JSON_KEY = '{"private_key": "' + pem().replace("\n", "\\n") + '"}'

TOKENS = [
    ("private key", pem()),
    ("private key", pem("RSA ")),
    ("private key", pem("EC ", 121)),
    ("private key", pem("OPENSSH ", 400)),
    ("private key", ENCRYPTED),
    ("private key", JSON_KEY),
    ("private key", pem().replace("\n", "\r\n")),
    ("private key", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n" + letters(64)),
    ("GitHub token", f"token: ghp_{letters(36)}"),
    ("GitHub token", f"https://x:ghs_{letters(36)}@github.com"),
    ("GitHub token", f"github_pat_{letters(22)}_{letters(59)}"),
    ("Docker Hub token", f"dckr_pat_{letters(27)}"),
    ("GitLab token", f"CI='glpat-{letters(20)}'"),
    ("npm token", f"//r/:_authToken=npm_{letters(36)}"),
    ("PyPI token", f"pypi-AgEIcHlwaS5vcmc{letters(90)}"),
    ("AWS key", "id = AKIA" + "2E0A8F3B244C9986"),
    ("Stripe key", f"sk_live_{letters(24)}"),
    ("Slack token", f"xoxb-123456789012-{letters(24)}"),
]


def kinds(path: str, text: str) -> list[str]:
    return [leak.kind for leak in leaks_in(path, text.encode())]


@pytest.mark.parametrize(("kind", "text"), TOKENS, ids=range(len(TOKENS)))
def test_each_kind_is_found_in_any_file(kind: str, text: str) -> None:
    leaks = list(leaks_in("app/settings.txt", f"first\n{text}\nlast".encode()))
    assert leaks == [Leak("app/settings.txt", 2, kind)]


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{'A' * 64}\n",
        "-----BEGIN PUBLIC KEY-----\n" + letters(64),
        "-----BEGIN CERTIFICATE-----\n" + letters(64),
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_" + "x" * 36,
        "ghp_" + letters(12),
        "sk_test_" + letters(24),
        "xghp_" + letters(36) + "y",
    ],
)
def test_examples_and_bare_words_are_no_secrets(text: str) -> None:
    assert kinds("app/settings.txt", text) == []


def test_programs_are_not_searched() -> None:
    assert kinds("usr/local/bin/tool", "\0ELF" + pem()) == []


def test_files_of_packages_and_tests_count_only_where_the_token_proves_itself() -> None:
    places = [
        "usr/share/doc/openssl/key.pem",
        "usr/share/go-1.19/src/crypto/tls/example_test.go",
        "opt/app/src/test_tls.py",
        "usr/lib/ruby/net/test.pem",
        "app/node_modules/tls/key.pem",
        "opt/venv/lib/python3.12/site-packages/x/key.pem",
        "root/go/pkg/mod/golang.org/x/crypto/ssh/keys.go",
        "srv/app/tests/server.key",
        "etc/ssl/private/ssl-cert-snakeoil.key",
    ]
    for place in places:
        assert is_example(place)
        assert kinds(place, pem()) == []
        assert kinds(place, f"ghp_{letters(36)}") == []
        assert kinds(place, f"dckr_pat_{letters(27)}") == ["Docker Hub token"]
    for place in [
        "etc/app/latest.pem",
        "usr/share/nginx/html/a.key",
        "root/.ssh/id_rsa",
        "usr/src/app/server.key",
    ]:
        assert not is_example(place)
        assert kinds(place, pem()) == ["private key"]


def test_a_checksum_tells_a_token_of_github_from_its_like() -> None:
    import zlib

    value, digits = zlib.crc32(b"0123456789abcdefghijABCDEFGHIJ"), ""
    order = string.digits + string.ascii_uppercase + string.ascii_lowercase
    while value:
        value, digit = divmod(value, 62)
        digits = order[digit] + digits
    token = "ghp_0123456789abcdefghijABCDEFGHIJ" + digits.rjust(6, "0")
    assert has_checksum(token.encode())
    assert not has_checksum(token.swapcase().encode())
    assert kinds("app/node_modules/a/b.js", token) == ["GitHub token"]


@pytest.mark.parametrize(
    ("path", "text", "line", "kind"),
    [
        ("app/.env", "PORT=80\nDB_PASSWORD=hunter2\n", 2, "value of DB_PASSWORD"),
        (".env.production", "export API_KEY='abc'", 1, "value of API_KEY"),
        ("app/.env", "DATABASE_URL=postgres://u:secret@db/x", 1, "value of DATABASE_URL"),
        ("root/.npmrc", "a=b\n//r.example/:_authToken=abcd", 2, "npm login"),
        ("root/.netrc", "machine a\n login b\n password c", 3, "password"),
        ("root/.docker/config.json", '{"auths":\n{"r": {"auth": "dTpw"}}}', 2, "registry login"),
        ("root/.pypirc", "[pypi]\nusername=a\npassword = b", 3, "password"),
        ("root/.git-credentials", "https://me:secret@git.example", 1, "password in a URL"),
        ("src/.git/config", "url = https://me:secret@git.example", 1, "password in a URL"),
        ("root/.aws/credentials", "[a]\naws_secret_access_key = b", 2, "AWS key"),
        ("root/.kube/config", "users:\n- user:\n    token: abcdefgh", 3, "cluster login"),
        ("root/.pgpass", "# a\ndb:5432:x:me:secret", 2, "password"),
    ],
)
def test_files_that_are_known_by_name(path: str, text: str, line: int, kind: str) -> None:
    assert list(leaks_in(path, text.encode())) == [Leak(path, line, kind)]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("app/.env", "PORT=80\nNEXT_PUBLIC_KEY=abc\nTOKEN=\nSECRET=${SECRET}\nKEY=<yours>"),
        ("app/.env.example", "DB_PASSWORD=hunter2"),
        ("app/.envrc.md", "DB_PASSWORD=hunter2"),
        ("root/.npmrc", "//r.example/:_authToken=${NPM_TOKEN}\nsave=true"),
        ("root/.docker/config.json", '{"auths": {"r": {}}, "credsStore": "pass"}'),
        ("app/config.json", '{"auth": "dTpw"}'),
        ("src/.git/config", "url = https://git.example/a.git"),
        ("app/node_modules/x/.env", "DB_PASSWORD=hunter2"),
    ],
)
def test_files_of_these_names_without_secrets(path: str, text: str) -> None:
    assert list(leaks_in(path, text.encode())) == []


def test_values_of_the_build_are_found_in_programs_and_packages() -> None:
    values = [SecretValue("a", b"Staple-7-battery", "1"), SecretValue("b", b"hunter22", "2")]
    data = b"\0ELF\n Staple-7-battery\n"
    for path in ("usr/bin/tool", "app/node_modules/x/index.js"):
        assert list(leaks_in(path, data, 5, values)) == [Leak(path, 7, "value of the secret a")]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"hunter2", False),
        (b"hunter22", True),
        (b"postgres", False),
        (b"production", False),
        (b"Postgres", True),
        (b"correcthorsebattery", True),
        (b"", False),
    ],
)
def test_words_that_are_in_any_image_are_not_looked_for(value: bytes, expected: bool) -> None:
    assert is_telling(value) == expected
