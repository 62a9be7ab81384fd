"""ENV, LABEL and ARG: how they are written, and what they should not hold [LNT-13, LNT-15]."""

from __future__ import annotations

from pybuild.frontend.lint.report import Report
from pybuild.frontend.lint.rule import Rule
from pybuild.frontend.syntax import ast
from pybuild.model.secrets import is_secret_name

LEGACY_KEY_VALUE_FORMAT = Rule(
    name="LegacyKeyValueFormat",
    description="With a space in the place of the = all of the line is one value",
    message='"{0} key=value" should be used instead of legacy "{0} key value" format'.format,
)
SECRETS_USED_IN_ARG_OR_ENV = Rule(
    name="SecretsUsedInArgOrEnv",
    description="Values of ARG and ENV stay in the image's config and history for all to read",
    message='Do not use ARG or ENV instructions for sensitive data ({0} "{1}")'.format,
)


def check_format(at: ast.Env | ast.Label, report: Report) -> None:
    if at.legacy:
        report.add(LEGACY_KEY_VALUE_FORMAT, at.keyword, at=at)


def check_secret(at: ast.Env | ast.Arg, name: str, report: Report) -> None:
    """Look at the name of one variable, expanded."""
    if is_secret_name(name):
        keyword = "ENV" if isinstance(at, ast.Env) else "ARG"
        report.add(SECRETS_USED_IN_ARG_OR_ENV, keyword, name, at=at)
