"""Figures: from runs to medians, paired ratios and tables.

A ratio is paired: run k of a contestant against run k of whom it is compared with, both taken
within the same minute. `best` is the rival with the best median of the case and number; the best
of several is a moving target, so that an identical server comes out a little worse than 1.
"""

import math
import os
import platform
import statistics
from collections import defaultdict
from datetime import datetime, timezone
from pathlib import Path

from contestants import Contestant, Failure
from suites import P999, Case, Metric

BEGIN = "<!-- figures:begin -->"
END = "<!-- figures:end -->"
RAW = "raw_uring"


def machine() -> dict:
    """What the figures were made on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    congestion = Path("/proc/sys/net/ipv4/tcp_congestion_control")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "congestion_control": congestion.read_text().strip() if congestion.exists() else "unknown",
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def spread(values: list[float]) -> dict:
    """Median and range."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


class Figures:
    """All runs of a session."""

    def __init__(self, runs: list[dict], cases: list[Case], contestants: list[Contestant]):
        self.cases = cases
        self.contestants = contestants
        self.runs: dict[tuple[str, str, str], dict[int, dict]] = defaultdict(dict)
        self.failed = [run for run in runs if "failed" in run or run.get("errors")]
        for run in runs:
            if "failed" not in run:
                self.runs[run["suite"], run["case"], run["contestant"]][run["run"]] = run

    def values(self, case: Case, metric: Metric, name: str) -> dict[int, float]:
        """A number by run."""
        runs = self.runs.get((case.suite, case.name, name), {})
        numbers = {index: metric.read(run) for index, run in runs.items()}
        return {index: number for index, number in numbers.items() if number is not None}

    def median(self, case: Case, metric: Metric, name: str) -> float | None:
        """The median of a number, if there are runs."""
        values = self.values(case, metric, name)
        return statistics.median(values.values()) if values else None

    def best(self, case: Case, metric: Metric) -> str | None:
        """The rival with the best median."""
        medians = {
            contestant.name: self.median(case, metric, contestant.name)
            for contestant in self.contestants
            if contestant.role == "rival"
        }
        known = {name: median for name, median in medians.items() if median is not None}
        pick = max if metric.higher_is_better else min
        return pick(known, key=lambda name: known[name]) if known else None

    def ratio(self, case: Case, metric: Metric, name: str, other: str | None) -> dict | None:
        """Paired ratios of two contestants: median and range."""
        if other is None:
            return None
        mine, theirs = self.values(case, metric, name), self.values(case, metric, other)
        ratios = [mine[run] / theirs[run] for run in mine if theirs.get(run, 0) > 0]
        return spread(ratios) if ratios else None

    def summary(self) -> dict:
        """Everything, as it is written to summary.json."""
        cases = []
        for case in self.cases:
            for metric in case.metrics:
                best = self.best(case, metric)
                rows = {}
                for contestant in self.contestants:
                    values = self.values(case, metric, contestant.name)
                    if values:
                        rows[contestant.name] = {
                            "runs": len(values),
                            **spread(list(values.values())),
                            "to_best_rival": self.ratio(case, metric, contestant.name, best),
                            "to_raw_uring": self.ratio(case, metric, contestant.name, RAW),
                        }
                cases.append(
                    {"suite": case.suite, "case": case.name, "number": metric.key}
                    | {"higher_is_better": metric.higher_is_better, "best_rival": best}
                    | {"contestants": rows}
                )
        means = {contestant.name: self.means(contestant.name) for contestant in self.contestants}
        return {"cases": cases, "tcp_geometric_means": means, "failed_runs": len(self.failed)}

    def means(self, name: str) -> dict | None:
        """Geometric means over the tcp cases of the median ratios; None unless all cases ran."""
        tcp = [case for case in self.cases if case.suite == "tcp"]
        means = {}
        for key, fixed in (("to_best_rival", None), ("to_raw_uring", RAW)):
            ratios = []
            for case in tcp:
                metric = case.metrics[0]
                other = fixed or self.best(case, metric)
                ratios.append(self.ratio(case, metric, name, other))
            medians = [ratio["median"] for ratio in ratios if ratio]
            if not tcp or len(medians) < len(tcp):
                return None
            means[key] = math.exp(statistics.fmean(map(math.log, medians)))
        return means

    def text(self) -> str:
        """All cases for the terminal."""
        lines = []
        for case in self.cases:
            for metric in case.metrics[: case.compared]:
                best = self.best(case, metric)
                lines += ["", f"{case.suite}: {case.name}: {metric.label} (best: {best})"]
                lines += self.rows(case, metric, best, metric is case.metrics[0])
        means = {contestant.name: self.means(contestant.name) for contestant in self.contestants}
        if any(means.values()):
            lines += ["", "tcp: geometric mean over the cases, to the best rival and to raw_uring"]
        for name, mean in means.items():
            if mean:
                both = f"{mean['to_best_rival']:8.3f} {mean['to_raw_uring']:8.3f}"
                lines.append(f"  {name:18} {both}")
        return "\n".join(lines)

    def rows(self, case: Case, metric: Metric, best: str | None, full: bool) -> list[str]:
        """One line per contestant; `full`: with the numbers that are not compared."""
        lines = []
        for contestant in self.contestants:
            name = contestant.name
            values = list(self.values(case, metric, name).values())
            if not values:
                continue
            at = spread(values)
            line = f"  {name:18} {short(at['median']):>8} [{short(at['min'])}-{short(at['max'])}]"
            for label, other in (("best", best), ("raw", RAW)):
                ratio = self.ratio(case, metric, name, other)
                if ratio:
                    line += f"  x {label} {ratio['median']:.3f}"
                    line += f" [{ratio['min']:.2f}-{ratio['max']:.2f}]"
            beside = case.metrics[case.compared :] if full else ()
            medians = [(other.label, self.median(case, other, name)) for other in beside]
            told = [f"{label} {short(median)}" for label, median in medians if median is not None]
            lines.append(f"{line}  {', '.join(told)}".rstrip())
        return lines

    def markdown(self, command: str, facts: dict, runs: int, seconds: float) -> str:
        """The tables of README.md."""
        where = f"{facts['cpu']}, {facts['cores']} cores, Linux {facts['kernel']}"
        parts = [
            f"{where}, {facts['congestion_control']}, {facts['date']}. {runs} interleaved runs of "
            f"{seconds:g} s a case, medians; server on one core, client on another, loopback. "
            f"Made by `{command}`."
        ]
        tcp = [case for case in self.cases if case.suite == "tcp"]
        if tcp:
            parts.append(self.tcp_table(tcp))
        for suite in dict.fromkeys(case.suite for case in self.cases if case.suite != "tcp"):
            parts.append(self.table(suite))
        return "\n\n".join(part for part in parts if part)

    def tcp_table(self, cases: list[Case]) -> str:
        """Closed loops: messages a second and the ratio to the best rival."""
        title = "Thousand messages/s (paired ratio to the best rival of the case):"
        lines = [header("closed loop", [case.name for case in cases] + ["geometric mean"])]
        for contestant in self.contestants:
            cells = []
            for case in cases:
                metric = case.metrics[0]
                median = self.median(case, metric, contestant.name)
                ratio = self.ratio(case, metric, contestant.name, self.best(case, metric))
                told = median is not None and ratio is not None
                cells.append(f"{median / 1e3:.0f} ({ratio['median']:.2f})" if told else "")
            means = self.means(contestant.name)
            cells.append(f"{means['to_best_rival']:.3f}" if means else "")
            if any(cells):
                lines.append(row(contestant.name, cells))
        return "\n".join([title, "", *lines])

    def table(self, suite: str) -> str:
        """Any other suite: its numbers as they are, but for the outermost quantile."""
        cases = [case for case in self.cases if case.suite == suite]
        columns = [(case, number) for case in cases for number in case.metrics if number != P999]
        alone = len(cases) == 1
        names = [f"{'' if alone else f'{case.name}: '}{number.label}" for case, number in columns]
        lines = [header(f"{suite}: {cases[0].name}" if alone else suite, names)]
        for contestant in self.contestants:
            medians = [self.median(case, metric, contestant.name) for case, metric in columns]
            if any(median is not None for median in medians):
                cells = ["" if median is None else short(median) for median in medians]
                lines.append(row(contestant.name, cells))
        return "\n".join(lines) if len(lines) > 1 else ""


def header(first: str, names: list[str]) -> str:
    """A table's head."""
    return row(first, names) + "\n|" + "---|" * (len(names) + 1)


def row(first: str, cells: list[str]) -> str:
    """A table's line."""
    return f"| {first} | {' | '.join(cells)} |"


def short(value: float) -> str:
    """Three or four digits."""
    for limit, unit in ((1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            scaled = value / {"M": 1e6, "k": 1e3}[unit]
            return f"{scaled:.2f}{unit}" if abs(scaled) < 100 else f"{scaled:.0f}{unit}"
    if value == int(value) or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def refresh(readme: Path, table: str) -> None:
    """Puts the table between the markers of a file."""
    try:
        text = readme.read_text()
    except OSError as error:
        raise Failure(f"cannot read {readme}: {error}") from error
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise Failure(f"{readme} must hold `{BEGIN}` and then `{END}`, once each")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    readme.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")
