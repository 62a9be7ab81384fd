"""Content digests: the algorithm and hex of exact bytes."""

from __future__ import annotations

from pybuild.model.lightlib import sha256_of

_DIGITS = {"sha256": 64, "sha512": 128}


class Digest(str):
    """A digest such as ``sha256:9f86…``; always canonical, so it may be compared and stored as text."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Return *text* as a digest.

        Raises:
            ValueError: not ``sha256:`` + 64 or ``sha512:`` + 128 lower-case hex digits.
        """
        algorithm, _, digits = text.partition(":")
        if len(digits) != _DIGITS.get(algorithm) or digits.strip("0123456789abcdef"):
            raise ValueError(f'invalid digest "{text}"')
        return cls(text)

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """Return the sha256 digest of *data*."""
        return cls("sha256:" + sha256_of(data))

    @classmethod
    def of_json(cls, value: object) -> Digest:
        """Return the sha256 digest of *value*'s canonical JSON."""
        return cls.of(canonical_json(value))

    @classmethod
    def from_hex(cls, hexdigest: str) -> Digest:
        """Return the sha256 digest whose hex is *hexdigest*."""
        return cls.parse("sha256:" + hexdigest)

    @property
    def algorithm(self) -> str:
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        return self.partition(":")[2]

    @property
    def short(self) -> str:
        """The first twelve hex digits, for people."""
        return self.hex[:12]


def canonical_json(value: object) -> bytes:
    """Encode *value* so that equal values give equal bytes: sorted keys, no spaces, UTF-8.

    Text that is not valid UTF-8 reaches Python as lone surrogates (PEP 383); they are written as
    the bytes they stand for, so that any file name has a digest.
    """
    import json

    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogateescape")
