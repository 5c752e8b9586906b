"""The event contract for other programs: a JSON Schema for each event, and an AsyncAPI document of the topics, made from the types.

With them comes the page of all metrics, made from their catalogue.

`python -m deploy.schemas write` writes them to `docs/`; `check` says which differ from the types, and exits with 1 if any does.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from alerts.events import AlertEvent, AlertStateEvent
from deploy.metrics_page import metrics_page
from models.decoding import Reason
from models.events import NPS_MAX, TOPIC_EVENTS, type_name
from models.kpi.figures import FIGURES
from models.portfolio import PortfolioRecord
from models.scored import HealthScored
from stream_app.topics import TOPICS, TopicSpec

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
CONTRACT_VERSION: Final = "1.0.0"
"""Of the events, not of the program: its major version is the one that `dataschema` and a suffix of `type` name."""

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_STRUCTURED: Final = "application/cloudevents+json"
_ENVELOPE_HEADERS: Final = ("specversion", "id", "source", "type", "time", "subject")


@dataclass(frozen=True, slots=True)
class Published:
    """An event that others write or read: its name, the topic that carries it (with no prefix), and the class of its envelope.

    `is_bare`: it has no envelope, and its class is that of the value itself.
    """

    name: str
    topic: str
    event_class: type[msgspec.Struct]
    is_bare: bool = False

    @property
    def class_name(self) -> str:
        """The name of its class, by which messages are called."""
        return self.event_class.__name__


def registry() -> list[Published]:
    """Return every event that has a type, inputs first. A new topic, or a new event on one, becomes known here."""
    inputs = [Published(type_name(one), topic, one) for topic, classes in TOPIC_EVENTS.items() for one in classes]
    outputs = [
        Published("health.scored", "health-scores", HealthScored),
        Published("alert-event", "churn-alerts", AlertEvent),
        Published("alert-state", "alert-state", AlertStateEvent),
        Published("portfolio-metrics", "portfolio-metrics", PortfolioRecord, is_bare=True),
    ]
    return inputs + outputs


_RULES: Final[dict[str, dict[str, Any]]] = {
    "SurveyAnsweredData": {
        "if": {"properties": {"kind": {"const": "nps"}}, "required": ["kind"]},
        "then": {
            "properties": {
                "score": {"multipleOf": 1, "minimum": 0, "maximum": NPS_MAX},
                "scale_min": {"enum": [0, 1]},
                "scale_max": {"const": NPS_MAX},
                "direction": {"const": "higher_better"},
            },
        },
    },
}
"""What a schema can say of `models.events.RULES`, by the class of the payload; it cannot compare two members."""


def schema(published: Published) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of an event: the envelope, with the payload and its parts as definitions."""
    [reference], definitions = msgspec.json.schema_components([published.event_class], ref_template="#/$defs/{name}")
    envelope = definitions.pop(reference["$ref"].removeprefix("#/$defs/"))
    for name in definitions.keys() & _RULES.keys():
        definitions[name] |= _RULES[name]
    if published.event_class is PortfolioRecord:
        envelope["properties"]["figures"] |= {"patternProperties": dict(_figures())}
    head = {"$schema": _DIALECT, "$id": f"urn:churnwatch:schema:{published.name}/1.json", "title": published.name}
    return {**head, **{name: part for name, part in envelope.items() if name != "title"}, "$defs": definitions}


def _figures() -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the keys of each figure, as a pattern, and what a reader has to know of its numbers."""
    for figure in FIGURES.values():
        label = r"\{.+\}" if figure.label else ""
        by = f" One number for each `{figure.label}`." if figure.label else ""
        pattern = f"^{figure.name}{label}{'@[A-Z]{3}' if figure.is_money else ''}$"
        yield pattern, {"type": "integer", "description": f"{_sentence(figure.meaning)}{by} ({figure.kind}, {figure.unit})"}


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document of the topics whose events have types, and of the dead letters."""
    topics = {spec.name: spec for spec in TOPICS}
    events = registry()
    names = list(dict.fromkeys(event.topic for event in events))
    messages = {name: message for event in events for name, message in _messages(event, topics[event.topic])}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "churnwatch events",
            "version": CONTRACT_VERSION,
            "description": (
                "What churnwatch reads from Kafka and what it writes. Where an installation has a prefix, it stands before each address "
                "(`eu.usage-events`). Inputs are CloudEvents 1.0 in structured or binary mode, or plain JSON with the same members and no "
                "header. Outputs are in structured mode, but for `portfolio-metrics`, whose values are plain JSON; read them with "
                "`isolation.level=read_committed`. "
                "What cannot be used goes to `dead-letters`."
            ),
        },
        "defaultContentType": _STRUCTURED,
        "channels": {name: _channel(topics[name], events) for name in names} | {"dead-letters": _dead_letters(topics["dead-letters"])},
        "operations": dict(_operation(topics[name]) for name in [*names, "dead-letters"]),
        "components": {"messages": messages | {"DeadLetter": _DEAD_LETTER}, "schemas": _HEADERS},
    }


_HEADERS: Final[dict[str, Any]] = {
    "StructuredHeaders": {
        "type": "object",
        "description": "With this header `specversion` is required. With no header the value is the same JSON, and it may be left out.",
        "properties": {"content-type": {"type": "string", "pattern": "^application/cloudevents\\+json"}},
    },
    "BinaryHeaders": {
        "type": "object",
        "description": "The envelope in headers; the value is `data` alone.",
        "properties": {f"ce_{name}": {"type": "string"} for name in (*_ENVELOPE_HEADERS, "dataschema")},
        "required": [f"ce_{name}" for name in _ENVELOPE_HEADERS],
    },
    "DeadLetterHeaders": {
        "type": "object",
        "description": "The record's own headers, and behind them why it could not be used.",
        "properties": {
            "churnwatch.error.topic": {"type": "string"},
            "churnwatch.error.partition": {"type": "string"},
            "churnwatch.error.offset": {"type": "string"},
            "churnwatch.error.reason": {"type": "string", "enum": [reason.value for reason in Reason]},
            "churnwatch.error.message": {"type": "string", "description": "One line that holds nothing of the payload."},
            "churnwatch.error.stage": {"type": "string", "enum": ["decode", "fold"]},
            "churnwatch.error.version": {"type": "string", "description": "Of the program that could not use it."},
            "churnwatch.error.sha256": {"type": "string", "description": "Of the whole value, where it was too long to keep."},
            "churnwatch.error.key_sha256": {"type": "string", "description": "Of the whole key, where it was too long to keep."},
            "churnwatch.error.headers_dropped": {"type": "string", "description": "How many of its own headers did not fit."},
        },
        "required": [f"churnwatch.error.{name}" for name in ("topic", "partition", "offset", "reason", "message", "stage", "version")],
    },
}

_DEAD_LETTER: Final[dict[str, Any]] = {
    "name": "dead-letter",
    "title": "Dead letter",
    "summary": "A record that could not be used: its key, value, headers and timestamp, with the reason in added headers.",
    "contentType": "application/octet-stream",
    "headers": {"$ref": "#/components/schemas/DeadLetterHeaders"},
    "bindings": {"kafka": {"key": {"type": "string", "description": "The record's own key."}, "bindingVersion": "0.5.0"}},
}


def _messages(event: Published, topic: TopicSpec) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the messages of an event by their names: one for structured mode, and for an input one for binary mode; one with no envelope."""
    key = {"kafka": {"key": {"type": "string", "description": topic.key}, "bindingVersion": "0.5.0"}}
    file = f"./schemas/{event.name}.json"
    about = {"name": event.name, "title": event.name, "summary": " ".join((event.event_class.__doc__ or "").split())}
    if event.is_bare:
        yield event.class_name, about | {"contentType": "application/json", "payload": {"$ref": file}, "bindings": key}
        return
    structured = {"$ref": "#/components/schemas/StructuredHeaders"}
    yield event.class_name, about | {"contentType": _STRUCTURED, "headers": structured, "payload": {"$ref": file}, "bindings": key}
    if topic.direction == "in":
        payload = {"$ref": f"{file}#/$defs/{event.class_name}Data"}
        binary = {"$ref": "#/components/schemas/BinaryHeaders"}
        yield (
            f"{event.class_name}Binary",
            about | {"contentType": "application/json", "headers": binary, "payload": payload, "bindings": key},
        )


def _channel(topic: TopicSpec, events: Sequence[Published]) -> dict[str, Any]:
    names = [name for event in events if event.topic == topic.name for name, _ in _messages(event, topic)]
    messages = {name: {"$ref": f"#/components/messages/{name}"} for name in names}
    return {"address": topic.name, "description": _sentence(topic.carries), "messages": messages, "bindings": _topic_binding(topic)}


def _dead_letters(topic: TopicSpec) -> dict[str, Any]:
    messages = {"DeadLetter": {"$ref": "#/components/messages/DeadLetter"}}
    return {"address": topic.name, "description": _sentence(topic.carries), "messages": messages, "bindings": _topic_binding(topic)}


def _topic_binding(topic: TopicSpec) -> dict[str, Any]:
    configuration: dict[str, Any] = {"cleanup.policy": topic.cleanup.split(",")}
    if topic.retention_ms is not None:
        configuration["retention.ms"] = topic.retention_ms
    return {"kafka": {"topicConfiguration": configuration, "bindingVersion": "0.5.0"}}


def _operation(topic: TopicSpec) -> tuple[str, dict[str, Any]]:
    action = "receive" if topic.direction == "in" else "send"
    name = action + "".join(part.capitalize() for part in topic.name.split("-"))
    return name, {"action": action, "channel": {"$ref": f"#/channels/{topic.name}"}, "summary": _sentence(topic.carries)}


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


class _Plain(yaml.SafeDumper):
    """Writes every part in its place, with no anchors."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the base class's signature
        """Take no two parts for one."""
        return True


def documents() -> dict[str, str]:
    """Return the text of each generated file by its path below `docs/`."""
    texts = {f"schemas/{event.name}.json": json.dumps(schema(event), indent=2, ensure_ascii=False) + "\n" for event in registry()}
    head = "# Generated from the types of events: change those, then run `python -m deploy.schemas write`.\n"
    body = yaml.dump(asyncapi(), Dumper=_Plain, sort_keys=False, allow_unicode=True, width=130)
    return texts | {"asyncapi.yaml": head + body, "metrics.md": metrics_page()}


def drift(docs: Path = DOCS) -> list[str]:
    """Return the paths below `docs/` that differ from what the types say: missing, changed, or of no event."""
    expected = documents()
    found = {path.relative_to(docs).as_posix() for path in docs.glob("schemas/*.json")}
    changed = {name for name, text in expected.items() if not (docs / name).is_file() or (docs / name).read_text("utf-8") != text}
    return sorted(changed | (found - expected.keys()))


def write(docs: Path = DOCS) -> list[str]:
    """Write what differs, remove what belongs to no event, and return the paths of both."""
    expected = documents()
    names = drift(docs)
    for name in names:
        path = docs / name
        if name in expected:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(expected[name], "utf-8")
        else:
            path.unlink()
    return names


def main(arguments: Sequence[str] | None = None, docs: Path = DOCS) -> int:
    """Write or check the documents; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.schemas", description="JSON Schemas and AsyncAPI from the types of events.")
    parser.add_argument("action", choices=("write", "check"))
    action = parser.parse_args(arguments).action
    names = write(docs) if action == "write" else drift(docs)
    for name in names:
        print(f"docs/{name}: {'written' if action == 'write' else 'differs from the types'}")
    return 1 if names and action == "check" else 0


if __name__ == "__main__":
    sys.exit(main())
