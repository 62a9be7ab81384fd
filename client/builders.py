"""Build servers that the user has named, and which one is in use. Lean: every build asks here first.

The records are one JSON file in the user's configuration directory, always replaced as a whole.
"""

from __future__ import annotations

import os

from pybuild.cache.disk.ownership import doubt_of_file
from pybuild.cache.disk.plainfile import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Options(Protocol):
        """The options of a command line, as `pybuild.commandline.parser` has them."""

        def one(self, name: str, default: str = "") -> str:
            """Return the value of an option."""
            ...


LOCAL = "local"
"""The name of no server: builds happen in this process."""

_HERE = (LOCAL, "default")  # docker buildx calls its own engine so
_VARIABLES = ("PYBUILD_HOST", "BUILDX_BUILDER", "BUILDKIT_HOST")
"""Whose build server it is, the first that is set; an address or a name."""

_FILES = (("ca", "tlscacert"), ("cert", "tlscert"), ("key", "tlskey"))


class BuilderRecord:
    """A build server: its address, and the files of TLS. Paths are absolute, empty if not given.

    *name* is empty for an address that was given as such.
    """

    __slots__ = ("address", "ca", "cert", "key", "name", "server_name")

    def __init__(
        self,
        name: str,
        address: str,
        *,
        ca: str = "",
        cert: str = "",
        key: str = "",
        server_name: str = "",
    ) -> None:
        self.name = name
        self.address = address
        self.ca = ca
        self.cert = cert
        self.key = key
        self.server_name = server_name

    @property
    def shown(self) -> str:
        """The builder's name in messages."""
        return f"{self.name} ({self.address})" if self.name else self.address

    @property
    def uses_tls(self) -> bool:
        return bool(self.ca or self.cert or self.key or self.server_name)


class Builders:
    """The records, as read from the file; `save` writes them back."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.in_use = ""
        self.known: dict[str, BuilderRecord] = {}

    @classmethod
    def load(cls) -> Builders:
        """Read the user's records; none are no error.

        Raises:
            UsageError: the file is damaged, or somebody else may have written it.
        """
        builders = cls(records_file())
        try:
            with open(builders.path, "rb", opener=plain) as file:
                data = file.read()
            why = doubt_of_file(builders.path)
        except (FileNotFoundError, NotADirectoryError):
            return builders
        if why:  # it says who gets contexts, secrets and logins
            from pybuild.model.errors import UsageError

            raise UsageError(
                f"{builders.path} is not used: {why}",
                hints=["make it yours alone (chown, chmod go-w), or delete it"],
            )
        import json

        try:
            content = json.loads(data)
            builders.in_use = str(content.get("use", ""))
            for name, fields in content["builders"].items():
                builders.known[name] = BuilderRecord(name, **{k: str(v) for k, v in fields.items()})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            from pybuild.model.errors import UsageError

            raise UsageError(
                f"{builders.path} is damaged: {error}", hints=["delete it, and add builders again"]
            ) from error
        return builders

    def save(self) -> None:
        """Replace the file; who reads it meanwhile sees all of the old or all of the new one."""
        import json

        records: dict[str, Any] = {}
        for name, one in sorted(self.known.items()):
            fields = {field: str(getattr(one, field)) for field in BuilderRecord.__slots__}
            records[name] = {k: v for k, v in sorted(fields.items()) if v and k != "name"}
        text = json.dumps({"use": self.in_use, "builders": records}, indent=2) + "\n"
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        temporary = f"{self.path}.{os.urandom(8).hex()}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(fd)
            os.replace(temporary, self.path)
        except BaseException:
            os.unlink(temporary)
            raise

    def get(self, name: str, variable: str = "") -> BuilderRecord:
        """Return a record; *variable* of the environment named it, if one did.

        Raises:
            UsageError: there is none of that name.
        """
        if name in self.known:
            return self.known[name]
        from difflib import get_close_matches

        from pybuild.model.errors import UsageError

        near = get_close_matches(name, self.known, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise UsageError(
            f'no builder "{name}"{hint}',
            hints=[
                *([f"${variable} names it; unset that, or give -H"] if variable else []),
                "an address begins with unix:// or tcp://; pybuild builder add names one",
            ],
        )


def records_file() -> str:
    """The path of this user's records."""
    base = os.environ.get("XDG_CONFIG_HOME")
    home = os.environ.get("HOME") or os.path.expanduser("~")
    return os.path.join(base or os.path.join(home, ".config"), "pybuild", "builders.json")


def with_files(builder: BuilderRecord, given: dict[str, str], server_name: str) -> BuilderRecord:
    """Return *builder* with the TLS files that a command line names."""
    files = {
        field: os.path.abspath(path) if path else getattr(builder, field)
        for field, path in given.items()
    }
    return BuilderRecord(
        builder.name, builder.address, server_name=server_name or builder.server_name, **files
    )


def chosen(options: Options) -> BuilderRecord | None:
    """Return the server that a command is for: ``-H``, ``$PYBUILD_HOST``, or the one in use.

    None is this process.

    Raises:
        UsageError: no such builder, or TLS options without a server.
    """
    host, said_by = _host(options)
    given = {field: options.one(option) for field, option in _FILES}
    server_name = options.one("tlsservername")
    builder: BuilderRecord | None = None
    if "://" in host:
        builder = BuilderRecord("", host)
    elif host != LOCAL:
        builders = Builders.load()
        name = host or builders.in_use
        builder = builders.get(name, said_by) if name and name not in _HERE else None
    if builder is None:
        if server_name or any(given.values()):
            from pybuild.model.errors import UsageError

            raise UsageError("TLS options need a server", hints=["name it with -H"])
        return None
    return with_files(builder, given, server_name)


def _host(options: Options) -> tuple[str, str]:
    """Return the builder that the options or the environment name, and the variable that does."""
    cluster = options.one("cluster")
    for name in ("host", "builder"):
        if given := options.one(name):
            if cluster:
                from pybuild.model.errors import UsageError

                raise UsageError(f"--cluster and --{name} name two builders", hints=["give one"])
            return given, ""
    if cluster:
        return cluster if "://" in cluster else LOCAL, ""
    variables = ((os.environ.get(name, ""), name) for name in _VARIABLES)
    return next((one for one in variables if one[0]), ("", ""))


def tls_files(options: Options) -> dict[str, str]:
    """Return the TLS files of a command line by field."""
    return {field: options.one(option) for field, option in _FILES}
