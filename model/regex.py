"""Regular expressions that come from somebody else, in time that is bounded by their length.

Python's own may take forever on a few characters, and a server judges its clients' sources by their
patterns. RE2 cannot, and its language is the one that policies for the reference are written in.
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any

from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.model.wildcard import expand_with


def search(pattern: str, text: str, where: str = "source policy") -> bool:
    """Return whether *pattern* matches somewhere in *text*; errors name *where* it stands.

    Raises:
        UserError: it is no regular expression. EnvironmentFault: there is no RE2.
    """
    return _compiled(pattern, where).search(text) is not None


def replace(pattern: str, text: str, template: str) -> str:
    """Return *text* with each match written as *template*, in which ``$1`` is a group.

    Raises:
        UserError: it is no regular expression. EnvironmentFault: there is no RE2.
    """
    compiled = _compiled(pattern, "source policy")
    names: dict[str, int] = compiled.groupindex

    def written(match: Any) -> str:
        def group(name: str) -> str | None:
            number = int(name[:9]) if name.isdecimal() else names.get(name, -1)
            if not 0 <= number <= compiled.groups:
                return None
            part: str | None = match.group(number)
            return part

        return expand_with(template, group)

    replaced: str = compiled.sub(written, text)
    return replaced


@lru_cache(maxsize=256)
def _compiled(pattern: str, where: str) -> Any:
    try:
        re2: Any = importlib.import_module("re2")
    except ImportError as error:
        raise EnvironmentFault(
            f"{where}: regular expressions of others need google-re2, which is not installed",
            hints=('pip install "pybuild-oci[policies]"',),
        ) from error
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else error
        if isinstance(reason, bytes):
            reason = reason.decode(errors="replace")
        raise UserError(f'{where}: invalid regex "{pattern}": {reason}') from error
