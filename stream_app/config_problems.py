"""What pydantic finds wrong with a configuration, said so that the reader can mend it: key, variable, origin, mend."""

from __future__ import annotations

import difflib
import functools
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from stream_app.exits import ConfigProblem
from stream_app.kafka_connection import ENVIRONMENT_ONLY, Contradictions, KafkaConnection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import ValidationError
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

PREFIX = "CHURNWATCH_"
ENVIRONMENT = "the environment"
NAME_RULE = "letters, digits, '.', '_' and '-' only, a letter or digit first, no '.' at the end"
_OTHER_RULES = {
    r"^[A-Z]{3}$": "three capital letters, as in USD (ISO 4217)",
    r"^[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*$": "a tag of a language, as in en or pt-BR",
}
"""What a text must be, by its pattern; all others are names."""

_NEAR = 0.6
_SHOWN_MAX = 60
_UNSHOWN = ENVIRONMENT_ONLY | {"kafka_bootstrap"}  # people write passwords into addresses
_WANTS_JSON = frozenset({"tuple_type", "list_type", "dict_type", "model_type", "model_attributes_type"})

Path = tuple[str | int, ...]
Source = tuple[str, "Mapping[str, Any]"]
"""Where settings come from, in words, and those that it gives."""


def environment_name(path: Sequence[str | int]) -> str:
    """The variable that sets the setting at this path; for an element of a list, the list's, which holds JSON."""
    keys: list[str] = []
    for part in path:
        if isinstance(part, int):
            break
        keys.append(part)
    if not keys:
        return ""
    prefix = "" if keys[0] in KafkaConnection.model_fields else PREFIX
    return prefix + "__".join(keys).upper()


def nested_model(field: FieldInfo) -> type[BaseModel] | None:
    """The model that a setting is made of, for one that holds others; else None."""
    annotation = field.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def element_model(field: FieldInfo) -> type[BaseModel] | None:
    """The model that the elements of a list are made of; else None."""
    models = (arg for arg in get_args(field.annotation) if isinstance(arg, type) and issubclass(arg, BaseModel))
    return next(models, None)


def nearest(name: str, known: Iterable[str]) -> str:
    """The mend for a name that nobody knows."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, 1, _NEAR)
    return f"did you mean {near[0]}?" if near else f"remove it; known here: {', '.join(names)}"


def problems_of(error: ValidationError, model: type[BaseModel], sources: Sequence[Source]) -> list[ConfigProblem]:
    """Everything that pydantic found, in its order; `sources` from the weakest to the strongest."""
    found: list[ConfigProblem] = []
    for details in error.errors(include_url=False):
        cause = details.get("ctx", {}).get("error")
        if isinstance(cause, Contradictions):
            found += cause.problems
        elif not _is_echo(details):
            found.append(_problem(details, model, sources))
    return found


def _is_echo(details: ErrorDetails) -> bool:
    """Whether another error of the list is the reason for this one: data_dir follows app_id, a list its elements."""
    shortened = details["type"] == "too_short" and details["input"] not in ([], ())
    return shortened or details["type"] == "default_factory_not_called"


def _problem(details: ErrorDetails, model: type[BaseModel], sources: Sequence[Source]) -> ConfigProblem:
    path, parent = _known_part(details["loc"], model)
    key = ".".join(map(str, path)) or "the configuration"
    origin = next((name for name, given in reversed(sources) if path and _has(given, path)), "")
    variable = environment_name(path)
    if details["type"] == "extra_forbidden":
        shown = variable if origin == ENVIRONMENT else ""
        return ConfigProblem(key, shown, "is not a setting", nearest(str(path[-1]), parent.model_fields), origin)
    return ConfigProblem(key, variable, _wrong(details, path), _mend(details, path, parent, model, origin), origin)


def _wrong(details: ErrorDetails, path: Path) -> str:
    if details["type"] == "missing":
        return "is missing"
    if details["type"] == "string_pattern_mismatch":
        reason = f"it must be {_OTHER_RULES.get(details['ctx']['pattern'], NAME_RULE)}"
    else:
        reason = details["msg"].removeprefix("Value error, ")
        reason = reason.replace("Input should", "it must").replace("String should", "it must").replace("a valid tuple", "a list")
    given = details["input"]
    if not path or path[0] in _UNSHOWN or not isinstance(given, str | int | float):
        return reason
    shown = repr(given)
    return f"{shown if len(shown) <= _SHOWN_MAX else shown[:_SHOWN_MAX] + '...'} cannot be used: {reason}"


def _mend(details: ErrorDetails, path: Path, parent: type[BaseModel], model: type[BaseModel], origin: str) -> str:
    field = parent.model_fields.get(str(path[-1])) if path else None
    if str(details["input"]).startswith("tcp://"):
        return "Kubernetes set it for a Service of this name: `enableServiceLinks: false` in the pod's specification"
    if details["type"] in _WANTS_JSON and origin == ENVIRONMENT:
        return "write it as JSON in the environment, a list as [...], or set it in the configuration file"
    meaning = f" ({field.description})" if field and field.description else ""
    default = _default_at(path, model)
    if default is None:
        return f"correct it{meaning}; `churnwatch config default` prints every setting"
    return f"correct it{meaning}, or leave it out for the default, {default}"


def _default_at(path: Path, model: type[BaseModel]) -> object:
    """The default of a setting as it is written in a file; None where there is none, or it is a whole group."""
    place: object = _defaults(model)
    for part in path:
        if not isinstance(place, dict) or part not in place:
            return None
        place = place[part]
    return None if isinstance(place, dict | list) or place == "" else place


@functools.cache
def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    return model().model_dump(mode="json", exclude={"data_dir"})


def _known_part(location: Sequence[str | int], root: type[BaseModel]) -> tuple[Path, type[BaseModel]]:
    """The keys of a pydantic location, without its names of types; and the model that the last key belongs to."""
    path: list[str | int] = []
    model: type[BaseModel] | None = root
    parent = root
    for part in location:
        if isinstance(part, int):
            path.append(part)
            continue
        if model is None:
            break
        path.append(part)
        parent = model
        field = model.model_fields.get(part)
        model = (nested_model(field) or element_model(field)) if field else None
    return tuple(path), parent


def _has(given: Any, path: Path) -> bool:
    for part in path:
        if isinstance(given, list | tuple) and isinstance(part, int):
            return part < len(given)
        if not isinstance(given, dict):
            return isinstance(given, str)  # a list in the environment, which is JSON, or should be
        if part not in given:
            return False
        given = given[part]
    return True
