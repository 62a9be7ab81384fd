"""Functions of encodings, digests and addresses."""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import io
import ipaddress
import json
import uuid
from decimal import Decimal
from urllib.parse import quote_plus

from pybuild.bake.hcl.functions.builtin import Builtin, of_one
from pybuild.bake.hcl.values import Value, ValueProblem, number, to_text, to_whole

_MOST_COST = 14  # of bcrypt; each one more doubles the time, and this takes a second

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def json_of(value: Value) -> str:
    """Return a value as JSON, names in order, as Go writes it."""
    match value:
        case Decimal():
            return to_text(value)
        case list():
            return f"[{','.join(map(json_of, value))}]"
        case dict():
            pairs = (f"{json_of(name)}:{json_of(value[name])}" for name in sorted(value))
            return f"{{{','.join(pairs)}}}"
        case str():
            text = json.dumps(value, ensure_ascii=False)
            for character in "<>&\u2028\u2029":
                text = text.replace(character, f"\\u{ord(character):04x}")
            return text
        case _:
            return json.dumps(value)


def from_json(text: str) -> Value:
    """Return the value of a JSON text.

    Raises:
        ValueProblem: it is none.
    """

    def no_constant(name: str) -> Value:
        raise ValueProblem(f"invalid JSON: {name}")

    try:
        read: Value = json.loads(
            text, parse_float=lambda digits: number(Decimal(digits)), parse_constant=no_constant
        )
    except (ValueError, RecursionError) as error:
        raise ValueProblem(f"invalid JSON: {error}") from error
    return read


def _csv(text: Value) -> Value:
    rows = list(csv.reader(io.StringIO(to_text(text))))
    if not rows:
        raise ValueProblem("missing header line")
    names = rows[0]
    if len(set(names)) < len(names):
        raise ValueProblem("duplicate column name in the header line")
    for line, row in enumerate(rows[1:], 2):
        if len(row) != len(names):
            raise ValueProblem(f"wrong number of fields in line {line}")
    return [dict(zip(names, row, strict=True)) for row in rows[1:]]


def _decoded(text: Value) -> Value:
    try:
        return base64.b64decode(to_text(text), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueProblem(f'failed to decode base64 data "{to_text(text)}"') from error


def _bcrypt(text: Value, cost: Value = 10) -> Value:
    import bcrypt

    rounds = to_whole(cost)
    if not 4 <= rounds <= _MOST_COST:
        raise ValueProblem(f"the cost is a number from 4 to {_MOST_COST}")
    return bcrypt.hashpw(to_text(text).encode(), bcrypt.gensalt(rounds)).decode()


def _digest(name: str) -> Builtin:
    return of_one(lambda text: hashlib.new(name, to_text(text).encode()).hexdigest())


def _rsa(text: Value, key: Value) -> Value:
    raise ValueProblem("rsadecrypt is not done by pybuild", hints=["give the secret with --secret"])


def _uuid5(space: Value, name: Value) -> Value:
    spaces = {
        "dns": uuid.NAMESPACE_DNS,
        "oid": uuid.NAMESPACE_OID,
        "url": uuid.NAMESPACE_URL,
        "x500": uuid.NAMESPACE_X500,
    }
    text = to_text(space)
    try:
        return str(uuid.uuid5(spaces.get(text) or uuid.UUID(text), to_text(name)))
    except ValueError as error:
        raise ValueProblem(f'no namespace: "{text}"') from error


# --- addresses ------------------------------------------------------------------------------------


def _network(value: Value) -> Network:
    try:
        return ipaddress.ip_network(to_text(value), strict=False)
    except ValueError as error:
        raise ValueProblem(f"invalid CIDR expression: {error}") from error


def _host(prefix: Value, host: Value) -> Value:
    network, at = _network(prefix), to_whole(host)
    if not -network.num_addresses <= at < network.num_addresses:
        raise ValueProblem(f"prefix of {network.prefixlen} does not have a host numbered {at}")
    return str(network[at])


def _netmask(prefix: Value) -> Value:
    network = _network(prefix)
    if network.version != 4:
        raise ValueProblem("only IPv4 networks have a netmask")
    return str(network.netmask)


def _subnet(prefix: Value, bits: Value, at: Value) -> Value:
    network, more, number = _network(prefix), to_whole(bits), to_whole(at)
    length = network.prefixlen + more
    if more < 0 or length > network.max_prefixlen:
        raise ValueProblem(f"not enough remaining address space for a subnet of {more} bits")
    if not 0 <= number < 1 << more:
        raise ValueProblem(f"prefix extension of {more} does not accommodate a subnet {number}")
    first = int(network.network_address) + (number << (network.max_prefixlen - length))
    return f"{ipaddress.ip_address(first) if network.version == 4 else ipaddress.IPv6Address(first)}/{length}"


def _subnets(prefix: Value, *bits: Value) -> Value:
    network = _network(prefix)
    at, made = int(network.network_address), list[Value]()
    for one in bits:
        length = network.prefixlen + to_whole(one)
        if not network.prefixlen < length <= network.max_prefixlen:
            raise ValueProblem(f"no subnet of {network} has {to_whole(one)} more bits")
        size = 1 << (network.max_prefixlen - length)
        at = (at + size - 1) // size * size
        if at + size > int(network.network_address) + network.num_addresses:
            raise ValueProblem(f"not enough remaining address space in {network}")
        kind = ipaddress.IPv4Address if network.version == 4 else ipaddress.IPv6Address
        made.append(f"{kind(at)}/{length}")
        at += size
    return made


ENCODING_FUNCTIONS: dict[str, Builtin] = {
    "base64decode": Builtin(_decoded, 1, 1),
    "base64encode": of_one(lambda text: base64.b64encode(to_text(text).encode()).decode()),
    "bcrypt": Builtin(_bcrypt, 1, 2),
    "cidrhost": Builtin(_host, 2, 2),
    "cidrnetmask": Builtin(_netmask, 1, 1),
    "cidrsubnet": Builtin(_subnet, 3, 3),
    "cidrsubnets": Builtin(_subnets, 1, -1),
    "csvdecode": Builtin(_csv, 1, 1),
    "jsondecode": of_one(lambda text: from_json(to_text(text))),
    "jsonencode": Builtin(json_of, 1, 1, nulls=True),
    "md5": _digest("md5"),
    "rsadecrypt": Builtin(_rsa, 2, 2),
    "sha1": _digest("sha1"),
    "sha256": _digest("sha256"),
    "sha512": _digest("sha512"),
    "urlencode": of_one(lambda text: quote_plus(to_text(text), safe="~")),
    "uuidv4": Builtin(lambda: str(uuid.uuid4()), 0, 0),
    "uuidv5": Builtin(_uuid5, 2, 2),
}
