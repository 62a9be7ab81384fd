"""Labels as docker's lists have them.

A list shows them as one text, and a template may ask for one of them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class LabelsText(str):
    """Labels as ``a=1,b=2``, which a template can also ask for one by one.

    Attributes:
        labels: by their names, as they were given.
    """

    labels: Mapping[str, str]

    @classmethod
    def of(cls, labels: Mapping[str, str]) -> LabelsText:
        """Return the text of labels, in the order of their names."""
        text = cls(",".join(f"{key}={value}" for key, value in sorted(labels.items())))
        text.labels = labels
        return text
