"""Values of a build request as people write them: secrets, contexts, entitlements."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pybuild.builds.request import ENTITLEMENTS, Secret
from pybuild.cache.disk.plainfile import plain
from pybuild.model.errors import UsageError
from pybuild.model.text import split_csv, switch

_SECRET_BYTES = 500 * 1024


def parse_allowed(names: Sequence[str]) -> frozenset[str]:
    """Read the entitlements that are granted [SEC-5].

    Raises:
        UsageError: one that does not exist; a misspelt one would be missed only where it is needed.
    """
    for name in names:
        if name not in ENTITLEMENTS and name.partition("=")[0] != "device":
            from pybuild.model.suggest import did_you_mean

            raise UsageError(
                f'unknown entitlement "{name}"{did_you_mean(name, ENTITLEMENTS)}',
                hints=[f"there are {', '.join(ENTITLEMENTS)} and device[=NAME]"],
            )
    return frozenset(names)


def parse_contexts(items: list[str]) -> dict[str, str]:
    """Read ``name=source`` items; names in lower case.

    Raises:
        UsageError: no such form, or a reserved name.
    """
    contexts: dict[str, str] = {}
    for item in items:
        name, equals, source = item.partition("=")
        if not (name and equals and source):
            raise UsageError(f'invalid build context "{item}": expected name=value')
        if name.lower() in {"context", "dockerfile"}:
            raise UsageError(f'invalid build context "{item}": the name "{name}" is reserved')
        contexts[name.lower()] = source
    return contexts


def parse_secret(text: str) -> Secret:
    """Read ``id=x[,src=path|,env=VAR][,key=true]`` [SEC-1]; a value that counts is read at once.

    Raises:
        UsageError: no id, an unknown field, a file that is not there, or a variable that is unset.
    """
    fields: dict[str, str] = {}
    for item in split_csv(text):
        key, _, value = item.partition("=")
        fields[{"source": "src"}.get(key, key)] = value
    kind = fields.pop("type", "")
    name = fields.pop("id", "")
    path = fields.pop("src", "")
    variable = fields.pop("env", "")
    in_key = switch({"key": fields.pop("key", "false")}, "key", False, "secret")
    if not name or fields or kind not in {"", "file", "env"}:
        raise UsageError(
            f'invalid secret "{text}": expected id=NAME[,src=PATH|,env=VAR][,key=true]'
        )
    if kind == "env" and path and not variable:
        path, variable = "", path
    if not path and not variable and name in os.environ and kind != "file":
        variable = name
    if variable:
        if variable not in os.environ:
            raise UsageError(
                f'secret "{name}": environment variable {variable} is not set',
                hints=[f"export {variable} before, or name a file: --secret id={name},src=FILE"],
            )
        content = os.environb[os.fsencode(variable)]
        return Secret(id=name, read=lambda: content, in_key=in_key)
    source = os.path.abspath(os.path.expanduser(path or name))
    if not os.path.isfile(source):
        what = "no regular file" if os.path.exists(source) else "no such file"
        hint = "src= is a path that begins in this directory; env=NAME takes a variable"
        raise UsageError(f'secret "{name}": {source}: {what}', hints=[hint])
    if os.path.getsize(source) > _SECRET_BYTES:
        raise UsageError(f'secret "{name}": {source}: larger than 500 KiB')

    def read() -> bytes:
        with open(source, "rb", opener=plain) as file:
            return file.read(_SECRET_BYTES + 1)

    if in_key:
        try:
            data = read()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UsageError(f'secret "{name}": {source}: {reason}') from error
        return Secret(id=name, read=lambda: data, in_key=True)
    return Secret(id=name, read=read)
