"""Contestants: who takes part, and building them.

The list is data: contestants.json, or the file given by --contestants. A role says what a
contestant is compared as: a `rival` may be the best of a case, a `contestant` is judged, the
`control` shows the noise (the same binary again), a `reference` only stands beside them.
"""

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
PROTOCOLS = ("tcp", "udp")
ROLES = ("rival", "control", "reference", "contestant")


class Failure(Exception):
    """Something the user can mend; printed without a traceback."""


@dataclass(frozen=True)
class Contestant:
    """A server: its command, with {bin}, {address} and {core} to be filled in."""

    name: str
    role: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    suites: tuple[str, ...] | None = None
    protocol: str = "tcp"

    def takes_part_in(self, suite: str) -> bool:
        """Whether the suite is of its protocol and one of its own; without a list all are."""
        own = self.suites is None or suite in self.suites
        return own and self.protocol == protocol_of(suite)

    def is_example(self) -> bool:
        """Whether it is built from the root workspace."""
        return "/examples/" in self.command[0]

    def program(self) -> str:
        """What is built: the name of an example or, of a rival, of its package."""
        return self.command[0].rsplit("/", 1)[-1]


def protocol_of(suite: str) -> str:
    """What the servers of a suite speak; the suite of datagrams has the name of its protocol."""
    return "udp" if suite == "udp" else "tcp"


def load(path: Path, only: list[str]) -> list[Contestant]:
    """The contestants of a file, in its order; `only` names those wanted."""
    try:
        entries = json.loads(path.read_text())
        known = [
            Contestant(
                name,
                entry["role"],
                tuple(entry["command"]),
                entry.get("environment", {}),
                tuple(entry["suites"]) if "suites" in entry else None,
                entry.get("protocol", "tcp"),
            )
            for name, entry in entries.items()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failure(f"{path}: no list of contestants: {error!r}") from error
    wrong = [contestant.name for contestant in known if contestant.role not in ROLES]
    if wrong:
        raise Failure(f"{path}: the role of {', '.join(wrong)} must be one of {', '.join(ROLES)}")
    wrong = [contestant.name for contestant in known if contestant.protocol not in PROTOCOLS]
    if wrong:
        raise Failure(f"{path}: {', '.join(wrong)} must speak one of {', '.join(PROTOCOLS)}")
    names = [contestant.name for contestant in known]
    unknown = [name for name in only if name not in names]
    if unknown:
        raise Failure(f"no contestant {', '.join(unknown)}; there are {', '.join(names)}")
    return [contestant for contestant in known if not only or contestant.name in only]


def build(contestants: list[Contestant], everything: bool) -> dict[str, str]:
    """Builds what is needed, or every rival; what {bin} of rivals and of examples stands for."""
    rivals = {contestant.program() for contestant in contestants if not contestant.is_example()}
    # The open suite measures its peak, whoever takes part.
    rivals |= {"raw_uring"} if any(each.protocol == "tcp" for each in contestants) else set()
    names = ["client", *sorted(rivals & own_packages())]
    packages = [part for name in names for part in ("--package", name)]
    own = cargo(HERE, *(["--workspace"] if everything else packages))
    folders = {"rival": own, "example": own}
    examples = {contestant.program() for contestant in contestants if contestant.is_example()}
    if examples:
        names = (part for name in sorted(examples) for part in ("--example", name))
        folders["example"] = cargo(ROOT, *names)
    return folders


def own_packages() -> set[str]:
    """The packages of this workspace, by folder; other programs are built by whoever lists them."""
    return {manifest.parent.name for manifest in HERE.glob("*/Cargo.toml")}


def cargo(folder: Path, *what: str) -> str:
    """Runs cargo build in a workspace; returns the folder of its binaries."""
    command = ["cargo", "build", "--release", "--locked", *what]
    try:
        subprocess.run(command, cwd=folder, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Failure(f"`{' '.join(command)}` failed in {folder}") from error
    # A relative CARGO_TARGET_DIR is relative to where cargo ran.
    target = os.environ.get("CARGO_TARGET_DIR") or os.environ.get("CARGO_BUILD_TARGET_DIR")
    return str(folder / (target or "target") / "release")
