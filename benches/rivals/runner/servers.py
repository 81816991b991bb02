"""Servers: one fresh process per run, a client beside it, and the noise of everybody else.

Whatever happens (an error, Ctrl-C, a terminated runner), every process that was started is ended
by its pid and waited for.
"""

import json
import os
import resource
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from contestants import Contestant, Failure

# A run is repeated if other processes used more than this much of a core, in three tries.
FOREIGN_MAX = 0.12
TRIES = 3
START_SECONDS = 5.0
CLIENT_SECONDS = 120.0
# A backtrace would hide the message.
PLAIN_ERRORS = {"RUST_BACKTRACE": "0"}
# States of /proc/net: a stream's listener, a datagram socket that is not connected.
SERVING = {"tcp": "0A", "udp": "07"}
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Ground:
    """Where things run, and how often a run had to be repeated."""

    folders: dict[str, str]
    server_core: int
    client_core: int
    watch_noise: bool = True
    repeats: int = 0
    kept_noisy: int = 0
    next_port: int = field(default_factory=lambda: 10000 + os.getpid() * 17 % 12000)

    def port(self) -> int:
        """A port nobody listens on, below the range of outgoing connections."""
        while True:
            self.next_port = self.next_port + 1 if self.next_port < 30000 else 10000
            with socket.socket() as probe, socket.socket(type=socket.SOCK_DGRAM) as other:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", self.next_port))
                    other.bind(("127.0.0.1", self.next_port))
                except OSError:
                    continue
            return self.next_port

    def run(self, contestant: Contestant, arguments: list[str], quiet: bool) -> dict:
        """One run of the client against a fresh server; `quiet`: noise makes it worthless."""
        for attempt in range(1, TRIES + 1):
            result = self.attempt(contestant, arguments)
            result["attempt"] = attempt
            noisy = quiet and self.watch_noise and result.get("foreign_cpu", 0) > FOREIGN_MAX
            if not noisy:
                break
            if attempt < TRIES:
                self.repeats += 1
                time.sleep(0.5)
            else:
                self.kept_noisy += 1
        return result

    def attempt(self, contestant: Contestant, arguments: list[str]) -> dict:
        """One try; what goes wrong is told in `failed`."""
        address = f"127.0.0.1:{self.port()}"
        try:
            with self.server(contestant, address) as pid:
                mode, *rest = arguments
                command = [f"{self.folders['rival']}/client", mode, "--address", address]
                command += ["--server-pid", str(pid), "--core", str(self.client_core), *rest]
                before, begun = Usage.now(pid), time.monotonic()
                result = client(command)
                used = Usage.now(pid).foreign_since(before)
                result["foreign_cpu"] = round(used / (time.monotonic() - begun), 3)
                return result
        except Failure as error:
            return {"failed": str(error)}

    @contextmanager
    def server(self, contestant: Contestant, address: str) -> Iterator[int]:
        """A listening server; its pid."""
        folder = self.folders["example" if contestant.is_example() else "rival"]
        names = {"bin": folder, "address": address, "core": str(self.server_core)}
        command = [part.format(**names) for part in contestant.command]
        with tempfile.TemporaryFile("w+") as complaints:
            try:
                process = subprocess.Popen(
                    command,
                    env=os.environ | PLAIN_ERRORS | contestant.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=complaints,
                    preexec_fn=lambda: os.sched_setaffinity(0, {self.server_core}),
                )
            except OSError as error:
                raise Failure(f"cannot start {command[0]}: {error}") from error
            try:
                wait_until_listening(process, int(address.rsplit(":", 1)[1]), contestant.protocol)
                yield process.pid
                if process.poll() is not None:
                    raise Failure(f"the server ended with status {process.returncode}")
            except Failure as error:
                complaints.seek(0)
                raise Failure(f"{error} {complaints.read()[-300:]}".strip()) from error
            finally:
                end(process)


def client(command: list[str]) -> dict:
    """Runs the client; what it reported."""
    process = subprocess.Popen(
        command,
        env=os.environ | PLAIN_ERRORS,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        output, complaints = process.communicate(timeout=CLIENT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise Failure(f"the client took longer than {CLIENT_SECONDS:.0f} s") from error
    finally:
        end(process)
    if process.returncode != 0:
        raise Failure(f"client: {complaints.strip()[-300:]}")
    return json.loads(output)


def end(process: subprocess.Popen) -> None:
    """Ends a process that was started here, gently first."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(3)
        except BaseException as error:
            # Also a second Ctrl-C: nothing may be left behind.
            process.kill()
            process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise


def wait_until_listening(process: subprocess.Popen, port: int, protocol: str) -> None:
    """Returns once the port is listened on; makes no connection, which would count as one."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Failure(f"the server ended with status {process.returncode}")
        for table in (protocol, f"{protocol}6"):
            try:
                lines = Path(f"/proc/{process.pid}/net/{table}").read_text().splitlines()[1:]
            except OSError:
                continue
            for line in lines:
                _, local, _, state, *_ = line.split()
                if state == SERVING[protocol] and local.endswith(f":{port:04X}"):
                    time.sleep(0.1)
                    return
        time.sleep(0.01)
    raise Failure(f"the server does not listen after {START_SECONDS:.0f} s")


@dataclass(frozen=True)
class Usage:
    """CPU seconds so far, of all processes and of ours."""

    everybody: float
    ours: float

    @staticmethod
    def now(server: int) -> "Usage":
        """Reads the counters."""
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, _, _, irq, softirq = map(int, file.readline().split()[1:8])
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        itself = resource.getrusage(resource.RUSAGE_SELF)
        ours = children.ru_utime + children.ru_stime + itself.ru_utime + itself.ru_stime
        for path in Path(f"/proc/{server}/task").glob("*/schedstat"):
            try:
                ours += int(path.read_text().split()[0]) / 1e9
            except OSError:
                continue
        return Usage((user + nice + system + irq + softirq) / TICKS, ours)

    def foreign_since(self, before: "Usage") -> float:
        """CPU seconds that others used."""
        return max(0.0, self.everybody - before.everybody - (self.ours - before.ours))
