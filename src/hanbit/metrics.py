"""What the server counts for Prometheus: outcomes by reason, latency, the book, the line; no id, tid or amount is a label."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The counters of one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        # The library finds a series by its labels under a lock, each time; there are few of them and they stay.
        self._outcome_counters: dict[tuple[str, str], Counter] = {}
        self._request_timers: dict[tuple[str, int], Histogram] = {}
        self._outcomes = Counter("hanbit_outcomes", "Events by kind and reason", ["kind", "reason"], registry=self._registry)
        self._requests = Histogram(
            "hanbit_request_seconds", "Time to answer a request", ["route", "status"], buckets=SECONDS, registry=self._registry
        )
        self._cut = Counter(
            "hanbit_connections_cut", "Customers' connections that we ended or did not take", ["reason"], registry=self._registry
        )
        self._customers = Gauge("hanbit_connections", "Customers' connections now", registry=self._registry)
        self._handshakes = Gauge("hanbit_handshakes", "Customers' TLS handshakes under way", registry=self._registry)
        self._batch = Histogram("hanbit_commit_batch_changes", "Changes in one commit", buckets=BATCHES, registry=self._registry)
        self._largest = Gauge(
            "hanbit_commit_batch_largest_changes", "Changes in the largest commit since the start", registry=self._registry
        )
        self._largest_so_far = 0
        self._commit = Histogram("hanbit_commit_seconds", "Time of one commit", buckets=SECONDS, registry=self._registry)
        self._waiting = Gauge("hanbit_book_waiting_changes", "Changes that wait for the book", registry=self._registry)
        self._connections = Gauge("hanbit_line_connections", "Healthy connections of merchants", registry=self._registry)
        self._round_trip = Gauge("hanbit_line_round_trip_seconds", "Slowest last ping of a merchant", registry=self._registry)
        self._halted = Gauge("hanbit_payments_halted", "1 while no payments are taken (hanbit evidence resume)", registry=self._registry)
        self._pending = Gauge("hanbit_line_pending_requests", "Our requests that wait for a merchant", registry=self._registry)

        self._certificates = Gauge(
            "hanbit_certificate_seconds_left", "Until a certificate of the operator's own ends", ["certificate"], registry=self._registry
        )

    def outcome(self, kind: str, reason: str) -> None:
        """Count one event."""
        counter = self._outcome_counters.get((kind, reason))
        if counter is None:
            counter = self._outcome_counters[kind, reason] = self._outcomes.labels(kind, reason)
        counter.inc()

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request; `route` is the pattern, never the address."""
        timer = self._request_timers.get((route, status))
        if timer is None:
            timer = self._request_timers[route, status] = self._requests.labels(route, str(status))
        timer.observe(seconds)

    def connection_cut(self, reason: str) -> None:
        """Count one customer's connection that we ended or did not take."""
        self._cut.labels(reason).inc()

    def watch_customers(self, connections: Callable[[], int], handshakes: Callable[[], int]) -> None:
        """Where the gauges of the customers' side look when they are read."""
        self._customers.set_function(connections)
        self._handshakes.set_function(handshakes)

    def committed(self, changes: int, seconds: float) -> None:
        """Count one commit of the book."""
        self._batch.observe(changes)
        self._commit.observe(seconds)
        if changes > self._largest_so_far:
            self._largest_so_far = changes
            self._largest.set(changes)

    def watch(
        self,
        waiting: Callable[[], int],
        connections: Callable[[], int],
        round_trip: Callable[[], float],
        pending: Callable[[], int],
        halted: Callable[[], int],
    ) -> None:
        """Where the gauges look when they are read."""
        self._waiting.set_function(waiting)
        self._connections.set_function(connections)
        self._round_trip.set_function(round_trip)
        self._pending.set_function(pending)
        self._halted.set_function(halted)

    def watch_certificates(self, names: Iterable[str], seconds_left: Callable[[str], int]) -> None:
        """Where the gauges of the operator's own certificates look; the names are few and fixed."""
        for name in names:
            self._certificates.labels(name).set_function(partial(seconds_left, name))

    def text(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self._registry)


def merged(pages: Mapping[int, str]) -> bytes:
    """The pages of several processes as one: each figure once for every process, labelled with its number."""
    families: dict[str, tuple[list[str], list[str]]] = {}
    for number, page in sorted(pages.items()):
        family: tuple[list[str], list[str]] = ([], [])
        for line in page.splitlines():
            if line.startswith("# HELP "):
                family = families.setdefault(line.split(" ", 3)[2], ([], []))
                family[0][:] = [line]
            elif line.startswith("# TYPE "):
                family[0][1:] = [line]
            else:
                family[1].append(_labelled(line, number))
    return "".join(f"{line}\n" for head, figures in families.values() for line in (*head, *figures)).encode()


def _labelled(figure: str, number: int) -> str:
    name, has_labels, rest = figure.partition("{")
    if has_labels and " " not in name:
        return f'{name}{{process="{number}",{rest}'
    name, _, value = figure.partition(" ")
    return f'{name}{{process="{number}"}} {value}'
