"""The paths of the store and the configuration. Lean: the fully cached path comes here first."""

from __future__ import annotations

import os

from pybuild.cache.disk.ownership import doubt_of_file


def default_root(configured: str = "") -> str:
    """``$PYBUILD_ROOT``, else *configured*, else ``/var/lib/pybuild`` as root or
    ``$XDG_DATA_HOME/pybuild``."""
    given = os.environ.get("PYBUILD_ROOT") or configured
    if given:
        return os.path.abspath(given)
    if os.geteuid() == 0:
        return "/var/lib/pybuild"
    data = os.environ.get("XDG_DATA_HOME") or os.path.join(_home(), ".local", "share")
    return os.path.join(data, "pybuild")


def config_file(given: str) -> str | None:
    """The configuration file that applies: *given*, ``$PYBUILD_CONFIG``, or the default if it exists.

    A named file is returned whether it exists or not, so that its absence is an error.
    """
    named = given or os.environ.get("PYBUILD_CONFIG", "")
    if named:
        return os.path.abspath(named)
    path = _default_config()
    return path if os.path.exists(path) else None


def config_to_write(given: str) -> str:
    """The file in which a setting takes effect, whether it exists or not, as people write it."""
    path = config_file(given) or _default_config()
    home = _home()
    is_below = home != "/" and path.startswith(home + "/")
    return f"~{path[len(home) :]}" if is_below else path


def _default_config() -> str:
    if os.geteuid() == 0:
        return "/etc/pybuild/pybuild.toml"
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(_home(), ".config")
    return os.path.join(base, "pybuild", "pybuild.toml")


def certificate_directories() -> list[str]:
    """Return where docker and podman look for a directory per registry, the user's own last [REG-10]."""
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(_home(), ".config")
    tops = ["/etc/docker", "/etc/containers"]
    tops += [os.path.join(config, name) for name in ("docker", "containers")]
    return [os.path.join(top, "certs.d") for top in tops]


def _home() -> str:
    return os.environ.get("HOME") or os.path.expanduser("~")


def root_by_file(given: str, named: str) -> str | None:
    """Return the store's directory: *given*, or that of the configuration file; None where it is doubtful.

    Args:
        named: the configuration file, "" for the usual one.
    """
    if given:
        return os.path.abspath(given)
    config = config_file(named)
    if config is None:
        return default_root()
    try:
        import tomllib

        if doubt_of_file(config):
            return None
        with open(config, "rb") as file:
            root = tomllib.load(file).get("root", "")
    except (OSError, ValueError):
        return None
    return default_root(root) if isinstance(root, str) else None
