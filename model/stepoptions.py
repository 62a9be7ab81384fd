"""Settings of steps out of what people write and what servers are sent, and back [BLD-16, 23, 24]."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pybuild.model.amounts import parse_binary_size
from pybuild.model.errors import UsageError
from pybuild.model.ops import HOST_GATEWAY, NetworkMode, StepSettings
from pybuild.model.options import LIMITS, STEP_OPTIONS
from pybuild.model.resources import Resources, parse_resources
from pybuild.model.text import join_csv, split_csv

Hosts = tuple[tuple[str, str], ...]
Ulimits = tuple[tuple[str, int, int], ...]


def settings_of_flags(many: Callable[[str], Sequence[str]]) -> StepSettings:
    """Read the options of a command line.

    Args:
        many: returns the values that an option was given, by its name.

    Raises:
        UsageError: the first one that is wrong.
    """
    settings: dict[str, Any] = {}
    for option in STEP_OPTIONS:
        if option.form in FORMS and (texts := many(option.name)):
            settings[option.field] = FORMS[option.form].of_flags(option.name, texts)
    limits = {name: texts[-1] for name in LIMITS if (texts := many(name)) and texts[-1]}
    for text in many("resource"):
        for item in split_csv(text):
            name, equals, value = item.partition("=")
            if not (equals and value):
                raise UsageError(f'invalid resource "{item}": expected name=value')
            limits[name.strip()] = value
    ordered = {name: limits[name] for name in (*LIMITS, *limits) if name in limits}
    parent = "".join(many("cgroup-parent")[-1:])
    resources = parse_resources(ordered, parent=parent, with_units=True)
    return StepSettings(resources=resources, **settings)


def settings_of_attributes(given: Mapping[str, str]) -> StepSettings:
    """Read the attributes of a request to a server; those that are absent or empty are the default.

    Raises:
        UsageError: the first one that is wrong.
    """
    texts = {o.name: text for o in STEP_OPTIONS if (text := given.get(o.attribute))}
    settings: dict[str, Any] = {
        option.field: FORMS[option.form].of_attribute(texts[option.name])
        for option in STEP_OPTIONS
        if option.form in FORMS and option.name in texts
    }
    limits = {name: texts[name] for name in LIMITS if name in texts}
    resources = parse_resources(limits, parent=texts.get("cgroup-parent", ""))
    return StepSettings(resources=resources, **settings)


def attributes_of_settings(settings: StepSettings) -> dict[str, str]:
    """Return the attributes that say *settings*; nothing for what is at its default."""
    default = StepSettings()
    attributes: dict[str, str] = {}
    for option in STEP_OPTIONS:
        form = FORMS.get(option.form)
        here: StepSettings | Resources = settings if form else settings.resources
        value = getattr(here, option.field)
        if value != getattr(default if form else default.resources, option.field):
            attributes[option.attribute] = form.text(value) if form else str(value)
    return attributes


# --- forms ----------------------------------------------------------------------------------------


class _Form(NamedTuple):
    """How one kind of value is read and written; a flag may have been given several times."""

    of_flags: Callable[[str, Sequence[str]], Any]
    of_attribute: Callable[[str], Any]
    text: Callable[[Any], str]


def _mode_of_flags(name: str, texts: Sequence[str]) -> NetworkMode:
    if texts[-1] not in set(NetworkMode):
        raise UsageError(f'invalid network mode: "{texts[-1]}": one of default, none, host')
    return NetworkMode(texts[-1])


def _mode_of_attribute(text: str) -> NetworkMode:
    if text == "sandbox":
        return NetworkMode.DEFAULT
    if text not in set(NetworkMode):
        raise UsageError(f"invalid network mode {text}: one of default, host, none")
    return NetworkMode(text)


def _text_of_flags(name: str, texts: Sequence[str]) -> str:
    return texts[-1]


def _texts_of_flags(name: str, texts: Sequence[str]) -> tuple[str, ...]:
    for text in texts:
        if not text or any(char.isspace() for char in text):
            raise UsageError(f'invalid {name} "{text}": expected one word')
    return tuple(texts)


def _texts_of_attribute(text: str) -> tuple[str, ...]:
    return _texts_of_flags("resolver setting", _items(text))


def _addresses_of_flags(name: str, texts: Sequence[str]) -> tuple[str, ...]:
    for text in texts:
        if not _address(text):
            raise UsageError(f'invalid {name} "{text}": expected an IP address')
    return tuple(map(_address, texts))


def _addresses_of_attribute(text: str) -> tuple[str, ...]:
    return _addresses_of_flags("dns", _items(text))


def _hosts_of_flags(name: str, texts: Sequence[str]) -> Hosts:
    """Read ``name:ip``, ``name=ip`` with v6 addresses bare or in brackets [BLD-16]."""
    hosts: list[tuple[str, str]] = []
    for item in texts:
        host, separator, address = item.partition("=" if "=" in item else ":")
        if not (host and separator and (plain := _host_address(address))):
            raise UsageError(f'invalid host "{item}": expected name:ip')
        hosts.append((host, plain))
    return tuple(hosts)


def _hosts_of_attribute(text: str) -> Hosts:
    hosts: list[tuple[str, str]] = []
    for item in _items(text):
        host, _, address = item.partition("=")
        if not (host and (plain := _host_address(address))):
            raise UsageError(f"failed to parse additional hosts: invalid key-value pair: {item}")
        hosts.append((host, plain))
    return tuple(hosts)


def _hosts_text(hosts: Hosts) -> str:
    return join_csv(f"{host}={address}" for host, address in hosts)


def _host_address(text: str) -> str:
    """Return an address, or the word that stands for this machine's; "": it is none."""
    return text if text == HOST_GATEWAY else _address(text)


def _address(text: str) -> str:
    """Return an address without brackets, "" if it is none."""
    import ipaddress

    plain = text.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(plain)
    except ValueError:
        return ""
    return plain


def _ulimits_of_flags(name: str, texts: Sequence[str]) -> Ulimits:
    """Read ``name=soft[:hard]``, -1 for no limit [BLD-23]."""
    limits: list[tuple[str, int, int]] = []
    for item in texts:
        try:
            limits.append(_ulimit(item))
        except ValueError:
            raise UsageError(f'invalid ulimit "{item}": expected name=soft[:hard]') from None
    return tuple(sorted(limits))


def _ulimits_of_attribute(text: str) -> Ulimits:
    limits: list[tuple[str, int, int]] = []
    for item in _items(text):
        try:
            limit = _ulimit(item)
            if not all(-1 << 63 <= value < 1 << 63 for value in limit[1:]):
                raise ValueError
        except ValueError:
            raise UsageError(f"failed to parse ulimit: invalid value {item}") from None
        limits.append(limit)
    return tuple(sorted(limits))


def _ulimits_text(limits: Ulimits) -> str:
    return join_csv(f"{name}={soft}:{hard}" for name, soft, hard in limits)


def _ulimit(item: str) -> tuple[str, int, int]:
    name, _, values = item.partition("=")
    soft, _, hard = values.partition(":")
    if not name:
        raise ValueError
    return name, int(soft), int(hard or soft)


def _items(text: str) -> list[str]:
    return [item.strip() for item in split_csv(text) if item.strip()]


def _size_of_flags(name: str, texts: Sequence[str]) -> int:
    return parse_binary_size(texts[-1], name) if texts[-1] else 0


def _size_of_attribute(text: str) -> int:
    try:
        size = int(text)
    except ValueError:
        size = -1
    if not 0 <= size < 1 << 63:
        raise UsageError(f"failed to parse shm size: {text}")
    return size


FORMS: Mapping[str, _Form] = {
    "mode": _Form(_mode_of_flags, _mode_of_attribute, str),
    "text": _Form(_text_of_flags, str, str),
    "hosts": _Form(_hosts_of_flags, _hosts_of_attribute, _hosts_text),
    "texts": _Form(_texts_of_flags, _texts_of_attribute, join_csv),
    "addresses": _Form(_addresses_of_flags, _addresses_of_attribute, join_csv),
    "ulimits": _Form(_ulimits_of_flags, _ulimits_of_attribute, _ulimits_text),
    "size": _Form(_size_of_flags, _size_of_attribute, str),
}
"""The forms of all settings but the limits, which `pybuild.model.resources` reads by their names."""
