"""The proxies of docker's config.json, which builds get as arguments."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from pybuild.cache.disk.ownership import others_write
from pybuild.cache.disk.plainfile import plain
from pybuild.model.jsontext import as_object

_PROXIES = {
    "httpProxy": "HTTP_PROXY",
    "httpsProxy": "HTTPS_PROXY",
    "ftpProxy": "FTP_PROXY",
    "noProxy": "NO_PROXY",
    "allProxy": "ALL_PROXY",
}
_MOST_BYTES = 4 << 20


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
