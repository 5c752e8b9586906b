"""Print the Python of this machine that does most in a second: distributions build theirs with profiles, many a home-made one is not.

`python3 fastest_python.py`, with nothing installed. The worker's image has such a Python, so it is what the benchmark measures with.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable

FIRST, LAST = (3, 11), (3, 13)
"""The versions that the project runs on, both included."""

ROUNDS = 5
PLACES = ("/usr/bin", "/usr/local/bin", "/opt/homebrew/bin")

_WORK = f"""
import json, sys, time
if not {FIRST} <= sys.version_info[:2] <= {LAST}:
    sys.exit("another version")
text = json.dumps({{"id": "3aca15b6c375471b", "data": {{"event": "report_exported", "count": 4}}}})
began, known = time.process_time(), {{}}
for i in range(20_000):
    event = json.loads(text)
    known[event["id"], i % 997] = (known.get(i) or 0) + event["data"]["count"]
print(time.process_time() - began, sys.executable)
"""


def candidates(path: str) -> list[str]:
    """The Pythons on a PATH and in the usual places, that of the PATH first, each once."""
    names = ["python3", *(f"python{FIRST[0]}.{minor}" for minor in range(LAST[1], FIRST[1] - 1, -1))]
    folders = [*path.split(os.pathsep), *PLACES]
    found = (shutil.which(name, path=folder) for folder in folders for name in names)
    return list(dict.fromkeys(os.path.realpath(each) for each in found if each))


def seconds(python: str) -> float | None:
    """The processor time that a Python needs for a piece of work like the worker's; None when it cannot run the project."""
    done = subprocess.run([python, "-I", "-c", _WORK], capture_output=True, text=True, check=False)
    return float(done.stdout.split()[0]) if done.returncode == 0 else None


def fastest(pythons: Iterable[str], rounds: int = ROUNDS) -> str | None:
    """The one with the least time of several rounds, taken in turns; None when none can run the project."""
    best: dict[str, float] = {}
    able = list(pythons)
    for _ in range(rounds):
        for python in list(able):
            taken = seconds(python)
            if taken is None:
                able.remove(python)
            else:
                best[python] = min(taken, best.get(python, taken))
    return min(best, key=best.__getitem__, default=None)


def main() -> None:
    """Print it; end with 1 when there is none."""
    found = fastest(candidates(os.environ.get("PATH", "")))
    if found is None:
        sys.exit(f"no Python {'.'.join(map(str, FIRST))} to {'.'.join(map(str, LAST))} was found")
    print(found)


if __name__ == "__main__":
    main()
