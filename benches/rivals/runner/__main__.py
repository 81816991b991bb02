"""Runs the rivals and Postring side by side and prints ratios. See ../README.md."""

import argparse
import json
import os
import resource
import shlex
import signal
import statistics
import sys
import time
from pathlib import Path

import figures
import suites
from contestants import HERE, ROOT, Contestant, Failure, build, load
from servers import Ground

SMOKE = ["raw_uring", "bare_epoll", "tokio", "postring"]
SMOKE += ["udp_plain", "udp_mmsg", "udp_gso", "raw_uring_udp", "postring-udp"]
SMOKE_SCALE = suites.Scale(0.2, 0.1, idle=200, idle_single=100, storm=500, storm_seconds=0.1)
PEAK_RUNS = 3


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benches/rivals/run", description=__doc__)
    add = parser.add_argument
    add("--runs", type=int, default=15, help="interleaved runs of each case (default 15)")
    add("--seconds", type=float, default=1.2, help="measured seconds of a run (default 1.2)")
    add("--warmup", type=float, default=0.3, help="seconds before them (default 0.3)")
    add("--only", type=words, default=[], help="contestants, by comma; default all")
    add("--suites", type=words, default=list(suites.NAMES), help=f"of {','.join(suites.NAMES)}")
    add("--cases", type=words, default=[], help="parts of case names, by comma; default all")
    add("--peak", type=float, help="raw_uring's messages/s, for the open suite; default measured")
    add("--seed", type=int, default=1, help="of the open loops' random times (default 1)")
    add("--server-core", type=int, help="CPU of the servers; default the first allowed")
    add("--client-core", type=int, help="CPU of the client; default the second allowed")
    add("--contestants", type=Path, default=HERE / "runner/contestants.json", help="their list")
    add("--out", type=Path, default=HERE / "results", help="folder of runs.jsonl, summary.json")
    add("--readme", action="store_true", help="refresh the table of the root's README.md")
    add("--skip-check", action="store_true", help="also measure servers that fail the check")
    add("--smoke", action="store_true", help="one short run of few contestants, for CI")
    given = parser.parse_args()
    for name in given.suites:
        if name not in suites.NAMES:
            parser.error(f"no suite {name}; there are {', '.join(suites.NAMES)}")
    if given.runs < 1 or not 0.05 <= given.seconds <= 60 or not 0 <= given.warmup <= 60:
        parser.error("--runs from 1, --seconds from 0.05 to 60, --warmup up to 60")
    return given


def words(text: str) -> list[str]:
    """A list by commas."""
    return [word for word in text.split(",") if word]


class Session:
    """One call of the runner."""

    def __init__(self, given: argparse.Namespace):
        self.given = given
        self.scale = suites.Scale(given.seconds, given.warmup, seed=given.seed)
        if given.smoke:
            self.scale, given.runs = SMOKE_SCALE, 1
        only = given.only or (SMOKE if given.smoke else [])
        self.contestants = load(given.contestants, only)
        self.contestants = [
            contestant
            for contestant in self.contestants
            if any(contestant.takes_part_in(suite) for suite in given.suites)
        ]
        folders = build(self.contestants, everything=given.smoke)
        self.ground = Ground(folders, *cores(given), not given.smoke)
        self.results: list[dict] = []
        self.cases: list[suites.Case] = []
        given.out.mkdir(parents=True, exist_ok=True)

    def check(self) -> None:
        """Every contestant must be a right echo server before it is measured."""
        for contestant in self.contestants:
            check = "check-datagrams" if contestant.protocol == "udp" else "check"
            result = self.ground.run(contestant, [check], quiet=False)
            if "failed" in result:
                raise Failure(f"{contestant.name} is no right echo server: {result['failed']}")
        print(f"checked: {', '.join(c.name for c in self.contestants)}", flush=True)

    def run(self) -> None:
        """All suites that were asked for."""
        fixed = suites.tcp(self.scale) + suites.single(self.scale) + suites.others(self.scale)
        fixed += suites.udp(self.scale)
        with open(self.given.out / "runs.jsonl", "w", encoding="utf-8") as log:
            for suite in self.given.suites:
                cases = suites.open_loop(self.scale, self.peak()) if suite == "open" else fixed
                for case in suites.wanted(cases, suite, self.given.cases):
                    if enough_descriptors(case):
                        self.run_case(case, log)

    def run_case(self, case: suites.Case, log) -> None:
        """One case: every contestant in turn, the first one changing from run to run."""
        self.cases.append(case)
        taking_part = [c for c in self.contestants if c.takes_part_in(case.suite)]
        for run in range(self.given.runs):
            start = run % len(taking_part) if taking_part else 0
            for contestant in taking_part[start:] + taking_part[:start]:
                where = {"suite": case.suite, "case": case.name, "contestant": contestant.name}
                result = self.ground.run(contestant, list(case.arguments), case.quiet)
                result = where | {"run": run} | result
                self.results.append(result)
                log.write(json.dumps(result) + "\n")
                log.flush()
        noise = f"{self.ground.repeats} repeats, {self.ground.kept_noisy} kept noisy"
        print(f"{time.strftime('%H:%M:%S')} {case.suite}: {case.name} done, {noise}", flush=True)

    def peak(self) -> float:
        """Messages a second of raw_uring in a closed loop."""
        if self.given.peak:
            return self.given.peak
        case = next(c for c in suites.tcp(self.scale) if c.name == suites.PEAK_CASE)
        known = [
            run["messages_per_second"]
            for run in self.results
            if (run["case"], run["contestant"]) == (case.name, figures.RAW) and "failed" not in run
        ]
        if not known:
            command = ("{bin}/raw_uring", "--address", "{address}", "--core", "{core}")
            raw = Contestant(figures.RAW, "rival", command)
            for _ in range(PEAK_RUNS):
                run = self.ground.run(raw, list(case.arguments), quiet=True)
                if "failed" in run:
                    raise Failure(f"cannot measure raw_uring's peak: {run['failed']}")
                known.append(run["messages_per_second"])
        return statistics.median(known)

    def report(self) -> int:
        """Prints and writes; the exit status."""
        command = shlex.join(["benches/rivals/run", *sys.argv[1:]])
        facts = figures.machine()
        result = figures.Figures(self.results, self.cases, self.contestants)
        noise = {"repeats": self.ground.repeats, "kept_noisy": self.ground.kept_noisy}
        asked = {"command": command, "machine": facts, "runs": self.given.runs}
        asked |= {"seconds": self.scale.seconds, "noise": noise}
        summary = self.given.out / "summary.json"
        summary.write_text(json.dumps(asked | result.summary(), indent=1) + "\n")
        print(result.text())
        print(f"\nnoise: {noise}; {len(self.results)} runs; {self.given.out}")
        for run in result.failed[:20]:
            why = run.get("failed") or f"{run['errors']} errors, first: {run.get('first_error')}"
            name = f"{run['suite']}: {run['case']}: {run['contestant']} run {run['run']}"
            print(f"FAILED {name}: {why}", file=sys.stderr)
        if self.given.readme:
            table = result.markdown(command, facts, self.given.runs, self.scale.seconds)
            figures.refresh(ROOT / "README.md", table)
        return 1 if result.failed else 0


def cores(given: argparse.Namespace) -> tuple[int, int]:
    """The CPUs of the servers and of the client."""
    allowed = sorted(os.sched_getaffinity(0))
    server = allowed[0] if given.server_core is None else given.server_core
    client = allowed[-1 if len(allowed) == 1 else 1] if given.client_core is None else (
        given.client_core
    )
    missing = {server, client} - set(allowed)
    if missing:
        raise Failure(f"core {min(missing)} is not among {allowed}")
    if server == client:
        skip("server and client share one core: latencies and ratios mean little")
    return server, client


def enough_descriptors(case: suites.Case) -> bool:
    """Whether the case's connections fit the limit of open descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    enough = hard in (resource.RLIM_INFINITY,) or hard >= case.descriptors
    if not enough:
        skip(f"{case.suite}: {case.name} needs {case.descriptors} descriptors, limit {hard}")
    return enough


def skip(reason: str) -> None:
    """Says loudly what is left out."""
    print(f"SKIP: {reason}", file=sys.stderr, flush=True)


def main() -> int:
    """Runs a session; the exit status."""
    # A terminated runner ends its servers as an interrupted one does, also in the background,
    # where shells have interrupts ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        session = Session(options())
        if not session.given.skip_check:
            session.check()
        session.run()
        return session.report()
    except Failure as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; no server is left running", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
