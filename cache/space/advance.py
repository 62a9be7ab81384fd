"""The space that a process asks for before it writes: more, the faster it writes. Pure."""

from __future__ import annotations

# Room for what is written in this time, within these parts of the ceiling.
_AHEAD_S = 0.5
_LEAST_PART, _MOST_PART = 128, 8
_MOST_BYTES = 1 << 30
# Two looks that are closer tell nothing about speed.
_SHORTEST_S = 0.01
# From the order to end until nothing is written any more, on a busy machine.
_END_S = 0.05


class Advance:
    """The bytes to ask for in advance below a ceiling of *ceiling* bytes.

    Attributes:
        size: that many, by what was seen up to now.
    """

    def __init__(self, ceiling: int) -> None:
        self._least = ceiling // _LEAST_PART
        self._most = min(ceiling // _MOST_PART, _MOST_BYTES)
        self._seen_at, self._taken = 0.0, 0
        self.size = self._least

    def adapt(self, now: float, taken: int) -> None:
        """Follow the speed at which the space *taken* by this process grows; *now* in seconds."""
        passed = max(now - self._seen_at, _SHORTEST_S)
        speed = (taken - self._taken) / passed
        self._seen_at, self._taken = now, taken
        # A pause is no end: what was fast a moment ago is so again.
        ahead = max(speed * _AHEAD_S, self.size * 0.5 ** (passed / _AHEAD_S))
        self.size = int(min(max(ahead, self._least), self._most))

    def written_while_it_ends(self) -> int:
        """Return the bytes that the fastest writer adds between the order to stop and its end."""
        return int((self.size - self._least) * _END_S / _AHEAD_S)
