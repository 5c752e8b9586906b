"""How a process of churnwatch ends: the exit codes, and the errors that carry one."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Sequence


class Exit(enum.IntEnum):
    """The exit codes that an orchestrator can act on."""

    CLEAN = 0, "finished, or stopped by SIGTERM or SIGINT"
    OTHER = 1, "anything else"
    CONFIGURATION = 2, "the configuration or the command line cannot be used; a restart will not help"
    BROKER = 3, "the broker cannot be reached, or its topics are not what they must be"
    REBUILD = 4, "local and remote state contradict each other: state must be rebuilt; a restart will not help"
    RESTART = 5, "fenced by another worker, or a gap in the input: restart me"

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        """Keep the sentence beside the number, so that the documentation and the code cannot part."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member


class ServiceExit(Exception):  # noqa: N818 - it names how the process ends, as SystemExit does
    """A known way for the process to end: what happened in one sentence, and what mends it in another."""

    def __init__(self, exit_code: Exit, message: str, mend: str = "") -> None:
        """Neither sentence may hold a secret or an account's data: both are printed and logged."""
        super().__init__(message)
        self.exit_code = exit_code
        self.message = message
        self.mend = mend

    def __str__(self) -> str:
        """What happened and what mends it, on one line."""
        return f"{self.message} ({self.mend})" if self.mend else self.message


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One thing that is wrong with the configuration."""

    key: str
    """The path of the setting, `alerts.pending_for.at_risk`; or of what is wrong, such as the file."""
    environment: str
    """The environment variable that sets it, or empty when there is none."""
    wrong: str
    """What is wrong. Never the value of a secret."""
    mend: str
    """What to do about it."""
    origin: str = ""
    """Where the value comes from: a file, the environment, the command line; empty for a default."""

    def __str__(self) -> str:
        """All of it on one line."""
        named = f"{self.key} ({self.environment})" if self.environment and self.environment != self.key else self.key
        origin = f" [from {self.origin}]" if self.origin else ""
        return f"{named}: {self.wrong}{origin}; mend: {self.mend}"


class ConfigError(ServiceExit):
    """The configuration cannot be used; `problems` lists everything that is wrong with it."""

    def __init__(self, problems: Sequence[ConfigProblem]) -> None:
        """`problems`: at least one."""
        self.problems = tuple(problems)
        if len(self.problems) == 1:
            super().__init__(Exit.CONFIGURATION, str(self.problems[0]))
        else:
            listed = "; ".join(f"[{number}] {problem}" for number, problem in enumerate(self.problems, 1))
            super().__init__(Exit.CONFIGURATION, f"{len(self.problems)} problems in the configuration: {listed}")


class BrokerError(ServiceExit):
    """The broker cannot be reached, or its topics are missing or wrong."""

    def __init__(self, message: str, mend: str = "") -> None:
        """See ServiceExit."""
        super().__init__(Exit.BROKER, message, mend)


REBUILD_HINT: Final = "see section 3 of docs/runbook.md; when what was lost cannot be brought back: churnwatch rebuild"


class StateMustBeRebuilt(ServiceExit):
    """The local state, the changelog and the input contradict each other; only a rebuild helps."""

    def __init__(self, message: str, mend: str = REBUILD_HINT) -> None:
        """See ServiceExit."""
        super().__init__(Exit.REBUILD, message, mend)


class RestartNeeded(ServiceExit):
    """The process must not go on, and a new one can: what is in memory is thrown away."""

    def __init__(self, message: str, mend: str = "start it again") -> None:
        """See ServiceExit."""
        super().__init__(Exit.RESTART, message, mend)


class Fenced(RestartNeeded):
    """Another worker has taken over a partition that this one still wrote to."""


class Gap(RestartNeeded):
    """Records between the cursor and the first record of a batch are missing."""
