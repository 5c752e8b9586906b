"""Puts one mutant at a time into a copy of the project, and runs the tests that must find it.

    python -m tests.mutants.run            all of them
    python -m tests.mutants.run NAME ...   these

Ends with 1 when a mutant survives, when its text no longer occurs exactly once, or when the tests fail without any mutant.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.mutants.mutants import MUTANTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.mutants.mutants import Mutant

ROOT: Final = Path(__file__).parents[2]
COPIED: Final = ("models", "alerts", "stream_app", "deploy", "tests", "docs", "pyproject.toml", "README.md")
TESTS_SECONDS_MAX: Final = 300


class StaleMutantError(Exception):
    """A mutant's text does not occur exactly once in its file."""


def mutated(mutant: Mutant, source: str) -> str:
    """Return the text of the mutant's file with its changes made; raises StaleMutantError."""
    for old, new in mutant.changes:
        if source.count(old) != 1:
            raise StaleMutantError(f"{mutant.name}: in {mutant.file} this occurs {source.count(old)} times, not once: {old.strip()!r}")
        source = source.replace(old, new)
    return source


def run_tests(copy: Path, tests: Iterable[str]) -> tuple[bool, str]:
    """Run tests in a copy of the project: whether they passed, and the first that did not."""
    command = [sys.executable, "-m", "pytest", "-n0", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=TESTS_SECONDS_MAX, check=False)
    except subprocess.TimeoutExpired:
        return False, "the tests never end"
    if done.returncode not in (0, 1):
        raise RuntimeError(f"the tests cannot be run:\n{done.stdout}{done.stderr}")
    failed = re.search(r"^(?:FAILED|ERROR) (\S.*?)(?: - .*)?$", done.stdout, re.MULTILINE)
    return done.returncode == 0, failed[1] if failed else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the mutants of the command line; how many stand."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants.run", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="the mutants to run; all of them when none is named")
    names = parser.parse_args(arguments).names
    if unknown := set(names) - {mutant.name for mutant in MUTANTS}:
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}; there are {', '.join(mutant.name for mutant in MUTANTS)}")
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    with tempfile.TemporaryDirectory(prefix="churnwatch-mutants-") as directory:
        copy = Path(directory)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / name)
        return _run(copy, chosen)


def _run(copy: Path, chosen: Sequence[Mutant]) -> int:
    sound, failed = run_tests(copy, sorted({test for mutant in chosen for test in mutant.tests}))
    if not sound:
        sys.stdout.write(f"without any mutant there fails {failed}\n")
        return 1
    survivors = 0
    for mutant in chosen:
        file = copy / mutant.file
        original = file.read_text(encoding="utf-8")
        try:
            file.write_text(mutated(mutant, original), encoding="utf-8")
            survived, killer = run_tests(copy, mutant.tests)
        except StaleMutantError as error:
            survived, killer = True, str(error)
        finally:
            file.write_text(original, encoding="utf-8")
        survivors += survived
        sys.stdout.write(f"{'SURVIVED' if survived else 'found':9}{mutant.name:34}{killer}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(chosen) - survivors} of {len(chosen)} mutants were found\n")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
