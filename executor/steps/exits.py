"""Why a step failed, from its status, the end of its output and the files that it had.

Imported when a step has failed, never before.
"""

from __future__ import annotations

import os
import re
import signal
import stat
from collections.abc import Iterable, Sequence

from pybuild.executor.steps.spec import StepExit
from pybuild.model.ops import ExecOp, Mount, MountType
from pybuild.model.suggest import nearest

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_UNKNOWN = re.compile(r"(?:.*: )?([^\s:]+): (?:command )?not found\Z")
_ABSENT = re.compile(
    r'(?:exec: )?"?([^\s:"]+)"?: (?:.*: )?(?:no such file or directory|.*not found.*)\Z'
)
_REFUSED = re.compile(r'(?:.*: )?"?([^\s:"]+)"?: permission denied\Z', re.IGNORECASE)
_FULL = ("no space left on device", "disk quota exceeded")
_NAMELESS = ("could not resolve", "bad address", "temporary failure", "name or service not known")
_UNANSWERED = ("refused", "connect", "proxy")
_LOOPBACK = re.compile(r"\b127\.\d+\.\d+\.\d+\b|\blocalhost\b|\[?::1\]")
_PLACES = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin")
_HEAD_BYTES = 256
_MOST_CHARS = 160

Reason = tuple[str, str]
"""The cause, which follows the status, and the way out."""


class StepFiles:
    """The files that a step had: its layers, the topmost first. No link leads out of them."""

    def __init__(self, layers: Iterable[str]) -> None:
        self._layers = tuple(layers)

    def look(self, path: str) -> tuple[int, bytes] | None:
        """Return the mode and the first bytes of a file; None where there is none to be read."""
        for layer in self._layers:
            whole = os.path.join(layer, path.lstrip("/"))
            if os.path.realpath(whole) != os.path.join(os.path.realpath(layer), path.lstrip("/")):
                continue
            try:
                fd = os.open(whole, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                mode = os.fstat(fd).st_mode
                return (mode, os.read(fd, _HEAD_BYTES)) if stat.S_ISREG(mode) else None
            finally:
                os.close(fd)
        return None

    def has(self, path: str) -> bool:
        """Return whether some layer has the name *path*, whatever it is."""
        return any(os.path.lexists(os.path.join(layer, path.lstrip("/"))) for layer in self._layers)

    def programs(self) -> set[str]:
        names: set[str] = set()
        for layer in self._layers:
            for place in _PLACES:
                try:
                    names.update(os.listdir(os.path.join(layer, place)))
                except OSError:
                    continue
        return names


def command_of(op: ExecOp) -> str:
    """Return the step's command as people wrote it, on one line."""
    before, text = (list(op.args[-2:]) + ["", ""])[:2]
    if len(op.args) < 3 or before not in ("-c", "-ec", "-exc"):
        text = " ".join(op.args)
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1:
        return f"{len(lines)} lines that begin with {lines[0].strip()[:_MOST_CHARS]}"
    shown = text.strip()
    return shown if len(shown) <= _MOST_CHARS else shown[: _MOST_CHARS - 1] + "…"


def reason_of(
    op: ExecOp,
    ended: StepExit,
    last: Sequence[str],
    files: StepFiles,
    missing_secrets: Sequence[str],
    store: str,
    *,
    connected: bool = False,
) -> Reason:
    """Return why the step failed, as far as can be told, and what to do.

    Args:
        last: the end of its output.
        missing_secrets: ids of secrets that it asked for and nobody gave.
        connected: its network is not this machine's.
    """
    end = [line.strip() for line in last[-6:] if line.strip()]
    lowered = [line.lower() for line in end]
    shell_text = op.args[-1] if len(op.args) > 2 else ""
    if ended.status == _NOT_FOUND:
        return _not_found(op, end, files, shell_text)
    if ended.status == _NOT_EXECUTABLE and (refused := _match(_REFUSED, end)):
        return (f"{refused} may not be executed", _executable(refused, files))
    if any(full in line for line in lowered for full in _FULL):
        return _full(store, [m for m in op.mounts if m.type is MountType.TMPFS])
    if ended.status > 128:
        name = _signal_name(ended.status - 128)
        return (name, _of_signal(ended.status - 128))
    for secret in missing_secrets:
        if any(f"/run/secrets/{secret}" in line for line in end) or secret in shell_text:
            return (f"secret {secret} was not given", f"give it: --secret id={secret},src=FILE")
    if op.user and any("permission denied" in line or "not permitted" in line for line in lowered):
        return (
            f"{op.user} has no right to it",
            "do it before USER, or give the files away: COPY --chown, RUN chown",
        )
    if any("permission denied" in line for line in lowered):
        return ("", f"it wrote last: {end[-1]}")
    if connected and (address := _own_address(op, lowered)):
        return (
            f"at {address} is what listens in the step itself, and nothing of this machine",
            'share the network: --network=host (with --allow network.host), or [network] mode = "host"',
        )
    if op.settings.network.value == "none" and any(n in x for x in lowered for n in _NAMELESS):
        return ("it has no network", "leave --network=none out")
    if any(name in line for line in lowered for name in _NAMELESS):
        return ("a name of a host is not known to it", "see /etc/resolv.conf here, or set [dns]")
    if any("unable to locate package" in line for line in lowered):
        return ("apt has no list of packages", "put apt-get update && before it, in the same RUN")
    if end:
        return ("", f"it wrote last: {_located(end[-1], shell_text)}")
    return ("", "it wrote nothing: RUN set -x; … shows each command before it runs")


def _own_address(op: ExecOp, lowered: Sequence[str]) -> str:
    """Return the loopback address that the step got no answer from, "": it tried none."""
    if not any(word in line for line in lowered for word in _UNANSWERED):
        return ""
    for line in reversed(lowered):
        if match := _LOOPBACK.search(line):
            return match[0]
    for entry in (*op.proxy_env, *op.env):
        name, _, value = entry.partition("=")
        if name.lower().endswith("_proxy") and (match := _LOOPBACK.search(value)):
            return f"{match[0]} ({name})"
    return ""


def _match(pattern: re.Pattern[str], lines: Sequence[str]) -> str:
    for line in reversed(lines):
        if match := pattern.match(line):
            return match[1]
    return ""


def _not_found(op: ExecOp, end: Sequence[str], files: StepFiles, shell_text: str) -> Reason:
    shell = op.args[0]
    if shell_text.lstrip().startswith("["):
        quotes = "double quotes, and nothing behind the last word"
        return (
            "it is no JSON, so a shell reads the brackets",
            f'write it with {quotes}: ["a", "b"]',
        )
    name = _match(_UNKNOWN, end) or _match(_ABSENT, [line.lower() for line in end]) or shell
    if name == shell.lower() or name == shell:
        name = shell
        if shell_text and not files.has(shell):
            return (
                f"the image has no {shell}",
                'use a program that it has, RUN ["/program", "word"], or a base image with a shell',
            )
    if "/" in name and (seen := files.look(name)) is not None:
        return _unstartable(name, seen[1], files)
    if name == "sudo":
        return (
            "sudo is not in the image",
            "leave it out: steps run as root, unless USER says else",
        )
    near = nearest(name, files.programs()) if "/" not in name else None
    if near:
        return (f"{name} is not in the image", f"did you mean {near}?")
    return (f"{name} is not in the image", "install it in a RUN before, or correct its name")


def _unstartable(path: str, head: bytes, files: StepFiles) -> Reason:
    """Return why a file that is there is said not to be."""
    if head.startswith(b"#!"):
        line = head[2:].split(b"\n", 1)[0].decode("utf-8", "replace")
        if line.endswith("\r"):
            return (
                f"{path} has the line ends of Windows",
                f"convert it: RUN sed -i 's/\\r$//' {path}, or in .gitattributes: *.sh eol=lf",
            )
        program = line.split()[0] if line.split() else ""
        return (
            f"{path} wants {program}, which is not in the image",
            f"install it before, or change its first line, #!{line.strip()}",
        )
    if head.startswith(b"\x7fELF"):
        return (
            f"{path} wants a loader that is not in the image",
            "it was made for another libc (glibc, musl): take that base image, or link it statically",
        )
    return (f"{path} cannot be started", "begin it with #!/bin/sh")


def _executable(path: str, files: StepFiles) -> str:
    seen = files.look(path)
    if seen is not None and not seen[0] & 0o111:
        return (
            f"its mode is {seen[0] & 0o777:o}: COPY --chmod=755, or chmod +x it where it comes from"
        )
    return "give it the right to be executed: chmod +x"


def _full(store: str, small: Sequence[Mount]) -> Reason:
    disk = os.statvfs(store)
    if disk.f_bavail * 50 > disk.f_blocks:
        where = " or ".join(mount.target for mount in small) or "a file system of the step"
        target = small[0].target if small else "PATH"
        return (f"{where} is full", f"give it more: --mount=type=tmpfs,target={target},size=…")
    free = disk.f_bavail * disk.f_frsize >> 20
    return (
        f"the disk is full: {free} MiB left for the store {store}",
        "pybuild prune frees what builds left there; pybuild du shows it",
    )


def _of_signal(number: int) -> str:
    """Return the most frequent reason for the signal, and the way out."""
    if number == signal.SIGKILL:
        return "the kernel does that where memory is short: run fewer things at once, or give more (--memory)"
    if number in (signal.SIGSEGV, signal.SIGILL, signal.SIGBUS):
        return "the program is at fault, or was made for another processor: see --platform"
    return "see what the step ran: the signal came from inside"


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def _located(line: str, text: str) -> str:
    """Return a line of output, and the line of a heredoc that most likely wrote it."""
    lines = text.splitlines()
    program = line.partition(":")[0].strip()
    starts = [at for at in lines if at.split()[:1] == [program]]
    if len(lines) > 2 and len(starts) == 1:
        return f"{line} ({starts[0].strip()})"
    return line
