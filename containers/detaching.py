"""Keys that detach from a container: a sequence that is looked for in what is typed. Pure [ENG-36]."""

from __future__ import annotations

from pybuild.model.errors import UsageError

DEFAULT = "ctrl-p,ctrl-q"
_CONTROLS = "@abcdefghijklmnopqrstuvwxyz[\\]^_"


def parse_keys(text: str) -> bytes:
    """Return the bytes of ``ctrl-p,ctrl-q`` or ``a,b,c``.

    Raises:
        UsageError: it has what is no key.
    """
    keys = bytearray()
    for word in text.split(","):
        control = word.removeprefix("ctrl-")
        if word != control and len(control) == 1 and control in _CONTROLS:
            keys.append(_CONTROLS.index(control))
        elif len(word) == 1 and word.isascii():
            keys += word.encode()
        else:
            raise UsageError(f"invalid detach keys ({text}) provided")
    return bytes(keys)


class DetachKeys:
    """The keys that were typed so far; the beginning of the sequence is held back until it is known what it is."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return the bytes to hand on, and whether the sequence is whole."""
        passed = bytearray()
        for byte in data:
            if self._keys and byte == self._keys[self._held]:
                self._held += 1
                if self._held == len(self._keys):
                    self._held = 0
                    return bytes(passed), True
                continue
            passed += self._keys[: self._held]
            self._held = 0
            if self._keys and byte == self._keys[0]:
                self._held = 1
            else:
                passed.append(byte)
        return bytes(passed), False
