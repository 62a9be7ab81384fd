"""Shares of scarce things: no client may have more than is left for the others.

So one user, or several who act together, always leave something to who has nothing yet, and who is
alone has half of it.
"""

from __future__ import annotations

from collections import Counter


class Shares:
    """Things that callers hold for a while. Not for threads.

    Args:
        most: of all callers together.
        is_fair: callers are told apart; otherwise who comes first has all.
    """

    def __init__(self, most: int, *, is_fair: bool) -> None:
        self._most = most
        self._is_fair = is_fair
        self._held: Counter[str] = Counter()

    def take(self, caller: str) -> bool:
        """Let *caller* hold one more; False if there is none for it."""
        if not may_have(self._held[caller], self._held.total(), self._most, self._is_fair):
            return False
        self._held[caller] += 1
        return True

    def give(self, caller: str) -> None:
        """Take one back."""
        self._held[caller] -= 1
        if not self._held[caller]:
            del self._held[caller]


def may_have(held: int, by_all: int, most: int, is_fair: bool) -> bool:
    """Return whether a holder of *held* of *most* may have one more, when *by_all* are held."""
    left = most - by_all
    return held < left if is_fair else left > 0
