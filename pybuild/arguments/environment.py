"""Values that the environment and docker's configuration give to options that were not given."""

from __future__ import annotations

import os

from pybuild.commandline.parser import Parsed
from pybuild.engine.host import platforms_from
from pybuild.model.errors import UsageError
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.registry.client.credentials import Credential


def platforms_of(parsed: Parsed) -> tuple[Platform, ...]:
    """Return the platforms of ``--platform``, else those of ``$DOCKER_DEFAULT_PLATFORM``.

    Raises:
        UsageError: one of them is none.
    """
    default = os.environ.get("DOCKER_DEFAULT_PLATFORM", "")
    try:
        return platforms_from(parsed.one("platform") or default)
    except UsageError as error:
        if default and not parsed.one("platform"):
            raise error.hinting("$DOCKER_DEFAULT_PLATFORM says so") from None
        raise


def use_authfile(parsed: Parsed) -> None:
    """Let ``--authfile`` be the first of the files that logins are looked for in.

    Raises:
        UsageError: it is not there.
    """
    path = parsed.one("authfile")
    if path:
        if not os.path.exists(path):
            raise UsageError(f"--authfile {path}: no such file")
        os.environ["REGISTRY_AUTH_FILE"] = os.path.abspath(path)


def logins_of(parsed: Parsed, *images: Reference) -> dict[str, Credential]:
    """Return the login of ``--creds`` for the registries of *images*, and no others: it is theirs.

    Raises:
        UsageError: it is none, or there is no image.
    """
    text = parsed.one("creds")
    if not text:
        return {}
    user, _, password = text.partition(":")
    if not user or not images:
        what = "expected USER[:PASSWORD]" if not user else "it needs an image: name it with -t"
        raise UsageError(f"invalid --creds: {what}")
    from pybuild.registry.client.credentials import Credential

    return {image.host: Credential(user, password) for image in images}
