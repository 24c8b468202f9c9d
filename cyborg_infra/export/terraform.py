"""For Terraform and OpenTofu: resources of the JetStream provider (0.4), and blocks that import what is there.

The provider's names, units and defaults are read off its schema. It writes whole configurations, and so what it is not told
of it takes away: the labels are in its metadata.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cyborg_infra.export.exported import Export, ExportInput, Setting, distinct_names, head, written_config
from cyborg_infra.model.fields import FIELDS, Config, Kind, Unit
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import Resource
from cyborg_infra.model.tool_names import TERRAFORM_CONSUMER_ID, TERRAFORM_NAMES, TERRAFORM_STREAM_ID
from cyborg_infra.model.units import SECOND
from cyborg_infra.model.valueclass import NamedTuple

SETTINGS: Mapping[str, Setting] = {
    "server": Setting("", "URL of the server, to configure the provider as well"),
    "import": Setting("yes", "whether the streams and consumers are there already", ("yes", "no")),
}

FILE = "jetstream.tf"
_PROVIDER = "nats-io/jetstream"
_KIND_WORDS = {Kind.STREAM: "jetstream_stream", Kind.CONSUMER: "jetstream_consumer"}


class Literal(str):
    """A text that stands in the file as it is: a reference, and no string."""

    __slots__ = ()


class Block(NamedTuple):
    """A block: its type, its labels, and what is in it; an attribute is a name with a value."""

    type: str
    labels: tuple[str, ...]
    body: Sequence[tuple[str, Any] | Block]


def write(given: ExportInput) -> Export:
    """Return one file with everything."""
    names = distinct_names(given.state.resources, _identifier, "_")
    gaps: list[str] = []
    blocks: list[Block] = []
    for ref, found in given.state.resources.items():
        body = _consumer(found, names) if ref.consumer else _stream(found)
        gaps += body.gaps
        blocks.append(Block("resource", (_KIND_WORDS[ref.kind], names[ref]), body.lines))
    if given.settings["import"] == "yes":
        blocks += [_import(ref, name) for ref, name in names.items()]
    top = list(_provider(given.settings["server"])) if given.settings["server"] else []
    text = "\n".join([head(given, gaps), *(_text(block) for block in (*top, *blocks))])
    return Export({FILE: text}, gaps)


def _provider(server: str) -> Iterator[Block]:
    needed = ("jetstream", {"source": _PROVIDER, "version": ">= 0.4.0"})
    yield Block("terraform", (), (Block("required_providers", (), (needed,)),))
    yield Block("provider", ("jetstream",), (("servers", server),))


def _import(ref: Ref, name: str) -> Block:
    address = Literal(f"{_KIND_WORDS[ref.kind]}.{name}")
    id_ = f"{TERRAFORM_STREAM_ID}{ref.stream}"
    if ref.consumer:
        id_ += f"{TERRAFORM_CONSUMER_ID}{ref.consumer}"
    return Block("import", (), (("to", address), ("id", id_)))


def _identifier(ref: Ref) -> str:
    """Return the name of a resource in the file: its own where that can be."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", "_".join(filter(None, ref)))
    return plain if re.match(r"[A-Za-z_]", plain) else f"_{plain}"


class _Body:
    """The attributes and blocks of one resource, and what of it could not be said."""

    def __init__(self, ref: Ref) -> None:
        self.ref = ref
        self.lines: list[tuple[str, Any] | Block] = []
        self.gaps: list[str] = []

    def add(self, name: str, value: Any) -> None:
        self.lines.append((name, value))

    def field(self, name: str, value: Any, instead: str = "") -> None:
        """Add a field in the provider's units: seconds for nanoseconds."""
        unit = FIELDS[self.ref.kind][name].unit
        match unit:
            case Unit.DURATION:
                value = self.seconds(name, value)
            case Unit.DURATIONS:
                value = [self.seconds(name, each) for each in value]
        self.add(instead or name, value)

    def seconds(self, name: str, nanoseconds: int) -> int:
        """Return the duration in whole seconds, rounded up; a gap says so where it is rounded."""
        if nanoseconds % SECOND:
            self.gap(f"{name} is no whole number of seconds, and is rounded up")
        return -(-nanoseconds // SECOND)

    def gap(self, what: str) -> None:
        self.gaps.append(f"{self.ref}: {what}")


def _stream(stream: Resource) -> _Body:
    body = _Body(stream.ref)
    for name, value in written_config(stream).items():
        if value is None or name == "metadata":
            continue
        if shape := _STREAM_SHAPES.get(name):
            shape(body, value)
        elif name == "name":
            body.add(name, value)
        elif name in FIELDS[Kind.STREAM]:
            body.field(name, value, TERRAFORM_NAMES[Kind.STREAM].get(name, ""))
    body.add("metadata", dict(stream.metadata))
    body.lines.append(Block("lifecycle", (), (("prevent_destroy", True),)))
    return body


def _consumer(consumer: Resource, names: Mapping[Ref, str]) -> _Body:
    body = _Body(consumer.ref)
    stream = Ref(consumer.ref.stream)
    said = f"{TERRAFORM_STREAM_ID}{stream}"
    body.add("stream_id", Literal(f"jetstream_stream.{names[stream]}.id") if stream in names else said)
    config = written_config(consumer)
    for name, value in config.items():
        if value is None or name in ("name", "metadata", "opt_start_seq", "opt_start_time"):
            continue
        if name == "deliver_policy":
            body.add(*_START[value](config))
        elif name == "sample_freq":
            body.add(name, int(str(value).removesuffix("%") or 0))
        elif name == "durable_name":
            body.add(name, value)
        elif name in FIELDS[Kind.CONSUMER]:
            body.field(name, value, TERRAFORM_NAMES[Kind.CONSUMER].get(name, ""))
    if "max_ack_pending" not in config:
        body.add("max_ack_pending", 0)  # else the provider writes 20000
    body.add("metadata", dict(consumer.metadata))
    return body


_START: Mapping[str, Callable[[Config], tuple[str, Any]]] = {
    "all": lambda _: ("deliver_all", True),
    "last": lambda _: ("deliver_last", True),
    "new": lambda _: ("deliver_new", True),
    "last_per_subject": lambda _: ("deliver_last_per_subject", True),
    "by_start_sequence": lambda config: ("stream_sequence", config["opt_start_seq"]),
    "by_start_time": lambda config: ("start_time", config["opt_start_time"]),
}
"""How the provider says where a consumer starts: it has one attribute for each."""


def _subjects(body: _Body, value: Sequence[str]) -> None:
    if value:
        body.add("subjects", list(value))


def _placement(body: _Body, value: Config) -> None:
    if value.get("cluster"):
        body.add("placement_cluster", value["cluster"])
        if value.get("tags"):
            body.add("placement_tags", list(value["tags"]))
    elif value.get("tags"):
        body.gap("placement has tags without a cluster, which the provider leaves out")


def _republish(body: _Body, value: Config) -> None:
    body.add("republish_source", value.get("src") or ">")
    body.add("republish_destination", value["dest"])
    body.add("republish_headers_only", bool(value.get("headers_only")))


def _limits(body: _Body, value: Config) -> None:
    if value.get("inactive_threshold"):
        body.add("inactive_threshold", body.seconds("inactive_threshold", value["inactive_threshold"]))
    if value.get("max_ack_pending"):
        body.add("max_ack_pending", value["max_ack_pending"])


def _sealed(body: _Body, value: bool) -> None:  # noqa: FBT001 - a shape of a field
    if value:
        body.gap("the provider cannot seal a stream, and would refuse this one")


def _transform(value: Config) -> Block:
    return Block(
        "subject_transform", (), (("source", value.get("src") or ">"), ("destination", value["dest"]))
    )


def _origin(type_: str, value: Config) -> Block:
    words = {"opt_start_seq": "start_seq", "opt_start_time": "start_time"}
    lines: list[tuple[str, Any] | Block] = [
        (words.get(name, name), value[name])
        for name in ("name", "opt_start_seq", "opt_start_time", "filter_subject")
        if value.get(name)
    ]
    if external := value.get("external"):
        lines.append(Block("external", (), tuple(external.items())))
    lines += [_transform(each) for each in value.get("subject_transforms") or ()]
    return Block(type_, (), lines)


_STREAM_SHAPES: Mapping[str, Callable[[_Body, Any], None]] = {
    "subjects": _subjects,
    "no_ack": lambda body, value: body.add("ack", not value),
    "placement": _placement,
    "republish": _republish,
    "consumer_limits": _limits,
    "sealed": _sealed,
    "subject_transform": lambda body, value: body.lines.append(_transform(value)),
    "mirror": lambda body, value: body.lines.append(_origin("mirror", value)),
    "sources": lambda body, value: body.lines.extend(_origin("source", each) for each in value),
}
"""What has another shape there."""


def _text(block: Block, indent: str = "") -> str:
    """Return the block as `terraform fmt` would write it: the values of adjacent lines are aligned."""
    begin = " ".join([block.type, *(_string(label) for label in block.labels)])
    return f"{indent}{begin} {{\n{''.join(_lines(block.body, f'{indent}  '))}{indent}}}\n"


def _lines(body: Sequence[tuple[str, Any] | Block], indent: str) -> Iterator[str]:
    plain = [each for each in body if not isinstance(each, Block) and not isinstance(each[1], Mapping)]
    width = max((len(name) for name, _ in plain), default=0)
    for name, value in plain:
        yield f"{indent}{name:<{width}} = {_value(value)}\n"
    first = not plain
    for each in body:
        if isinstance(each, Block):
            yield ("" if first else "\n") + _text(each, indent)
        elif isinstance(each[1], Mapping):
            yield ("" if first else "\n") + f"{indent}{each[0]} = {_map(each[1], indent)}\n"
        else:
            continue
        first = False


def _map(value: Mapping[str, str], indent: str) -> str:
    keys = {name: name if name.isidentifier() and name.isascii() else _string(name) for name in value}
    width = max(map(len, keys.values()), default=0)
    inner = "".join(f"{indent}  {keys[name]:<{width}} = {_string(text)}\n" for name, text in value.items())
    return f"{{\n{inner}{indent}}}"


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case Literal():
            return str(value)
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
    return _string(value)


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_BMP = 0xFFFF


def _string(text: str) -> str:
    """Return a quoted string; `${` and `%{` would begin a template."""
    quoted = "".join(_ESCAPES.get(char) or (char if char.isprintable() else _code(char)) for char in text)
    return '"' + quoted.replace("${", "$${").replace("%{", "%%{") + '"'


def _code(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) <= _BMP else f"\\U{ord(char):08x}"
