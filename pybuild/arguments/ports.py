"""Published ports of ``pybuild run``: a process has the host's network, so that only some can be had."""

from __future__ import annotations

from collections.abc import Iterable

from pybuild.frontend.lowering.ports import PortSpec, parse_port
from pybuild.model.errors import UsageError, UserError

_ANY = frozenset(("", "0.0.0.0", "[::]"))


def check_published(texts: Iterable[str], network: str) -> None:
    """See that each ``[[ip:]host:]port[/protocol]`` is what host networking does anyway.

    Raises:
        UsageError: another port or address of the host was asked for, or there is no network.
    """
    for text in texts:
        try:
            spec = parse_port(text)
        except UserError as error:
            raise UsageError(f"-p {text}: {error.message}") from error
        if network == "none":
            raise UsageError(
                f"-p {text}: nothing can be published with --network none",
                hints=["leave out one of the two"],
            )
        _check(text, spec)


def _check(text: str, spec: PortSpec) -> None:
    ports = "-".join(map(str, sorted({spec.numbers[0], spec.numbers[-1]})))
    is_same = spec.numbers == spec.host_numbers
    may_choose = len(spec.numbers) == 1 and spec.numbers[0] in spec.host_numbers
    if spec.host_numbers and not is_same and not may_choose:
        raise UsageError(
            f"-p {text}: ports cannot be mapped: the process has the host's network, and would "
            f"listen on the host's own {ports}",
            hints=["have the program listen on another port (often -e PORT=…), and leave out -p"],
        )
    if spec.address not in _ANY:
        raise UsageError(
            f"-p {text}: ports cannot be bound to an address: the process has the host's network, "
            f"and chooses itself where it listens on {ports}",
            hints=[f"have the program listen on {spec.address} alone, and leave out -p"],
        )
