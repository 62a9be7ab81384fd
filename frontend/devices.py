"""``RUN --device``: read and checked. Giving devices to steps is not done yet [RUN-7]."""

from __future__ import annotations

from dataclasses import dataclass

from pybuild.frontend.mounts import boolean, csv_fields
from pybuild.frontend.suggest import did_you_mean
from pybuild.model.errors import UserError

_KEYS = ("name", "required")


@dataclass(slots=True, kw_only=True)
class DeviceSpec:
    """One ``--device=name[,required]``."""

    name: str = ""
    required: bool = False


def parse_device(record: str) -> DeviceSpec:
    """Read one record; CDI names hold an equals sign themselves.

    Raises:
        UserError: it names two devices, or says what no device has.
    """
    spec = DeviceSpec()
    for field in csv_fields(record):
        key, equals, value = field.partition("=")
        key = key.lower()
        if key == "required":
            spec.required = boolean(key, value) if equals else True
        elif key == "name" and equals:
            if spec.name:
                raise UserError(f"device name already set to {spec.name}")
            spec.name = value
        elif not spec.name:
            spec.name = field
        elif not equals:
            raise UserError(f"invalid field '{field}' must be a key=value pair")
        else:
            raise UserError(f"unexpected key '{key}' in '{field}'" + did_you_mean(key, _KEYS))
    if not spec.name:
        raise UserError(f'invalid device "{record}": no name')
    return spec


def refuse_devices(records: tuple[str, ...]) -> None:
    """Refuse what cannot be granted.

    Raises:
        UserError: there is one.
    """
    for record in records:
        spec = parse_device(record)
        raise UserError(
            f'entitlement device is not allowed: RUN --device="{spec.name}"',
            hints=("pybuild gives no devices to steps yet; build this image elsewhere",),
        )
