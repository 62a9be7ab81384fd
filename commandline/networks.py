"""Commands about networks."""

from __future__ import annotations

from pybuild.commandline.parser import FORCE, GLOBAL, TEMPLATE, Command
from pybuild.model.options import Option

COMMANDS: tuple[Command, ...] = (
    Command(
        "network",
        "Look after the networks of containers.",
        "",
        GLOBAL,
        ("VERB", 0, -1),
        {
            "connect": "network connect",
            "create": "network create",
            "disconnect": "network disconnect",
            "inspect": "network inspect",
            "list": "network ls",
            "ls": "network ls",
            "prune": "network prune",
            "remove": "network rm",
            "rm": "network rm",
        },
    ),
    Command(
        "network connect",
        "Bring a container, running or not, to one more network.",
        "pybuild.commands.networks:connect",
        (
            Option("alias", "one more name of it there", "NAME", "", True),
            Option("gw-priority", "of its gateway among those of its networks (0)", "N"),
            Option("ip", "its address there", "IP"),
            Option("ip6", "its address of IP version 6 there", "IP"),
            Option(
                "link", "a name of another one there, for it alone (NAME:ALIAS)", "LINK", "", True
            ),
            *GLOBAL,
        ),
        ("NETWORK CONTAINER", 2, 2),
    ),
    Command(
        "network create",
        "Make a network.",
        "pybuild.commands.networks:create",
        (
            Option("attachable", "accepted: containers may always be connected by hand"),
            Option("aux-address", "an address that no container gets (NAME=IP)", "SPEC", "", True),
            Option("driver", "bridge", "NAME", "d"),
            Option("gateway", "address of the host on it, for each subnet", "IP", "", True),
            Option("internal", "nothing goes in or out"),
            Option("ip-range", "part of the subnet that containers get", "CIDR", "", True),
            Option("ipv6", "addresses of IP version 6, too"),
            Option("label", "note something on it", "K=V", "", True),
            Option("opt", "an option of the driver, spelled as docker's", "K=V", "o", True),
            Option("subnet", "its addresses, as 172.30.0.0/16", "CIDR", "", True),
            *GLOBAL,
        ),
        ("NAME", 1, 1),
    ),
    Command(
        "network disconnect",
        "Take a container, running or not, off a network.",
        "pybuild.commands.networks:disconnect",
        (
            Option("force", "also where its helper, or the network, is gone", short="f"),
            *GLOBAL,
        ),
        ("NETWORK CONTAINER", 2, 2),
    ),
    Command(
        "network inspect",
        "Show networks with who is on them.",
        "pybuild.commands.networks:inspect",
        (Option("format", "json, or a template of docker's", "FORM", "f"), *GLOBAL),
        ("NETWORK…", 1, -1),
    ),
    Command(
        "network ls",
        "List networks.",
        "pybuild.commands.networks:ls",
        (
            Option(
                "filter",
                "only what matches (driver, dangling, id, label, name, scope, type)",
                "K=V",
                "f",
                True,
            ),
            Option("no-trunc", "do not shorten ids"),
            Option("quiet", "only ids", short="q"),
            TEMPLATE,
            *GLOBAL,
        ),
        ("", 0, 0),
    ),
    Command(
        "network prune",
        "Remove the networks that no container is on.",
        "pybuild.commands.networks:prune",
        (Option("filter", "only what matches (until=24h, label)", "K=V", "", True), FORCE, *GLOBAL),
        ("", 0, 0),
    ),
    Command(
        "network rm",
        "Remove networks that no container is on.",
        "pybuild.commands.networks:rm",
        (Option("force", "those that are not there are no error", short="f"), *GLOBAL),
        ("NETWORK…", 1, -1),
    ),
)
