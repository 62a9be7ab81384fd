"""Long lists in pages; pure [end-8b]."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlencode

from pybuild.model.dataclass import dataclass
from pybuild.registry.server.refusal import Refusal, RefusalCode

MOST = 10_000


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a list.

    Attributes:
        link: the Link header that names the next page; empty after the last one.
    """

    items: tuple[str, ...]
    link: str


def page(items: Sequence[str], query: Mapping[str, str], path: str, most: int = MOST) -> Page:
    """Return the part of the sorted *items* that ``n`` and ``last`` in *query* ask for.

    Raises:
        Refusal: ``n`` is not a number.
    """
    count_text = query.get("n")
    if count_text is None:
        count = most
    elif count_text.isascii() and count_text.isdigit():
        count = min(int(count_text[:9]), most)
    else:
        raise Refusal(400, RefusalCode.UNSUPPORTED, f'n is "{count_text[:50]}", not a number')
    start = bisect_right(items, query["last"]) if "last" in query else 0
    chosen = tuple(items[start : start + count])
    if not chosen or start + count >= len(items):
        return Page(chosen, "")
    rest = {key: value for key, value in query.items() if key not in ("n", "last")}
    target = urlencode({**rest, "n": count, "last": chosen[-1]})
    return Page(chosen, f'<{quote(path)}?{target}>; rel="next"')
