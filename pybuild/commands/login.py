"""``pybuild login`` and ``logout``: who we are to a registry, kept where docker keeps it [REG-3]."""

from __future__ import annotations

import getpass
import os
import sys
from typing import TYPE_CHECKING

from pybuild.commandline.parser import Parsed
from pybuild.model.errors import Cancelled, EnvironmentFault, UsageError
from pybuild.registry.client.logins import parse_host

if TYPE_CHECKING:
    from pybuild.registry.client.credentials import Credential

_MOST_SECRET_BYTES = 1 << 16


def login(parsed: Parsed) -> int:
    """Try a user name and password at a registry, and keep them if they are good."""
    import uvloop

    from pybuild.registry.client.credentials import Credential
    from pybuild.registry.client.logins import Logins

    host = parse_host("".join(parsed.positionals))
    username, password = _credentials(parsed, host)
    credential = Credential(username, password)

    _check(parsed, host, credential)
    where = uvloop.run(Logins(os.environ).save(host, credential))
    sys.stdout.write(f"Login Succeeded: {host}, kept in {where}\n")
    return 0


def logout(parsed: Parsed) -> int:
    """Forget the login for a registry."""
    import uvloop

    from pybuild.registry.client.logins import Logins

    host = parse_host("".join(parsed.positionals))
    if uvloop.run(Logins(os.environ).forget(host)):
        sys.stdout.write(f"Removed login credentials for {host}\n")
    else:
        sys.stdout.write(f"Not logged in to {host}\n")
    return 0


def _check(parsed: Parsed, host: str, credential: Credential) -> None:
    """Show *credential* at the registry's door.

    Raises:
        EnvironmentFault: it is not accepted, or the registry cannot be asked.
    """
    from pybuild.commands.registryclient import with_client
    from pybuild.net.http1.faults import HttpFault
    from pybuild.registry.client.credentials import StaticCredentials

    try:
        static = StaticCredentials({host: credential})
        with_client(parsed, lambda client: client.check_login(host), static)
    except HttpFault as error:
        if error.status not in (401, 403):
            raise
        raise EnvironmentFault(
            f"{host} does not accept user name and password of {credential.username}",
            hints=["some registries take a token in the password's place, which may run out"],
        ) from error


def _credentials(parsed: Parsed, host: str) -> tuple[str, str]:
    """The user name and password, from the options, standard input, or a prompt.

    Raises:
        UsageError: one is missing, and nobody can be asked.
    """
    username, password = parsed.one("username"), parsed.one("password")
    if parsed.flag("password-stdin"):
        if password:
            raise UsageError("--password and --password-stdin are mutually exclusive")
        if not username:
            raise UsageError("--password-stdin needs --username")
        data = sys.stdin.buffer.read(_MOST_SECRET_BYTES + 1)
        password = _decoded(data).rstrip("\r\n")
    elif password:
        sys.stderr.write("warning: a password on the command line is seen by others\n")
        sys.stderr.write("hint: use --password-stdin\n")
    if not username:
        username = _prompt(f"Username for {host}: ", "--username", secret=False)
    if not password and not parsed.flag("password-stdin"):
        password = _prompt("Password: ", "--password-stdin", secret=True)
    if not username or not password:
        raise UsageError("user name and password must not be empty")
    return username, password


def _decoded(data: bytes) -> str:
    if len(data) > _MOST_SECRET_BYTES:
        raise UsageError(f"a password of more than {_MOST_SECRET_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError("the password is not UTF-8") from error


def _prompt(text: str, option: str, *, secret: bool) -> str:
    if not sys.stdin.isatty():
        raise UsageError(
            f"nobody to ask: standard input is no terminal, and no {option} was given",
            hints=["pass the password: pybuild login -u NAME --password-stdin HOST < FILE"],
        )
    try:
        return getpass.getpass(text) if secret else input(text).strip()
    except EOFError:
        raise Cancelled("canceled") from None
