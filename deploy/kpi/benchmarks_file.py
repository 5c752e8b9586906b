"""The file of benchmarks: the one that ships, or the user's own (`kpi.benchmarks_file`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml
from pydantic import ValidationError

from models.kpi.benchmarks import BenchmarksFile, by_kpi
from stream_app.exits import ConfigError, ConfigProblem

if TYPE_CHECKING:
    from models.kpi.benchmarks import Benchmarks

SHIPPED: Final = Path(__file__).resolve().parent.parent / "data" / "benchmarks.yaml"

_KEY: Final = "kpi.benchmarks_file"
_VARIABLE: Final = "CHURNWATCH_KPI__BENCHMARKS_FILE"
_MEND: Final = "docs/kpi.md says what such a file holds; deploy/data/benchmarks.yaml is one"


def load_benchmarks(path: Path | None) -> Benchmarks:
    """Benchmarks by KPI and label; raises ConfigError with everything that is wrong with the file, each with where it is in it."""
    path = SHIPPED if path is None else path.expanduser()
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _wrong(path, [f"cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise _wrong(path, ["is not UTF-8"]) from error
    except yaml.YAMLError as error:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        raise _wrong(path, [f"is not YAML{f': line {mark.line + 1}, column {mark.column + 1}' if mark else ''}"]) from error
    try:
        return by_kpi(BenchmarksFile.model_validate(read).benchmarks)
    except ValidationError as error:
        raise _wrong(path, [_told(details) for details in error.errors(include_url=False)]) from None


def _told(details: Any) -> str:
    where = ".".join(map(str, details["loc"]))
    told = details["msg"].removeprefix("Value error, ")
    return f"{where}: {told}" if where else told


def _wrong(path: Path, problems: list[str]) -> ConfigError:
    return ConfigError([ConfigProblem(_KEY, _VARIABLE, f"{path}: {problem}", _MEND) for problem in problems])
