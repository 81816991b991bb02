"""Suites: the cases, what the client is told in each, and which of its numbers are compared."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A number in the client's line."""

    key: str
    label: str
    higher_is_better: bool = False

    def read(self, run: dict) -> float | None:
        """The number of a run; `a.b` is field b of a."""
        value: object = run
        for part in self.key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return float(value) if isinstance(value, (int, float)) else None


@dataclass(frozen=True)
class Case:
    """One measurement: `compared` of its numbers are told as ratios, the others stand beside.

    `quiet`: it is worthless while something else works on the machine.
    """

    suite: str
    name: str
    arguments: tuple[str, ...]
    metrics: tuple[Metric, ...]
    compared: int = 1
    quiet: bool = True
    descriptors: int = 2048


@dataclass(frozen=True)
class Scale:
    """How long and how large; the smoke test shrinks it."""

    seconds: float
    warmup: float
    idle: int = 10_000
    idle_single: int = 1_000
    storm: int = 10_000
    storm_seconds: float = 1.0
    seed: int = 1

    def times(self) -> tuple[str, ...]:
        """The client's options for a window."""
        return ("--warmup", str(self.warmup), "--seconds", str(self.seconds))


NAMES = ("tcp", "open", "single", "idle", "churn", "storm", "flood", "udp")

RATE = Metric("messages_per_second", "messages/s", higher_is_better=True)
P50 = Metric("p50_us", "p50 us")
P99 = Metric("p99_us", "p99 us")
P999 = Metric("p999_us", "p99.9 us")
SERVER_CPU = Metric("server_cpu", "server CPU")
PEAK_CASE = "64 B x 50"
TCP = {
    "64 B x 1": (1, 1, 64),
    PEAK_CASE: (50, 1, 64),
    "64 B x 1000": (1000, 1, 64),
    "64 B x 50 depth 16": (50, 16, 64),
    "4 KiB x 50": (50, 1, 4096),
    "64 KiB x 8": (8, 1, 65536),
}
SHARES = {"50 %": 0.5, "80 %": 0.8}
FLOODS = {"1M/s": 1_000_000, "unbounded": 0}
# Sockets, messages of a burst, bytes of one; 64 are under way over all sockets.
UDP = {
    f"{size} B, {name} x {sockets}": (sockets, burst, size)
    for size in (64, 1200)
    for burst, name in ((1, "single"), (16, "bursts of 16"))
    for sockets in (1, 4)
}
UDP_UNDER_WAY = 64
IDLE_METRICS = tuple(
    Metric(f"bytes_per_connection_{when}{less}", f"B/connection {when}{text}")
    for when in ("fresh", "echoed")
    for less, text in (("", ""), ("_less_base", " less base"))
)


def tcp(scale: Scale) -> list[Case]:
    """Closed loops over the sizes and numbers of connections."""
    return [
        Case(
            "tcp",
            name,
            ("closed", "--connections", str(connections), "--depth", str(depth))
            + ("--size", str(size), *scale.times()),
            (RATE, P50, P99, P999, SERVER_CPU),
        )
        for name, (connections, depth, size) in TCP.items()
    ]


def open_loop(scale: Scale, peak: float) -> list[Case]:
    """Poisson arrivals at shares of the raw server's peak, with the lighter client engine."""
    return [
        Case(
            "open",
            share,
            ("open", "--connections", "50", "--engine", "uring", "--seed", str(scale.seed))
            + ("--rate", f"{peak * part:.0f}", *scale.times()),
            (SERVER_CPU, P50, P99, P999, RATE),
            compared=3,
        )
        for share, part in SHARES.items()
    ]


def single(scale: Scale) -> list[Case]:
    """What waiting costs and saves."""
    idle = ("idle", "--connections", str(scale.idle_single), "--seconds", str(scale.seconds))
    return [
        Case(
            "single",
            "1 x 1",
            ("closed", *scale.times()),
            (RATE, P50, P99, SERVER_CPU),
        ),
        Case(
            "single",
            "1 x 1000/s",
            ("open", "--rate", "1000", "--seed", str(scale.seed), *scale.times()),
            (SERVER_CPU, P50, P99),
            compared=2,
        ),
        Case("single", f"{scale.idle_single} idle", idle, (SERVER_CPU,)),
    ]


def others(scale: Scale) -> list[Case]:
    """Memory, coming and going, and a flood beside polite connections."""
    idle = ("idle", "--connections", str(scale.idle), "--seconds", str(scale.seconds))
    storm = ("storm", "--connections", str(scale.storm), "--within", str(scale.storm_seconds))
    name = f"{scale.idle} connections"
    cases = [
        Case(
            "idle",
            name,
            idle,
            IDLE_METRICS,
            compared=len(IDLE_METRICS),
            quiet=False,
            descriptors=scale.idle + 100,
        ),
        Case(
            "churn",
            "256 at once, 10 requests",
            ("churn", *scale.times()),
            (Metric("connections_per_second", "connections/s", higher_is_better=True),)
            + (Metric("connection.p50_us", "p50 us"), Metric("connection.p99_us", "p99 us"))
            + (SERVER_CPU,),
        ),
        Case(
            "storm",
            f"{scale.storm} in {scale.storm_seconds} s",
            storm,
            (Metric("lost", "lost"), Metric("connection.p50_us", "p50 us"))
            + (Metric("connection.p99_us", "p99 us"), Metric("connection.max_us", "max us")),
            descriptors=scale.storm + 100,
        ),
    ]
    for name, rate in FLOODS.items():
        flood = ("flood", "--connections", "256", "--engine", "uring", "--seed", str(scale.seed))
        flood += ("--flood-rate", str(rate), *scale.times())
        metric = Metric("flood_messages_per_second", "flood messages/s", higher_is_better=True)
        cases.append(Case("flood", name, flood, (P50, P99, P999, metric, SERVER_CPU), 2))
    return cases


def udp(scale: Scale) -> list[Case]:
    """Closed loops of datagrams, each alone or in bursts that leave as one train."""
    return [
        Case(
            "udp",
            name,
            ("datagrams", "--sockets", str(sockets), "--window", str(UDP_UNDER_WAY // sockets))
            + ("--burst", str(burst), "--size", str(size), *scale.times()),
            (RATE, P50, P99, SERVER_CPU, Metric("lost", "lost")),
        )
        for name, (sockets, burst, size) in UDP.items()
    ]


def wanted(cases: list[Case], suite: str, parts: list[str]) -> list[Case]:
    """The cases of a suite whose name contains one of the parts (all without parts)."""
    mine = [case for case in cases if case.suite == suite]
    return [case for case in mine if not parts or any(part in case.name for part in parts)]
