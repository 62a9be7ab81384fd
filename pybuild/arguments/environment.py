"""Values that the environment and docker's configuration give to options that were not given."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pybuild.cache.disk.ownership import others_write
from pybuild.cache.disk.plainfile import plain
from pybuild.commandline.parser import Parsed
from pybuild.engine.host import platforms_from
from pybuild.model.errors import UsageError
from pybuild.model.jsontext import as_object
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference

if TYPE_CHECKING:
    from pybuild.registry.client.credentials import Credential

_PROXIES = {
    "httpProxy": "HTTP_PROXY",
    "httpsProxy": "HTTPS_PROXY",
    "ftpProxy": "FTP_PROXY",
    "noProxy": "NO_PROXY",
    "allProxy": "ALL_PROXY",
}
_MOST_BYTES = 4 << 20


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


def proxy_arguments(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the build arguments that ``proxies`` of docker's config.json stands for; in both cases."""
    home = environ.get("HOME", "")
    folder = environ.get("DOCKER_CONFIG") or (os.path.join(home, ".docker") if home else "")
    if not folder:
        return {}
    try:
        with open(os.path.join(folder, "config.json"), "rb", opener=plain) as file:
            if others_write(os.fstat(file.fileno())):
                return {}
            document = as_object(json.loads(file.read(_MOST_BYTES)))
    except (OSError, ValueError, RecursionError):
        return {}
    proxies = as_object(as_object(document.get("proxies")).get("default"))
    variables: dict[str, str] = {}
    for key, name in _PROXIES.items():
        value = proxies.get(key)
        if isinstance(value, str) and value:
            variables |= {name: value, name.lower(): value}
    return variables


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
