"""Find the JSON schemas, and say in sentences what they have against a manifest or a message."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path as File
from typing import TYPE_CHECKING, Any

import orjson

from cyborg_infra.manifest.channels import own_keys
from cyborg_infra.manifest.field_values import is_utc
from cyborg_infra.manifest.suggest import NameIndex, nearest
from cyborg_infra.manifest.yaml_source import Source
from cyborg_infra.model.channels import StreamKind
from cyborg_infra.model.organisation import ManifestPath
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.valueclass import NamedTuple

if TYPE_CHECKING:
    import jsonschema_rs
    from jsonschema import Draft202012Validator, ValidationError

# What the `nats` CLI calls it (peers: its flags) -> JetStream's names; the first that fits the place is meant.
_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "ack": ("ack_policy", "no_ack"),
    "allow_batch": ("allow_atomic",),
    "allow_counter": ("allow_msg_counter",),
    "allow_fast": ("allow_batched",),
    "allow_mirror_direct": ("mirror_direct",),
    "allow_rollup": ("allow_rollup_hdrs",),
    "allow_schedules": ("allow_msg_schedules",),
    "bps": ("rate_limit_bps",),
    "deadletter": ("dead_letters",),
    "deliver": ("deliver_policy",),
    "discard_per_subject": ("discard_new_per_subject",),
    "dupe_window": ("duplicate_window",),
    "filter": ("filter_subject",),
    "filters": ("filter_subjects",),
    "first_sequence": ("first_seq",),
    "heartbeat": ("idle_heartbeat",),
    "max_age": ("ttl",),
    "max_bucket_size": ("max_bytes",),
    "max_msg_size": ("max_value_size",),
    "max_msgs_per_subject": ("history",),
    "max_outstanding": ("max_ack_pending",),
    "max_pending": ("max_ack_pending",),
    "max_pull_batch": ("max_batch",),
    "max_pull_bytes": ("max_bytes",),
    "max_pull_expire": ("max_expires",),
    "memory": ("mem_storage",),
    "name": ("org",),
    "num_replicas": ("replicas",),
    "pinned_groups": ("priority_groups",),
    "replay": ("replay_policy",),
    "replicas": ("num_replicas",),
    "sample": ("sample_freq",),
    "source": ("sources", "src"),
    "destination": ("dest",),
    "subject": ("subjects", "filter_subject"),
    "subject_del_markers_ttl": ("subject_delete_marker_ttl",),
    "tag": ("tags",),
    "target": ("deliver_subject",),
    "transform": ("subject_transform",),
    "wait": ("ack_wait",),
    # Words for other keys of the manifest.
    "agents": ("roles",),
    "buckets": ("key_value",),
    "alerts": ("dead_letter_alerts",),
    "dlq": ("dead_letters",),
    "envs": ("environments",),
    "inbox": ("inbox_reader", "inboxes"),
    "kv": ("key_value",),
    "organisation": ("org",),
    "organization": ("org",),
    "prefix": ("stream_prefix",),
}
_VALUE_SPELLINGS = {
    "work": "workqueue",
    "workq": "workqueue",
    "work_queue": "workqueue",
    "f": "file",
    "disk": "file",
    "m": "memory",
    "mem": "memory",
    "subject": "last_per_subject",
}

# Of these, the loader says more about a value than a pattern could: `'90' has no unit; write for example 90s`.
_SPOKEN_ELSEWHERE = ("name", "size", "duration", "subject", "time")
_BOUNDS = ("pattern", "minimum", "maximum", "format")

_TYPES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
}
_TITLES = {"size": "a size such as 100MB", "duration": "a duration such as 72h"}
_FOUND = {
    str: "text",
    int: "a number",
    float: "a fraction",
    bool: "true or false",
    list: "a list",
}
_MAX_CHOICES_SHOWN = 12  # so many keys are listed where none comes near


class _SchemaError(NamedTuple):
    """One keyword of the schema that one value does not keep."""

    path: ManifestPath
    keyword: str
    limit: Any  # what the keyword asks for
    value: Any
    schema: Mapping[str, Any]
    of_key: bool  # the value is a key of the mapping at `path`
    message: str  # jsonschema's own

    @classmethod
    def of(cls, error: ValidationError) -> _SchemaError:
        schema = error.schema if isinstance(error.schema, Mapping) else {}
        of_key = "propertyNames" in list(error.absolute_schema_path)[-3:]
        keyword, path = str(error.validator), tuple(error.absolute_path)
        return cls(path, keyword, error.validator_value, error.instance, schema, of_key, error.message)


class SchemaMessages(NamedTuple):
    """What sentences call the whole, an object in it, and nothing at all: YAML's words or JSON's."""

    whole: str = "the manifest"
    object: str = "a mapping"
    nothing: str = "empty"


_YAML = SchemaMessages()


def read_schema(name: str) -> dict[str, Any]:
    """Return the schema in the file `value_text`: the package's own in an installation, else the checkout's.

    Raises:
        FileNotFoundError: neither has it.
    """
    found: dict[str, Any] = orjson.loads((_directory() / name).read_bytes())
    return found


def schema_names() -> list[str]:
    """Return what `read_schema` finds, without the ending: `org`, `messages/task`."""
    home = _directory()
    return sorted(file.relative_to(home).as_posix().removesuffix(ENDING) for file in home.rglob(f"*{ENDING}"))


ENDING = ".schema.json"


def _directory() -> File:
    package = File(__file__).parents[1]
    packaged = package / "schemas"
    return packaged if (packaged / f"org{ENDING}").is_file() else package.parent / "schemas"


def check_schema(
    source: Source, schema: str = "org.schema.json", words: SchemaMessages = _YAML
) -> list[tuple[ManifestPath, Problem]]:
    """Return everything the schema has against the source, each with the path of the value that cannot be used."""
    own = _own(schema, source.data)
    if accepts(schema, source.data):
        return []
    breaches = (_SchemaError.of(error) for error in _validator(schema, own).iter_errors(source.data))
    known: dict[int, NameIndex] = {}
    return [
        found
        for breach in breaches
        if not (breach.schema.get("title") in _SPOKEN_ELSEWHERE and breach.keyword in _BOUNDS)
        for found in _problems(breach, source, words, known)
    ]


def accepts(schema: str, data: Any) -> bool:
    """Return whether `data` fits the schema: a thousand times faster than jsonschema, which is asked only for what is wrong."""
    quick = _quick(schema, _own(schema, data))
    try:
        return quick.is_valid(data)
    except ValueError:  # half of a surrogate pair, or a number beyond every bound
        return False


OwnKeys = tuple[tuple[str, tuple[str, ...]], ...]
"""The keys that a manifest's own channels add to its sections."""


def _own(schema: str, data: Any) -> OwnKeys:
    return tuple(own_keys(data).items()) if schema == ORG_SCHEMA else ()


ORG_SCHEMA = f"org{ENDING}"


def _held_to(schema: str, own: OwnKeys) -> dict[str, Any]:
    """Return the schema that a document must fit. In a manifest no other keys of own channels are allowed than those that it declares.

    The schema as it is, for editors, does not know a manifest's channels, and lets every key be one of them.
    """
    found = read_schema(schema)
    if schema != ORG_SCHEMA:
        return found
    parts = found["$defs"]
    places = {
        "streams": [parts["streams"], parts["naming"]["properties"]["streams"]],
        "consumers": [parts["consumers"], parts["naming"]["properties"]["consumers"]],
        "roles": [parts["role"], parts["role_overrides"], found["properties"]["roles"]["items"]],
        "alerts": [parts["alerts"], parts["organisation_alerts"]],
    }
    added = dict(own)
    for section, nodes in places.items():
        for node in nodes:
            keys = {str(key): _own_key(key, section, node) for key in added.get(section, ())}
            node["properties"] = keys | node["properties"]
            node["additionalProperties"] = False
    return found


def _own_key(key: str, section: str, node: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema under the key of an own channel: of a role, a stream's fields or a consumer's."""
    if section != "roles":
        found: Mapping[str, Any] = node["additionalProperties"]
        return found
    return {"$ref": f"#/$defs/{'stream' if isinstance(key, StreamKind) else 'consumer'}"}


@cache
def _quick(schema: str, own: OwnKeys = ()) -> jsonschema_rs.Draft202012Validator:
    import jsonschema_rs

    formats = {"date-time": is_utc}
    return jsonschema_rs.Draft202012Validator(_held_to(schema, own), formats=formats, validate_formats=True)


@cache
def _validator(schema: str, own: OwnKeys = ()) -> Draft202012Validator:
    from jsonschema import Draft202012Validator, FormatChecker

    formats = FormatChecker(formats=())
    formats.checks("date-time")(lambda value: not isinstance(value, str) or is_utc(value))
    return Draft202012Validator(_held_to(schema, own), format_checker=formats)


def value_text(path: ManifestPath, whole: str = "the manifest") -> str:
    """Return what to call the value at `path` in a sentence."""
    if not path:
        return whole
    last = path[-1]
    return f"item {last + 1} of {value_text(path[:-1], whole)}" if isinstance(last, int) else last


def _problems(
    breach: _SchemaError, source: Source, words: SchemaMessages, sets: dict[int, NameIndex]
) -> Iterator[tuple[ManifestPath, Problem]]:
    path, where = breach.path, source.mark(breach.path)
    if breach.keyword == "additionalProperties":
        # Of one object of the schema many mappings are refused.
        known = sets.setdefault(id(breach.schema), NameIndex(breach.schema["properties"]))
        for key in sorted(breach.value.keys() - breach.schema["properties"].keys()):
            here = (*path, key)
            named = "a URL" if "://" in key else key  # which may have a secret in it
            message = f"{named} is no key of {value_text(path, words.whole)}"
            yield here, Problem("unknown-key", message, source.key(here), _suggestion(key, known))
    elif breach.keyword == "required":
        key = breach.message.split("'")[1]  # one breach a key, which only the message names
        yield (
            (*path, key),
            Problem("missing-key", f"{value_text(path, words.whole)} needs the key {key}", where),
        )
    elif breach.of_key:
        here = (*path, breach.value)
        message = f"the key {breach.value} {_sentence(breach, words)}"
        yield here, Problem("bad-key", message, source.key(here))
    else:
        code = "wrong-type" if breach.keyword == "type" else "bad-value"
        yield (
            path,
            Problem(
                code, f"{value_text(path, words.whole)} {_sentence(breach, words)}", where, _hint(breach)
            ),
        )


def _suggestion(key: str, history: NameIndex) -> str | None:
    """Return the hint for a key that is none of `history`."""
    plain = key.strip().lower().replace("-", "_")
    spelt = (api for api in _SPELLINGS.get(plain, ()) if api in history)
    meant = next(spelt, None) or (plain if plain in history else history.nearest(plain))
    if meant:
        return f"did you mean {meant}?"
    return (
        f"known keys: {', '.join(history.first(_MAX_CHOICES_SHOWN))}"
        if len(history) <= _MAX_CHOICES_SHOWN
        else None
    )


def _sentence(breach: _SchemaError, words: SchemaMessages) -> str:
    """Return what the value must be, and what it is."""
    limit, value, schema = breach.limit, breach.value, breach.schema
    sentences: Mapping[str, Callable[[], str]] = {
        "type": lambda: f"must be {_describe_types(schema, words)}, not {_describe_value(value, words)}",
        "enum": lambda: f"must be {_either(limit)}, not {value!r}",
        "const": lambda: f"must be {limit}, not {value!r}",
        "pattern": lambda: str(schema["patternErrorMessage"]),
        "format": lambda: f"must be an RFC 3339 time in UTC, such as 2026-01-31T00:00:00Z, not {value!r}",
        "exclusiveMinimum": lambda: f"must be more than {limit}, not {value}",
        "minimum": lambda: f"must be at least {limit}, not {value}",
        "maximum": lambda: f"must be at most {limit}, not {value}",
        "minLength": lambda: "must not be empty",
        "maxLength": lambda: f"must be at most {limit} characters long, not {len(value)}",
        "minItems": lambda: "must not be empty",
        "minProperties": lambda: "must not be empty",
        "uniqueItems": lambda: "must not name anything twice",
    }
    return sentences[breach.keyword]()


def _describe_value(value: Any, words: SchemaMessages) -> str:
    """Return what the value is, in words."""
    return {dict: words.object, type(None): words.nothing}.get(type(value)) or _FOUND[type(value)]


def _describe_types(schema: Mapping[str, Any], words: SchemaMessages) -> str:
    """Return the types that the schema allows, in words."""
    if schema.get("title") in _TITLES:
        return _TITLES[schema["title"]]
    types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    return _either([words.object if kind == "object" else _TYPES[kind] for kind in types if kind != "null"])


def _either(choices: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(choices[:-1]), choices[-1])))


def _hint(breach: _SchemaError) -> str | None:
    if breach.keyword == "enum":
        text = str(breach.value)
        meant = _VALUE_SPELLINGS.get(text, nearest(text, breach.limit))
        return f"did you mean {meant}?" if meant in breach.limit else None
    wants_text = breach.keyword == "type" and breach.schema["type"] in ("string", ["string", "object"])
    if wants_text and isinstance(breach.value, bool | int):
        return f'write "{json.dumps(breach.value)}" with quotes if text is meant'
    return None
