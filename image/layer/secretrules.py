"""The looks of secrets in files: rules by name and by content, chosen to give no false alarm. Pure, lean.

Marks that the matches contain are looked for first, which costs a hundredth of the patterns; in an
alphabet that has one letter for several, so that one mark stands for many. Examples are no secrets: what
a package brought, or lies in a directory of tests, counts only where its issuer made it provable (a
checksum, or a form that nothing else has).
"""

from __future__ import annotations

import re
import zlib

from pybuild.model.border import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

VERSION = 1
"""To be raised with each change of the rules: what older ones passed is searched again."""

LONGEST = 4096
"""No match is longer, so that windows that overlap by it miss none."""


class Leak(NamedTuple):
    """A secret in a layer; not the secret itself.

    Attributes:
        path: in the image, without a slash at its start.
        line: in the file, from 1; 0 where it has none.
        kind: in words.
    """

    path: str
    line: int
    kind: str


class SecretValue(NamedTuple):
    """A secret of the build itself, whose value is looked for as it is.

    Attributes:
        mark: a keyed digest of it, by which a verdict tells that it was looked for.
    """

    id: str
    value: bytes
    mark: str


def is_telling(value: bytes) -> bool:
    """Return whether a value is no word that may be in any file for other reasons."""
    return len(value) >= 16 or (len(value) >= 8 and not (value.isalpha() and value.islower()))


class _Rule(NamedTuple):
    """One kind of secret in any file.

    Attributes:
        mark: a part of every match, in the folded alphabet.
        proves: whether a match proves itself, so that it counts among examples too.
        check: refuses matches that only look like one.
    """

    kind: str
    mark: bytes
    pattern: re.Pattern[bytes]
    proves: Callable[[bytes], bool]
    check: Callable[[bytes], bool]


def _never(_: bytes) -> bool:
    return False


def _is_varied(token: bytes) -> bool:
    """Return whether a token is none of the placeholders: ``xxxx``, ``1111``, ``…EXAMPLE``."""
    return len(set(token)) >= 10 and b"EXAMPLE" not in token.upper()


def _is_key(match: bytes) -> bool:
    return len(set(match[-40:])) >= 15


def has_checksum(token: bytes) -> bool:
    """Return whether the last six characters of GitHub's token are the CRC-32 of those before."""
    text = token.rpartition(b"_")[2]
    value, digits = zlib.crc32(text[:-6]), bytearray()
    while value:
        value, digit = divmod(value, 62)
        digits.append(_DIGITS[digit])
    return bytes(reversed(digits)).rjust(6, b"0") == text[-6:]


_DIGITS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FOLDS = bytes.maketrans(b"ousrK-", b"ppppS_")
_GAP = rb"(?:\s|\\[rn]){1,8}"  # a line's end, also as JSON has it
_KEY = (
    rb"-----BEGIN (?:[A-Z0-9]{1,10} ){0,2}PRIVATE KEY(?: BLOCK)?-----%b"
    rb"(?:[A-Za-z-]{1,30}: [^\n\\]{0,200}%b){0,8}[A-Za-z0-9+/]{40}" % (_GAP, _GAP)
)


def _rule(
    kind: str,
    mark: bytes,
    pattern: bytes,
    proves: Callable[[bytes], bool] = _never,
    check: Callable[[bytes], bool] = _is_varied,
) -> _Rule:
    return _Rule(kind, mark.translate(_FOLDS), re.compile(pattern), proves, check)


_RULES = (
    _rule("private key", b"PRIVATE KEY", _KEY, check=_is_key),
    _rule("GitHub token", b"ghp_", rb"\bgh[pousr]_[A-Za-z0-9]{36}\b", has_checksum),
    _rule("GitHub token", b"_pat_", rb"\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}\b", _is_varied),
    _rule("Docker Hub token", b"_pat_", rb"\bdckr_[po]at_[A-Za-z0-9_-]{27,50}", _is_varied),
    _rule("GitLab token", b"glpat-", rb"\bglpat-[A-Za-z0-9_-]{20,50}"),
    _rule("npm token", b"npm_", rb"\bnpm_[A-Za-z0-9]{36}\b"),
    _rule("PyPI token", b"pypi-AgE", rb"\bpypi-AgE[A-Za-z0-9_-]{60,500}", _is_varied),
    _rule("AWS key", b"AKIA", rb"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    _rule("Stripe key", b"k_live_", rb"\b[sr]k_live_[A-Za-z0-9]{24,99}"),
    _rule("Slack token", b"xox", rb"\bxox[bp]-[0-9]{9,15}-[A-Za-z0-9-]{20,99}"),
)
_MARKS = frozenset(rule.mark for rule in _RULES)

_ASSIGNMENT = re.compile(
    rb"^[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.]*)[ \t]*=[ \t]*[\"']?([^\s\"'#]+)",
    re.MULTILINE,
)
_IN_URL = re.compile(rb"[a-z][a-z0-9+.-]*://[^\s/:@\"']*:([^\s/@\"']{3,})@")
_REFERENCE = re.compile(rb"^(?:\$|%|<|\{\{|\*+$|x+$|(?:change|replace|your|todo|example|none|null|true|false)\b)", re.IGNORECASE)  # fmt: skip
_SAMPLES = ("example", "sample", "template", "tmpl", "dist", "defaults", "schema", "test")
_NETRC = re.compile(rb"\bpassword[ \t]+(\S+)")
_NPMRC = re.compile(
    rb"^[^\n;#]*?_(?:auth|authToken|password)[ \t]*=[ \t]*[\"']?([^\s\"']+)", re.MULTILINE
)
_DOCKER = re.compile(rb"\"(?:auth|identitytoken|registrytoken)\"\s*:\s*\"([^\"]{4,})\"")
_INI_PASSWORD = re.compile(
    rb"^[ \t]*(?:password|aws_secret_access_key)[ \t]*[=:][ \t]*(\S+)", re.MULTILINE
)
_PGPASS = re.compile(rb"^[^#\n:]*:[^\n:]*:[^\n:]*:[^\n:]*:([^\s:]+)$", re.MULTILINE)
_KUBE = re.compile(
    rb"^\s*(?:- )?(?:client-key-data|token|password): *[\"']?([^\s\"']{6,})", re.MULTILINE
)
_BY_NAME = {
    ".dockercfg": ("registry login", _DOCKER),
    ".docker/config.json": ("registry login", _DOCKER),
    "containers/auth.json": ("registry login", _DOCKER),
    ".git-credentials": ("password in a URL", _IN_URL),
    ".git/config": ("password in a URL", _IN_URL),
    ".kube/config": ("cluster login", _KUBE),
    ".netrc": ("password", _NETRC),
    "_netrc": ("password", _NETRC),
    ".npmrc": ("npm login", _NPMRC),
    ".pgpass": ("password", _PGPASS),
    ".pypirc": ("password", _INI_PASSWORD),
    ".aws/credentials": ("AWS key", _INI_PASSWORD),
}
_LAST_NAMES = frozenset(name.rpartition("/")[2] for name in _BY_NAME)
_EXAMPLES = frozenset(
    ("test", "tests", "testdata", "testing", "__tests__", "spec", "fixtures", "certdata")
    + ("example", "examples", "sample", "samples", "doc", "docs", "demo", "demos", "demoCA")
    + ("site-packages", "dist-packages", "node_modules", "nodejs", "gems", "vendor")
)
_PACKAGES = ("usr/include/", "usr/lib/", "usr/lib64/", "usr/share/doc/", "usr/share/perl")
_TEST_FILE = re.compile(r"(?:^|[/_.-])(?:test|example|sample)s?(?:[_.-][^/]*)?\Z")
_MODULES = ("/pkg/mod/", "/registry/src/", "/.m2/repository/")
_THROWAWAY = "ssl-cert-snakeoil.key"  # Debian's package makes one for whoever wants any


def is_example(path: str) -> bool:
    """Return whether what lies at *path* was published by others, or is there for tests."""
    if path.startswith(_PACKAGES) or path.endswith(_THROWAWAY):
        return True
    if _TEST_FILE.search(path) or any(part in f"/{path}" for part in _MODULES):
        return True
    return not _EXAMPLES.isdisjoint(path.split("/")[:-1])


def leaks_in(
    path: str, data: bytes, lines_before: int = 0, values: Sequence[SecretValue] = ()
) -> Iterator[Leak]:
    """Yield the secrets in the bytes of a file, at most one for each kind.

    Args:
        data: the file, or a window of it after *lines_before* lines.
        values: looked for in programs and packages, too.
    """
    for secret in values:
        at = data.find(secret.value[:LONGEST])
        if at >= 0:
            yield Leak(path, lines_before + _line(data, at), f"value of the secret {secret.id}")
    is_package = is_example(path)
    if not is_package and not lines_before:
        yield from _by_name(path, data)
    if b"\0" in data[:8192]:
        return  # programs hold the words by which such things are recognised
    folded = data.translate(_FOLDS)
    present = [mark for mark in _MARKS if mark in folded]
    if not present:
        return
    for rule in _RULES:
        if rule.mark not in present:
            continue
        counts = rule.proves if is_package else rule.check
        for match in rule.pattern.finditer(data):
            if counts(match[0]):
                yield Leak(path, lines_before + _line(data, match.start()), rule.kind)
                break


def _by_name(path: str, data: bytes) -> Iterator[Leak]:
    name = path.rpartition("/")[2]
    if name == ".env" or name.startswith(".env."):
        if not name.endswith(_SAMPLES):
            yield from _variables(path, data)
    elif name in _LAST_NAMES:
        for known, (kind, pattern) in _BY_NAME.items():
            if not f"/{path}".endswith(f"/{known}"):
                continue
            for match in pattern.finditer(data):
                if not _REFERENCE.match(match[1]):
                    yield Leak(path, _line(data, match.start(1)), kind)
                    break


def _variables(path: str, data: bytes) -> Iterator[Leak]:
    """Yield the first variable of an environment file that is a secret by its name or its value."""
    from pybuild.model.secrets import is_secret_name  # seldom wanted

    for match in _ASSIGNMENT.finditer(data):
        name, value = match[1].decode("ascii"), match[2]
        if _REFERENCE.match(value):
            continue
        if is_secret_name(name) or _IN_URL.search(value):
            yield Leak(path, _line(data, match.start(1)), f"value of {name}")
            return


def _line(data: bytes, at: int) -> int:
    return data.count(b"\n", 0, at) + 1
