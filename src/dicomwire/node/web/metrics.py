"""The numbers of a node for Prometheus, at /metrics; none of them tells of a patient.

The labels are bounded: services, outcomes, kinds of tasks, and the paths of endpoints. Those of
all processes of the node come from `node.counts`. HTTP is served in one process, and counted here.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from functools import partial
from itertools import accumulate

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from starlette.requests import Request
from starlette.responses import Response

from dicomwire import __version__
from dicomwire.node.counts import BUCKETS, Times
from dicomwire.node.index.schema import instance, patient, series, study
from dicomwire.node.journal import JOURNAL
from dicomwire.node.nodes import registered
from dicomwire.node.objects.opening import folder_of
from dicomwire.node.objects.spool import SPOOL, size_of
from dicomwire.node.tasks.queue import counts
from dicomwire.node.users import UserRight
from dicomwire.node.web.endpoints import Endpoint, Site

LOGGER = logging.getLogger("dicomwire")

_TOTALS_FOR = 60.0
"""Seconds for which the totals of the index are kept: to count a million rows takes long."""
_SIZES_FOR = 10.0
"""The same for the sizes of folders."""
_TABLES = {"patient": patient, "study": study, "series": series, "instance": instance}


class Metrics:
    """Counts requests of HTTP, and answers /metrics."""

    def __init__(self, site: Site) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "dicomwire_http_requests",
            "Requests of HTTP that have ended; status 0: without a response.",
            ["method", "path", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "dicomwire_http_request_seconds",
            "The time from the head of a request to the end of its response; by class of status.",
            ["method", "path", "status"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._registry.register(_OfNode(site))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self.endpoints = [Endpoint("GET", "/metrics", UserRight.WATCH, self._answer)]

    def observe(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count a request; method and path are those of an endpoint, or empty."""
        self._requests.labels(method, path, str(status)).inc()
        self._seconds.labels(method, path, f"{status // 100}xx").observe(seconds)

    def _answer(self, request: Request, site: Site) -> Response:
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)


class _OfNode(Collector):
    """Reads the numbers of a node when they are asked for."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def describe(self) -> list[Metric]:
        return []  # so that nothing is read when it is registered

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("dicomwire", "The program.", {"version": __version__})
        yield from self._of_dimse()
        yield from self._of_index()
        yield from self._of_disk()

    def _of_dimse(self) -> Iterator[Metric]:
        totals = self._site.counts.totals()
        open_now, _ = self._site.operations.associations()
        yield GaugeMetricFamily("dicomwire_associations", "Open associations.", open_now)
        text = "Associations that peers have requested, and the node has accepted."
        yield CounterMetricFamily("dicomwire_associations_accepted", text, totals.associations)
        if LOGGER.isEnabledFor(logging.INFO):  # otherwise they are not counted, and not 0
            operations = CounterMetricFamily(
                "dicomwire_operations",
                "Requests of peers that have been answered.",
                labels=["service", "outcome"],
            )
            for labels, number in totals.operations.items():
                operations.add_metric(labels, number)
            yield operations
            seconds = HistogramMetricFamily(
                "dicomwire_operation_seconds",
                "The time from a complete request to its last response.",
                labels=["service", "outcome"],
            )
            for labels, times in totals.times.items():
                seconds.add_metric(labels, _cumulated(times), times.seconds)
            yield seconds
        text = "The time that a step of the commit of a batch of objects has taken."
        steps = HistogramMetricFamily("dicomwire_commit_seconds", text, labels=["step"])
        for step, times in totals.steps.items():
            steps.add_metric([step], _cumulated(times), times.seconds)
        yield steps

    def _of_index(self) -> Iterator[Metric]:
        index = self._site.archive.index
        begin = time.perf_counter()
        waiting = counts(index)
        took = time.perf_counter() - begin
        tasks = GaugeMetricFamily(
            "dicomwire_tasks", "Tasks in the queue.", labels=["kind", "state"]
        )
        for kind, states in waiting.items():
            for state, number in states.items():
                tasks.add_metric([kind, str(state)], number)
        yield tasks
        text = "The time in which the index has counted the tasks, just now."
        yield GaugeMetricFamily("dicomwire_index_answer_seconds", text, took)
        now = time.time()
        alive = sum(node.is_alive(now) for node in registered(index))
        yield GaugeMetricFamily("dicomwire_nodes", "Nodes that serve the index.", alive)
        totals = self._site.operations.recent("metrics.totals", _TOTALS_FOR, self._totals)
        entities = GaugeMetricFamily("dicomwire_stored", "What the index has.", labels=["level"])
        for level in _TABLES:
            entities.add_metric([level], totals[level])
        yield entities
        text = "The size of all stored objects."
        yield GaugeMetricFamily("dicomwire_stored_bytes", text, totals["bytes"])

    def _totals(self) -> dict[str, int]:
        with self._site.archive.index.reading() as connection:
            found = {
                level: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for level, table in _TABLES.items()
            }
            size = connection.execute(select(func.sum(instance.c.size))).scalar()
        return {**found, "bytes": int(size or 0)}

    def _of_disk(self) -> Iterator[Metric]:
        folder = folder_of(self._site.configuration)
        disk = shutil.disk_usage(folder)
        text = "Free bytes of the file system with the folder."
        yield GaugeMetricFamily("dicomwire_disk_free_bytes", text, disk.free)
        text = "The size of that file system."
        yield GaugeMetricFamily("dicomwire_disk_size_bytes", text, disk.total)
        recent = self._site.operations.recent
        for name in (SPOOL, JOURNAL):
            size = recent(f"metrics.{name}", _SIZES_FOR, partial(size_of, folder / name))
            text = f"The size of the {name}."
            yield GaugeMetricFamily(f"dicomwire_{name}_bytes", text, size["bytes"])


def _cumulated(times: Times) -> list[tuple[str, float]]:
    """Return the upper limits of the classes, each with the number up to there."""
    limits = [*map(str, BUCKETS), "+Inf"]
    return list(zip(limits, accumulate(times.classes), strict=True))
