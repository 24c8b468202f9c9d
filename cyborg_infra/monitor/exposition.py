"""Write an observation for Prometheus, in the format that the scraper asks for: its text format, or OpenMetrics."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from cyborg_infra.model.monitor import Observation
from cyborg_infra.render.prometheus import PREFIX, observation_metrics


def exposition(observation: Observation, accept: str) -> tuple[bytes, str]:
    """Return the metrics and their content type, which is one that the header `accept` names."""
    encode, content_type = choose_encoder(accept)
    return encode(_Once(observation)), content_type


class _Once(CollectorRegistry):
    """The metrics of one observation."""

    def __init__(self, observation: Observation) -> None:
        super().__init__()
        self._observation = observation

    def collect(self) -> Iterator[Metric]:
        """Yield each metric with its samples; every sample has the label org."""
        seen = self._observation
        for name, (meaning, samples) in observation_metrics(seen, time.time()).items():
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            family = kind(f"{PREFIX}{name}", meaning)
            for labels, value in samples:
                if value is not None:
                    # Not by the family's own way, which takes the names of the labels once for all.
                    family.add_sample(f"{PREFIX}{name}", {"org": seen.org, **labels}, value)
            yield family
