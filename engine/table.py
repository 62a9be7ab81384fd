"""Tables of the configuration file, read by key; what is wrong is said with file, key and value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pybuild.model.errors import UsageError


def read_toml(path: str) -> dict[str, Any]:
    """Return the tables of a TOML file. Raises UsageError."""
    import tomllib  # most have no such file

    from pybuild.cache.disk.ownership import doubt_of_file

    try:
        why = doubt_of_file(path)
        if why:
            # It names programs that are run, and where secrets are sent.
            raise UsageError(
                f"configuration file {path} may be somebody else's word: {why}",
                hints=["chown and chmod it, or name another with --config"],
            )
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise UsageError(f"configuration file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"configuration file {path}: {error}") from error


class Table:
    """One TOML table with its place, so that every complaint names file, key and value."""

    def __init__(self, path: str, where: str, table: Mapping[str, Any]) -> None:
        self._path = path
        self._where = where
        self._table = table

    def keys_any(self) -> list[str]:
        return sorted(self._table)

    def as_dict(self) -> dict[str, Any]:
        return dict(self._table)

    def child(self, key: str) -> Table:
        value = self._table.get(key, {})
        where = f"{self._where}.{key}" if self._where else key
        if not isinstance(value, dict):
            raise self.wrong(key, "a table", value)
        return Table(self._path, where, value)  # pyright: ignore[reportUnknownArgumentType]

    def text(self, key: str) -> str:
        return str(self._typed(key, str, "a string", ""))

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        """One of *choices*, the first where the key is absent."""
        value = self.text(key) or choices[0]
        if value not in choices:
            raise self.wrong(key, "one of " + ", ".join(choices), value)
        return value

    def boolean(self, key: str, default: bool) -> bool:
        return bool(self._typed(key, bool, "true or false", default))

    def size(self, key: str, what: str = "a size such as 10GB or 60%") -> str:
        """Bytes as a number, or a text such as ``10GB`` or ``60%``; empty when absent."""
        from pybuild.model.amounts import parse_size

        value = self._table.get(key, "")
        text = str(value)
        try:
            if isinstance(value, bool) or not isinstance(value, int | str):
                raise UsageError("")
            if text:
                parse_size(text, 1)
        except UsageError as error:
            raise self.wrong(key, what, value) from error
        return text

    def number(self, key: str, default: int = 0) -> int:
        value = self._typed(key, int, "a whole number", default)
        if isinstance(value, bool) or value < 0:
            raise self.wrong(key, "a whole number", value)
        return int(value)

    def duration(self, key: str, default: float = 0.0) -> float:
        """Seconds, of a number or a text such as ``48h``."""
        from pybuild.model.amounts import parse_duration

        value = self._table.get(key)
        if value is None:
            return default
        try:
            if isinstance(value, bool) or not isinstance(value, int | str):
                raise UsageError("")
            return parse_duration(str(value))
        except UsageError as error:
            raise self.wrong(key, "a duration such as 48h or 30d", value) from error

    def tables(self, key: str) -> list[Table]:
        """The tables of an array of tables."""
        items = self._typed(key, list, "an array of tables", [])
        if not all(isinstance(item, dict) for item in items):
            raise self.wrong(key, "an array of tables", items)
        where = f"{self._where}.{key}" if self._where else key
        return [Table(self._path, where, item) for item in items]

    def texts(self, key: str) -> tuple[str, ...]:
        items = self._typed(key, list, "a list of strings", [])
        if not all(isinstance(item, str) for item in items):
            raise self.wrong(key, "a list of strings", items)
        return tuple(items)

    def words(self, key: str) -> tuple[str, ...]:
        """Texts that each fit on a line with others, such as resolv.conf's."""
        items = self.texts(key)
        for item in items:
            if item.split() != [item]:
                raise self.wrong(key, "a list of single words", item)
        return items

    def addresses(self, key: str) -> tuple[str, ...]:
        items = self.texts(key)
        if items:
            import ipaddress

            for item in items:
                try:
                    ipaddress.ip_address(item)
                except ValueError:
                    raise self.wrong(key, "a list of IP addresses", item) from None
        return items

    def only(self, known: tuple[str, ...]) -> None:
        for key in sorted(self._table):
            if key not in known:
                from difflib import get_close_matches

                near = get_close_matches(key, known, n=1)
                place = f"{self._where}.{key}" if self._where else key
                hint = f" (did you mean {near[0]}?)" if near else ""
                raise UsageError(f'configuration file {self._path}: unknown key "{place}"{hint}')

    def _typed(self, key: str, kind: type, what: str, default: Any) -> Any:
        value = self._table.get(key, default)
        if not isinstance(value, kind):
            raise self.wrong(key, what, value)
        return value

    def wrong(self, key: str, what: str, value: object) -> UsageError:
        """Return the error that says what *key* must be."""
        place = f"{self._where}.{key}" if self._where else key
        return UsageError(
            f'configuration file {self._path}: "{place}" must be {what}, not {value!r}'
        )
