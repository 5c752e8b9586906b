"""The alerts of one partition: the policy's state in the columns, and what each transition says. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from alerts.events import AlertContext, DriverFact, Money, Owner, build_event, encode_event, encode_state, fold_state
from alerts.policy import AlertState, Condition, Facts, Kind, Severity, decide
from alerts.rules import AlertRules
from models.columns import Columns
from models.fixed import SCALE
from models.fold import read_part
from models.health import Scale, shortfalls
from models.payments import last_failure_at
from models.profile import Profile
from models.row import NEVER, NONE
from models.times import DAY_US

_EPOCH = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Said:
    """One transition as it is published: on the log of alerts, and as the latest state of the account's alert.

    `received_us` is when the broker received the newest record of the batch that brought it about; None when a timer did.
    """

    key: bytes
    kind: Kind
    severity: Severity
    received_us: int | None
    event: bytes
    state: bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an account's alert state changed, and when to look again at the latest."""

    is_changed: bool
    due_us: int | None


class Alerting:
    """Asks the policy about accounts of a partition, keeps its state, and collects what is to be said.

    `is_quiet`: states move on, and nothing is said of it: a past is lived again of which everybody was told.
    """

    def __init__(self, rules: AlertRules, scale: Scale, columns: Columns, profile: Callable[[int], Profile]) -> None:
        self._rules = rules
        self._scale = scale
        self._columns = columns
        self._profile = profile
        self._said: list[Said] = []
        self.received_us: int | None = None
        self.is_quiet = False

    def take(self) -> list[Said]:
        """What was said since this was called last, in order."""
        said, self._said = self._said, []
        return said

    def decide(self, slot: int, as_of: int, score: int, is_insufficient: bool) -> Verdict:
        """Let the policy look at one assessed account; `score` is `NONE` where there is none."""
        columns = self._columns
        before = self.state(slot)
        facts = Facts(None if score == NONE else score, is_insufficient, bool(columns.is_deleted[slot] | columns.is_ended[slot]))
        decision = decide(before, facts, as_of, self._rules)
        if decision.state != before:
            self.keep(slot, decision.state)
        if decision.transitions and not self.is_quiet:
            context = self._context(slot, as_of, facts.score)
            key = columns.keys[slot]
            for transition in decision.transitions:
                event = build_event(transition, decision.state, context, as_of)
                latest = encode_state(fold_state(None, event))
                self._said.append(Said(key, transition.kind, transition.severity, self.received_us, encode_event(event), latest))
        return Verdict(decision.state != before, decision.due_us)

    def state(self, slot: int) -> AlertState:
        """The alert of an account."""
        columns = self._columns
        return AlertState(
            condition=Condition(int(columns.alert_condition[slot])),
            severity=Severity(int(columns.alert_severity[slot])),
            episode=int(columns.alert_episode[slot]),
            sequence=int(columns.alert_sequence[slot]),
            since_us=int(columns.alert_since[slot]),
            evaluations=int(columns.alert_evaluations[slot]),
            evaluated_at_us=int(columns.alert_evaluated_at[slot]),
            opened_at_us=int(columns.alert_opened_at[slot]),
            resolved_at_us=int(columns.alert_resolved_at[slot]),
            critical_since_us=int(columns.alert_critical_since[slot]),
            rule=Severity(int(columns.alert_rule[slot])),
        )

    def keep(self, slot: int, state: AlertState) -> None:
        """Let the alert of an account be so from now on."""
        columns = self._columns
        columns.alert_condition[slot] = state.condition
        columns.alert_severity[slot] = state.severity
        columns.alert_episode[slot] = state.episode
        columns.alert_sequence[slot] = state.sequence
        columns.alert_since[slot] = state.since_us
        columns.alert_evaluations[slot] = state.evaluations
        columns.alert_evaluated_at[slot] = state.evaluated_at_us
        columns.alert_opened_at[slot] = state.opened_at_us
        columns.alert_resolved_at[slot] = state.resolved_at_us
        columns.alert_critical_since[slot] = state.critical_since_us
        columns.alert_rule[slot] = state.rule

    def _context(self, slot: int, as_of: int, score: int | None) -> AlertContext:
        columns = self._columns
        facts = read_part(columns, "facts", slot)
        profile = self._profile(slot)
        mrr = None if profile.mrr is None else Money(profile.mrr.amount_minor, profile.mrr.currency)
        renewal_at = profile.renewal_at(as_of)
        failed_at = last_failure_at(read_part(columns, "payment", slot))
        has_tickets = columns.parts["support"].has(slot)
        said = int(columns.said_score[slot])
        return AlertContext(
            account_id=columns.keys[slot].decode(),
            score=score,
            name=facts.text("name"),
            segment=profile.segment,
            plan=facts.text("plan"),
            region=facts.text("region"),
            owner=Owner(id=profile.owner),
            previous_score=None if said == NONE else said,
            drivers=tuple(
                DriverFact(each.measure, each.points, value=each.value / SCALE, text=each.words)
                for each in shortfalls(columns, slot, as_of, self._scale)
            ),
            mrr=mrr,
            mrr_at_risk=None if mrr is None or mrr.amount_minor < 0 else mrr,
            renewal_on=None if renewal_at == NEVER else date.fromordinal(_EPOCH + renewal_at // DAY_US),
            tickets_open=int(columns.tickets_open[slot]) if has_tickets else None,
            tickets_sev1=int(columns.tickets_open_urgent[slot]) if has_tickets else None,
            payment_failed_at_us=None if failed_at == NEVER else failed_at,
        )
