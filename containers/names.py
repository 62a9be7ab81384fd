"""Names for containers that were given none [CTR-5]."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container


_HOW = (
    *(
        "amber",
        "brisk",
        "calm",
        "clever",
        "cosy",
        "dapper",
        "eager",
        "early",
        "fair",
        "fleet",
        "fond",
    ),
    *(
        "gentle",
        "glad",
        "grand",
        "hardy",
        "jolly",
        "keen",
        "kind",
        "light",
        "lively",
        "lucid",
        "mellow",
    ),
    *(
        "merry",
        "mild",
        "neat",
        "nimble",
        "noble",
        "plain",
        "polite",
        "prime",
        "proud",
        "quick",
        "quiet",
    ),
    *(
        "ready",
        "robust",
        "round",
        "serene",
        "sharp",
        "sleek",
        "smart",
        "snug",
        "solid",
        "sound",
        "spry",
    ),
    *(
        "steady",
        "still",
        "sunny",
        "swift",
        "tidy",
        "trim",
        "true",
        "vivid",
        "warm",
        "wise",
        "witty",
    ),
)
_WHO = (
    *("abel", "banach", "bernoulli", "bolyai", "boole", "cantor", "cauchy", "cayley", "dedekind"),
    *("descartes", "dirichlet", "erdos", "euclid", "euler", "fermat", "fourier", "frege", "galois"),
    *(
        "gauss",
        "germain",
        "godel",
        "hamilton",
        "hilbert",
        "hypatia",
        "jacobi",
        "klein",
        "kovalevskaya",
    ),
    *("lagrange", "laplace", "legendre", "leibniz", "lie", "markov", "mobius", "napier", "noether"),
    *(
        "pascal",
        "peano",
        "peirce",
        "poincare",
        "ramanujan",
        "riemann",
        "shannon",
        "tarski",
        "turing",
    ),
)
_TRIES = 6


def new_id() -> str:
    """Return 64 random hexadecimal digits, of which the first twelve are not all decimal."""
    while True:
        id = os.urandom(32).hex()
        if not id[:12].isdecimal():
            return id


def new_name(id: str, taken: Container[str]) -> str:
    """Return a name that nobody has: two words, with a digit behind them from the second try on."""
    for turn in range(_TRIES):
        first, second, third = (int.from_bytes(os.urandom(4)) for _ in range(3))
        how, who = _HOW[first % len(_HOW)], _WHO[second % len(_WHO)]
        name = f"{how}_{who}{third % 10 if turn else ''}"
        if name not in taken:
            return name
    return id[:12]
