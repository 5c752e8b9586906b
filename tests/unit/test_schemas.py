"""The published contract: the schemas and the AsyncAPI document are those of the types, and say what the decoder does."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from deploy import schemas
from models.decoding import Reason, decode_batch
from models.events import EVENT_CLASSES, TOPIC_EVENTS
from models.kpi.figures import FIGURES
from stream_app.topics import TOPICS
from tests.support.examples import EXAMPLES, TOPIC_OF
from tests.support.generate import histories
from tests.support.poison import HARMLESS, POISON, Harmless, Poison, Sent, text

NOT_SAID_BY_A_SCHEMA = {
    "33 levels",
    "900 levels",
    "33 levels in an unknown member",
    "an integer beyond 64 bits among properties",
    "an integer of 5,000 digits among properties",
    "an amount as a float",  # 49.0 is an integer for JSON Schema
    "a score below its scale",  # a schema cannot compare two members
    "a score above its scale",
    "a scale of one point",
    "an nps score of 0 on 1 to 10",
    "a count of 5,000 digits",  # Python's own reader gives up
}
SAID_BY_A_SCHEMA = {Reason.MISSING_MEMBER, Reason.BAD_TYPE, Reason.BAD_VALUE, Reason.BAD_TIME}


@cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    """Read the committed schema of an event."""
    return jsonschema.Draft202012Validator(json.loads((schemas.DOCS / "schemas" / f"{name}.json").read_text("utf-8")))


def test_what_is_committed_is_what_the_types_say() -> None:
    """If this fails, run `python -m deploy.schemas write` and look at the difference."""
    assert schemas.drift() == []


def test_drift_is_told_by_name(tmp_path: Path) -> None:
    """A changed, a missing and a left-over file are named; writing puts all three right."""
    schemas.write(tmp_path)
    assert schemas.drift(tmp_path) == []
    (tmp_path / "schemas" / "usage.event.json").write_text("{}")
    (tmp_path / "schemas" / "usage.forgotten.json").write_text("{}")
    (tmp_path / "asyncapi.yaml").unlink()
    expected = ["asyncapi.yaml", "schemas/usage.event.json", "schemas/usage.forgotten.json"]
    assert schemas.drift(tmp_path) == expected
    assert schemas.write(tmp_path) == expected
    assert schemas.drift(tmp_path) == []


def test_check_exits_with_1_and_the_names_of_what_drifted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For CI: silent and 0 when all is well."""
    schemas.write(tmp_path)
    assert schemas.main(["check"], tmp_path) == 0
    assert capsys.readouterr().out == ""
    (tmp_path / "asyncapi.yaml").write_text("asyncapi: 2.6.0\n")
    assert schemas.main(["check"], tmp_path) == 1
    assert capsys.readouterr().out == "docs/asyncapi.yaml: differs from the types\n"


@pytest.mark.parametrize("published", schemas.registry(), ids=lambda published: published.name)
def test_each_schema_is_one(published: schemas.Published) -> None:
    """It keeps to its dialect, has a name that a `dataschema` can give, and a description."""
    schema = schemas.schema(published)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:churnwatch:schema:{published.name}/1.json"
    assert schema["description"]
    assert all(part["description"] for part in schema["$defs"].values())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example['type']}-{len(example['data'])}")
def test_each_example_keeps_to_its_schema_and_is_decoded(example: dict[str, Any]) -> None:
    """Both agree on what is an event."""
    validator(example["type"]).validate(example)
    decoded = decode_batch(TOPIC_OF[example["type"]], [Sent(TOPIC_OF[example["type"]], example["subject"].encode(), text(example))])
    assert decoded.rejected == []


@given(histories(max_size=10))
def test_generated_events_keep_to_their_schemas(records: list[dict[str, Any]]) -> None:
    """Whatever the generator writes."""
    for record in records:
        validator(record["type"]).validate(record)


@pytest.mark.parametrize(
    "poison",
    [poison for poison in POISON if poison.reason in SAID_BY_A_SCHEMA and not poison.headers and poison.name not in NOT_SAID_BY_A_SCHEMA],
    ids=lambda poison: poison.name,
)
def test_what_the_decoder_refuses_its_schema_refuses(poison: Poison) -> None:
    """Types, limits, times and required members are in the schema too."""
    assert poison.value is not None
    content = json.loads(poison.value)
    kind = content.get("type") if isinstance(content, dict) else None
    assert not validator(kind if isinstance(kind, str) else "usage.event").is_valid(content)


@pytest.mark.parametrize(
    "harmless",
    [harmless for harmless in HARMLESS if not harmless.sent.headers and harmless.name not in {"a raw NUL", "a type with version 1"}],
    ids=lambda harmless: harmless.name,
)
def test_what_the_decoder_takes_its_schema_takes(harmless: Harmless) -> None:
    """But for what is more than JSON, and for a version suffix."""
    content = json.loads((harmless.sent.value or b"").replace(b"9" * 5_000, b"9"))
    validator(content["type"]).validate(content)


@given(st.sampled_from(EXAMPLES), st.data())
def test_a_member_of_another_kind_is_judged_alike(example: dict[str, Any], data: st.DataObject) -> None:
    """Whatever stands in a member's place, what the decoder takes the schema takes."""
    values = st.one_of(
        st.none(), st.booleans(), st.integers(-2, 2), st.floats(allow_nan=False), st.text(max_size=3), st.just([]), st.just({})
    )
    name = data.draw(st.sampled_from(sorted({*example["data"], "x_other"})))
    changed = {**example, "data": {**example["data"], name: data.draw(values)}}
    topic = TOPIC_OF[example["type"]]
    decoded = decode_batch(topic, [Sent(topic, example["subject"].encode(), text(changed))])
    if not decoded.rejected:
        validator(example["type"]).validate(changed)


def asyncapi() -> dict[str, Any]:
    """Read the committed document."""
    document: dict[str, Any] = yaml.safe_load((schemas.DOCS / "asyncapi.yaml").read_text("utf-8"))
    return document


def test_every_topic_with_types_is_a_channel() -> None:
    """Inputs are received, outputs sent, and nothing is a channel that is no topic."""
    document = asyncapi()
    directions = {topic.name: topic.direction for topic in TOPICS}
    assert (
        set(TOPIC_EVENTS) | {"health-scores", "churn-alerts", "alert-state", "portfolio-metrics", "dead-letters"}
        == document["channels"].keys()
    )
    for operation in document["operations"].values():
        name = operation["channel"]["$ref"].removeprefix("#/channels/")
        assert operation["action"] == {"in": "receive", "out": "send"}[directions[name]]
    assert len(document["operations"]) == len(document["channels"])


def test_every_event_is_a_message_in_both_modes() -> None:
    """Binary mode has the payload alone, and the envelope in its headers."""
    messages = asyncapi()["components"]["messages"]
    for event_class in EVENT_CLASSES:
        name = event_class.__name__
        assert messages[name]["contentType"] == "application/cloudevents+json"
        assert messages[f"{name}Binary"]["payload"]["$ref"].endswith(f"#/$defs/{name}Data")
    assert len(messages) == 2 * len(EVENT_CLASSES) + 5


def test_every_figure_has_its_pattern_and_no_other_key_passes_for_one() -> None:
    """A reader finds each key of the catalogue under exactly one pattern; a label or a currency too few or too many is under none."""
    patterns = schemas.schema(next(one for one in schemas.registry() if one.is_bare))["properties"]["figures"]["patternProperties"]
    for figure in FIGURES.values():
        label, currency = "{x}" if figure.label else "", "@USD" if figure.is_money else ""
        [described] = [about for pattern, about in patterns.items() if re.search(pattern, f"{figure.name}{label}{currency}")]
        assert figure.unit in described["description"]
        wrong = f"{figure.name}{'' if figure.label else '{x}'}{currency}", f"{figure.name}{label}{'' if figure.is_money else '@USD'}"
        assert not [pattern for pattern in patterns for key in wrong if re.search(pattern, key)]
    assert len(patterns) == len(FIGURES)


def test_every_reference_leads_somewhere() -> None:
    """Within the document, and into the schemas beside it."""
    document = asyncapi()
    for reference in references(document):
        file, _, pointer = reference.partition("#")
        target = json.loads((schemas.DOCS / file).read_text("utf-8")) if file else document
        for part in filter(None, pointer.split("/")):
            target = target[part]
        assert target


def references(part: Any) -> list[str]:
    """List every reference in a document."""
    if isinstance(part, dict):
        found = [part["$ref"]] if "$ref" in part else []
        return found + [reference for inner in part.values() for reference in references(inner)]
    return [reference for inner in part for reference in references(inner)] if isinstance(part, list) else []
