"""The parameters that both ways of building by `POST /build` have."""

from __future__ import annotations

from pybuild.daemon.rest.creating import ulimits_of
from pybuild.daemon.rest.fields import Fields
from pybuild.daemon.rest.query import Query, read_value
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.daemon.rest.transfers import tag_of
from pybuild.frontend.giturl import is_http, parse_git_url
from pybuild.model.jsontext import as_list, as_object, is_object
from pybuild.model.ops import NetworkMode, StepSettings
from pybuild.model.reference import Reference
from pybuild.model.resources import Resources


def check_remote(remote: str) -> None:
    """Raise ApiRefusal if a context elsewhere can be none; "" is none."""
    if remote and not is_http(remote) and parse_git_url(remote, is_context=True) is None:
        raise ApiRefusal(400, f'remote "{remote[:100]}" is neither a git repository nor a URL')


def tags_of(query: Query) -> tuple[Reference, ...]:
    """Return the names of the image."""
    return tuple(tag_of(text, "") for text in query.texts("t"))


def names_of(query: Query, name: str) -> list[str]:
    """Return a parameter that is a list of names in JSON."""
    text = query.text(name)
    return [str(one) for one in as_list(read_value(text))] if text else []


def map_of(query: Query, name: str) -> dict[str, str]:
    """Return a parameter that is a map; null, which stands for a client's variable, is left out.

    Raises:
        ApiRefusal: it is no map of texts.
    """
    text = query.text(name)
    members = read_value(text) if text else None
    known = as_object(members)
    if (text and not is_object(members)) or not all(
        one is None or (isinstance(one, str) and "\0" not in one) for one in known.values()
    ):
        raise ApiRefusal(400, f"invalid {name}: expected a JSON object of texts")
    return {key: value for key, value in known.items() if value is not None}


def _ulimits(text: str) -> tuple[tuple[str, int, int], ...]:
    if text in ("", "null"):
        return ()
    limits = read_value(text)
    if limits is None:
        raise ApiRefusal(400, "invalid ulimits: expected a JSON list of objects")
    return tuple(sorted(ulimits_of(Fields({"Ulimits": limits}))))


def step_settings(query: Query) -> StepSettings:
    """Return the settings of each RUN.

    Raises:
        ApiRefusal: a network that builds are not put on, or a limit that there is not.
    """
    mode = query.text("networkmode")
    if mode not in ("", "default", "bridge", "host", "none"):
        raise ApiRefusal(
            400, f"networkmode {mode[:100]} is not done by pybuild: default, host, none"
        )
    hosts: list[tuple[str, str]] = []
    for text in query.texts("extrahosts"):
        name, _, address = text.partition(":")
        hosts.append((name, address))
    return StepSettings(
        network=NetworkMode.NONE if mode == "none" else NetworkMode.DEFAULT,
        add_hosts=tuple(hosts),
        shm_size_bytes=query.number("shmsize"),
        ulimits=_ulimits(query.text("ulimits")),
        resources=Resources(
            memory_bytes=query.number("memory"),
            memory_swap_bytes=query.number("memswap"),
            cpu_shares=query.number("cpushares"),
            cpu_period_us=query.number("cpuperiod"),
            cpu_quota_us=query.number("cpuquota"),
            cpuset_cpus=query.text("cpusetcpus"),
            cpuset_mems=query.text("cpusetmems"),
        ),
    )
