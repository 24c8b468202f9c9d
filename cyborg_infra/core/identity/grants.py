"""What each thing that a client does takes on the server: the subjects of JetStream's API, of acknowledgements and of buckets.

Measured on 2.10.26 and 2.15.1. An ack subject names the stream and the consumer and never who sends it, so it is always
written out with both; servers know two forms of it since 2.14 (`feature_flags {js_ack_fc_v2}`), and so each has two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cyborg_infra.model.buckets import bucket_stream, bucket_subject
from cyborg_infra.model.identities import Grant
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import Resource

_COUNTS = ".*" * 5
"""Deliveries, two sequences, time and pending. As many tokens and no more: `$JS.ACK.*.*.MINE.mine.>` would take in the first form
of another's consumer, `$JS.ACK.THEIRS.theirs.MINE.mine.1.1.1`, by which the server hands out its messages (`+NXT`; measured)."""

API = "$JS.API"
"""What the table is written with; behind a leaf node a domain's own prefix stands in its place."""


def api_prefix(domain: str | None) -> str:
    """Return the prefix of API requests from a client that is connected to a leaf node of this domain's hub."""
    return f"$JS.{domain}.API" if domain else API


def in_domain(grants: Sequence[Grant], domain: str | None) -> tuple[Grant, ...]:
    """Return the grants as a leaf node sees them. Acknowledgements are the same everywhere."""
    if not domain:
        return tuple(grants)
    prefix = api_prefix(domain)
    return tuple(grant._replace(subject=_moved(grant.subject, prefix)) for grant in grants)


def _moved(subject: str, prefix: str) -> str:
    if subject.startswith(f"{API}."):
        return prefix + subject.removeprefix(API)
    return f"{prefix}.{subject}" if subject.startswith("$KV.") else subject


def acknowledge(stream: str, consumer: str) -> Iterator[Grant]:
    """Yield what ack, nak, term and in progress take, in both forms."""
    reason = f"consumer {stream}/{consumer}: ack, nak, term, in progress"
    yield Grant(f"$JS.ACK.{stream}.{consumer}{_COUNTS}", reason)
    yield Grant(f"$JS.ACK.*.*.{stream}.{consumer}{_COUNTS}", f"{reason}, by js_ack_fc_v2")


def use_any_consumer(domain: str | None = None) -> tuple[Grant, ...]:
    """Return patterns of what reading an existing pull consumer takes, whichever it is."""
    any_consumer = Resource(Ref("*", "*"), {"ack_policy": "explicit"})
    publish, _ = use_consumer(any_consumer)
    return in_domain(
        [grant._replace(reason=grant.reason.replace("consumer */*", "a consumer")) for grant in publish],
        domain,
    )


def flow_control(stream: str, reason: str) -> Iterator[Grant]:
    """Yield what a push consumer's client answers, in both forms."""
    yield Grant(f"$JS.FC.{stream}.*.*", reason)
    yield Grant(f"$JS.FC.*.*.{stream}.*.*", f"{reason}, by js_ack_fc_v2")


def use_consumer(consumer: Resource) -> tuple[list[Grant], list[Grant]]:
    """Return what reading an existing consumer takes, to publish and to subscribe. It takes no right to create one."""
    stream, name = consumer.ref
    reason = f"consumer {consumer.ref}"
    publish = [Grant(f"{API}.CONSUMER.INFO.{stream}.{name}", f"{reason}: open it, and see what waits")]
    subscribe: list[Grant] = []
    if pushed_to := consumer.get("deliver_subject"):
        group = consumer.get("deliver_group")
        subscribe.append(
            Grant(f"{pushed_to} {group}" if group else pushed_to, f"{reason}: hear what it pushes")
        )
        if consumer.get("flow_control"):
            publish += flow_control(stream, f"{reason}: flow control")
    else:
        publish.append(Grant(f"{API}.CONSUMER.MSG.NEXT.{stream}.{name}", f"{reason}: pull"))
    if consumer.get("ack_policy") != "none":
        publish += acknowledge(stream, name)
    return publish, subscribe


def read_bucket(name: str, *, direct: bool) -> Iterator[Grant]:
    """Yield what get takes."""
    stream, reason = bucket_stream(name), f"bucket {name}"
    if direct:
        yield Grant(f"{API}.DIRECT.GET.{stream}", f"{reason}: get a revision")
        yield Grant(f"{API}.DIRECT.GET.{stream}.>", f"{reason}: get")
    else:
        yield Grant(f"{API}.STREAM.MSG.GET.{stream}", f"{reason}: get")


def watch_bucket(name: str) -> Iterator[Grant]:
    """Yield what watch, keys and history take.

    A watch makes a consumer of its own. Whoever may do that can read all of the bucket, could delete another watch of it, and
    says where its values are delivered: anywhere in the account, whoever may publish there (measured on 2.10.26 and 2.15.1).
    """
    stream, reason = bucket_stream(name), f"bucket {name}"
    yield Grant(f"{API}.CONSUMER.CREATE.{stream}", f"{reason}: watch")
    yield Grant(f"{API}.CONSUMER.CREATE.{stream}.>", f"{reason}: watch, as newer clients ask for it")
    yield Grant(f"{API}.CONSUMER.INFO.{stream}.*", f"{reason}: watch")
    yield Grant(f"{API}.CONSUMER.DELETE.{stream}.*", f"{reason}: end a watch")
    yield from flow_control(stream, f"{reason}: watch")


def open_bucket(name: str) -> Grant:
    """Return what opening a bucket takes, which its readers and its writers do."""
    return Grant(f"{API}.STREAM.INFO.{bucket_stream(name)}", f"bucket {name}: open it")


def write_bucket(name: str) -> Grant:
    """Return what put, create, update and delete take."""
    return Grant(bucket_subject(name), f"bucket {name}: put, update, delete")
