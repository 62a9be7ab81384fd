"""The pages of the build checks and of advice: the output, the reason, an example that is found and one that is not."""

from __future__ import annotations

from importlib.resources import files

from pybuild.frontend.lint.catalogue import RULES
from pybuild.model.advice import ADVICE
from pybuild.model.errors import UsageError
from pybuild.model.suggest import did_you_mean


def page(rule: str) -> str:
    """Return the page of *rule*, in whatever case it is written.

    Raises:
        UsageError: there is no such rule.
    """
    names = {name.lower(): name for name in (*RULES, *ADVICE)}
    name = names.get(rule.lower())
    if name is None:
        near = did_you_mean(rule, names.values(), ignore_case=True)
        raise UsageError(
            f'there is no build check "{rule}"{near}',
            hints=[f"there are {', '.join(names.values())}"],
        )
    return (files("pybuild.frontend.lint") / "pages" / f"{name}.md").read_text(encoding="utf-8")
