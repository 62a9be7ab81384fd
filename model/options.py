"""Options as tables: what people write, and for those of every RUN what servers are sent.

Plain classes and plain data: a fully cached build, which needs no value of them, imports this too.
`pybuild.model.stepoptions` reads and writes the values of `STEP_OPTIONS`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Option:
    """One flag. *metavar* is empty for booleans; *repeat*: all values count, not only the last.

    *values* are those that there are, where these are few and fixed; *attribute* is what says the
    same to a server's Dockerfile frontend.
    """

    __slots__ = ("attribute", "help", "metavar", "name", "repeat", "short", "values")

    def __init__(
        self,
        name: str,
        help: str,
        metavar: str = "",
        short: str = "",
        repeat: bool = False,
        *,
        values: Sequence[str] = (),
        attribute: str = "",
    ) -> None:
        self.name = name
        self.help = help
        self.metavar = metavar
        self.short = short
        self.repeat = repeat
        self.values = values
        self.attribute = attribute


class StepOption(Option):
    """A setting of every RUN.

    Attributes:
        form: how its values are written, a key of `pybuild.model.stepoptions.FORMS`; ``number``,
            ``bytes``, ``list`` and ``cgroup`` are limits, kept in `pybuild.model.resources`.
        field: its name in `pybuild.model.ops.StepSettings`, or in ``Resources`` for a limit.
        least: of a number; -1 means that there is no limit.
        has_flag: false for a limit that ``--resource name=value`` alone sets.
    """

    __slots__ = ("field", "form", "has_flag", "least")

    def __init__(
        self,
        name: str,
        help: str,
        metavar: str,
        short: str = "",
        *,
        form: str,
        field: str,
        attribute: str = "",
        least: int = 1,
        has_flag: bool = True,
        repeat: bool = False,
        values: Sequence[str] = (),
    ) -> None:
        super().__init__(
            name, help, metavar, short, repeat, values=values, attribute=attribute or name
        )
        self.form = form
        self.field = field
        self.least = least
        self.has_flag = has_flag


STEP_OPTIONS = (
    StepOption(
        "network",
        "network mode of RUN: default, none or host",
        "MODE",
        form="mode",
        field="network",
        attribute="force-network-mode",
        values=("default", "none", "host"),
    ),
    StepOption("hostname", "host name of RUN", "NAME", form="text", field="hostname"),
    StepOption(
        "add-host",
        "custom host-to-IP mapping (name:ip)",
        "HOST",
        form="hosts",
        field="add_hosts",
        attribute="add-hosts",
        repeat=True,
    ),
    StepOption(
        "dns",
        "name server of RUN, in place of the machine's",
        "ADDRESS",
        form="addresses",
        field="nameservers",
        repeat=True,
    ),
    StepOption(
        "dns-search",
        "domain that RUN looks for names in",
        "DOMAIN",
        form="texts",
        field="search_domains",
        repeat=True,
    ),
    StepOption(
        "dns-option",
        "option of RUN's resolver",
        "OPTION",
        form="texts",
        field="dns_options",
        repeat=True,
    ),
    StepOption(
        "ulimit",
        "ulimit of RUN (name=soft[:hard])",
        "SPEC",
        form="ulimits",
        field="ulimits",
        repeat=True,
    ),
    StepOption("shm-size", "size of /dev/shm", "BYTES", form="size", field="shm_size_bytes"),
    StepOption(
        "memory", "memory of RUN, at most (64m)", "BYTES", "m", form="bytes", field="memory_bytes"
    ),
    StepOption(
        "memory-swap",
        "memory and swap of RUN together; -1: no limit",
        "BYTES",
        form="bytes",
        field="memory_swap_bytes",
        attribute="memswap",
        least=-1,
    ),
    StepOption(
        "cpu-shares",
        "weight of RUN for processors (1024 is ordinary)",
        "N",
        "c",
        form="number",
        field="cpu_shares",
        attribute="cpushares",
    ),
    StepOption(
        "cpu-period",
        "period of the processor quota of RUN, in microseconds",
        "N",
        form="number",
        field="cpu_period_us",
        attribute="cpuperiod",
    ),
    StepOption(
        "cpu-quota",
        "processor time of RUN in each period, in microseconds",
        "N",
        form="number",
        field="cpu_quota_us",
        attribute="cpuquota",
        least=-1,
    ),
    StepOption(
        "cpuset-cpus",
        "processors that RUN may use (0-2,4)",
        "LIST",
        form="list",
        field="cpuset_cpus",
        attribute="cpusetcpus",
    ),
    StepOption(
        "cpuset-mems",
        "memory nodes that RUN may use",
        "LIST",
        form="list",
        field="cpuset_mems",
        attribute="cpusetmems",
    ),
    StepOption(
        "pids",
        "processes of RUN at once, at most",
        "N",
        form="number",
        field="pids",
        has_flag=False,
    ),
    StepOption(
        "cgroup-parent",
        "cgroup that those of RUN are made in",
        "PATH",
        form="cgroup",
        field="parent",
    ),
)
"""All settings of every RUN; a new one is a line here, a field of `StepSettings` or `Resources`, and what its step does with it."""

LIMITS = {
    option.name: option for option in STEP_OPTIONS if option.form in ("number", "bytes", "list")
}
"""The settings that ``--resource name=value`` takes, by name."""

STEP_FLAGS = (
    *(option for option in STEP_OPTIONS if option.has_flag),
    Option("resource", f"limit of RUN by name ({', '.join(LIMITS)})", "K=V", repeat=True),
)
