"""``RUN --device`` [RUN-7]."""

from __future__ import annotations

from pybuild.frontend.lowering.mounts import boolean, csv_fields
from pybuild.frontend.suggest import did_you_mean
from pybuild.model.errors import UserError
from pybuild.model.ops import Device

_KEYS = ("name", "required")


def parse_device(record: str) -> Device:
    """Read one ``name[,required]``; CDI names hold an equals sign themselves.

    Raises:
        UserError: it names two devices, or says what no device has.
    """
    name, required = "", False
    for field in csv_fields(record):
        key, equals, value = field.partition("=")
        key = key.lower()
        if key == "required":
            required = boolean(key, value) if equals else True
        elif key == "name" and equals:
            if name:
                raise UserError(f"device name already set to {name}")
            name = value
        elif not name:
            name = field
        elif not equals:
            raise UserError(f"invalid field '{field}' must be a key=value pair")
        else:
            raise UserError(f"unexpected key '{key}' in '{field}'" + did_you_mean(key, _KEYS))
    if not name:
        raise UserError(f'invalid device "{record}": no name')
    return Device(name=name, required=required)
