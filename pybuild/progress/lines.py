"""Cuts the bytes that steps write into lines of text, in any pieces that they come in."""

from __future__ import annotations

import codecs


class LineCutter:
    """Feed bytes, take whole lines; characters split between two pieces are put together again."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that *data* completes, without line ends."""
        *whole, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        if len(self._rest) > 1 << 20:  # a step without line ends must not fill our memory
            whole.append(self._rest)
            self._rest = ""
        return [line.removesuffix("\r") for line in whole]

    def finish(self) -> list[str]:
        """Return the last, unfinished line, if any."""
        rest, self._rest = self._rest + self._decoder.decode(b"", final=True), ""
        return [rest] if rest else []
