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
EXAMPLE = "echo_responder"
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

    def takes_part_in(self, suite: str) -> bool:
        """Whether the suite is one of its own; without a list all are."""
        return self.suites is None or suite in self.suites

    def is_example(self) -> bool:
        """Whether it is built from the root workspace."""
        return "/examples/" in self.command[0]


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
            )
            for name, entry in entries.items()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failure(f"{path}: no list of contestants: {error!r}") from error
    wrong = [contestant.name for contestant in known if contestant.role not in ROLES]
    if wrong:
        raise Failure(f"{path}: the role of {', '.join(wrong)} must be one of {', '.join(ROLES)}")
    names = [contestant.name for contestant in known]
    unknown = [name for name in only if name not in names]
    if unknown:
        raise Failure(f"no contestant {', '.join(unknown)}; there are {', '.join(names)}")
    return [contestant for contestant in known if not only or contestant.name in only]


def build(contestants: list[Contestant]) -> dict[str, str]:
    """Builds what is needed; returns what {bin} of rivals and of examples stands for."""
    own = cargo(HERE, "--workspace")
    folders = {"rival": own, "example": own}
    if any(contestant.is_example() for contestant in contestants):
        folders["example"] = cargo(ROOT, "--example", EXAMPLE)
    return folders


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
