"""The command `python -m tests.chaos`: run, verify, list."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.chaos.run import run, table, verify_again
from tests.chaos.schedule import SCENARIOS, Form

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.judge import Summary

SEED: Final = 20261122


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; 1 when anything differs, or fewer faults landed than were planned."""
    wanted = _parser().parse_args(arguments)
    if wanted.command == "list":
        for scenario in SCENARIOS.values():
            _say(f"{scenario.name:<13} {scenario.meaning}")
        return 0
    if wanted.command == "verify":
        return _shown(verify_again(wanted.directory), wanted.directory)
    out = (wanted.out or Path(tempfile.mkdtemp(prefix="churnwatch-chaos-"))).resolve()
    out.mkdir(parents=True, exist_ok=True)
    return _shown(run(wanted.scenario or _parts_of(wanted.form), wanted.seed, wanted.form, out), out)


def _parts_of(form: Form) -> list[str]:
    return [scenario.name for scenario in SCENARIOS.values() if form in scenario.forms]


def _shown(summaries: Sequence[Summary], out: Path) -> int:
    _say(table(summaries))
    _say(f"kept in {out}: histories, logs, brokers' data; `python -m tests.chaos verify {out}` judges them again")
    return int(any(each.problems for each in summaries))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="play scenarios and judge them; ends with 1 when anything differs")
    runs.add_argument("scenario", nargs="*", help=f"all when none is named: {', '.join(SCENARIOS)}", metavar="NAME")
    runs.add_argument("--scenario", dest="scenario", nargs="+", choices=list(SCENARIOS), help=argparse.SUPPRESS)
    runs.add_argument("--seed", type=int, default=SEED, help="what everything random is drawn from (%(default)s)")
    forms = runs.add_mutually_exclusive_group()
    forms.add_argument("--short", dest="form", action="store_const", const=Form.SHORT, help="fewer faults: what `make test` plays")
    forms.add_argument("--long", dest="form", action="store_const", const=Form.LONG, help="all of them (the default)")
    runs.add_argument("--out", type=Path, help="where everything is kept; a new folder for temporary files when it is not given")
    runs.set_defaults(form=Form.LONG)
    again = commands.add_parser("verify", help="judge a run that was kept once more")
    again.add_argument("directory", type=Path, help="what --out was, or what the run said at its end")
    commands.add_parser("list", help="the scenarios")
    return parser


if __name__ == "__main__":
    sys.exit(main())
