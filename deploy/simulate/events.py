"""Decisions as events of the contract (shared event contract, section 3), made with the types that the service decodes."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Final

import msgspec

from deploy.simulate import decisions as d
from deploy.simulate.dice import DAY
from models import events as e
from models.times import format_us

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deploy.replay.envelope import Event

APP, BILLING, DESK, CRM, BOOKS = "/app/production", "stripe", "zendesk", "/crm", "/books"
"""Who says so."""

_STATUS: Final[dict[str, Any]] = {
    "trialing": "trialing",
    "active": "active",
    "ending": "active",
    "past_due": "past_due",
    "paused": "active",
}


def _time(at: int) -> str:
    """An instant as text, to the second: text order is time order."""
    return f"{format_us(at)[:19]}Z"


def _maybe(at: int | None) -> str | None:
    return None if at is None else _time(at)


class Writer:
    """Writes decisions down as events, and gives them back in the order of time; what would be at `stops` or later never happens."""

    def __init__(self, stops: int) -> None:
        self._stops = stops
        self._waiting: list[tuple[int, int, Event]] = []
        self._written = 0
        self._of_account: dict[str, int] = {}
        self._versions: dict[str, int] = {}
        self._writers: dict[type, Callable[[Any], None]] = {
            d.Agreed: self._agreed,
            d.Invoiced: self._invoiced,
            d.Ordered: self._ordered,
            d.GaveBack: self._gave_back,
            d.Joined: self._joined,
            d.Changed: self._changed,
            d.UserMoved: self._user_moved,
            d.SignedUp: self._signed_up,
            d.StepDone: self._step_done,
            d.Tried: self._tried,
            d.Term: self._term,
            d.Renewal: self._renewal,
            d.Referred: self._referred,
            d.Contact: self._contact,
            d.Pulse: self._pulse,
            d.Advised: self._advised,
            d.Ticket: self._ticket,
            d.GaveUp: self._gave_up,
            d.Asked: self._asked,
            d.Wrote: self._wrote,
            d.Used: self._used,
            d.Snapshot: self._snapshot,
            d.Failure: self._failure,
            d.Spent: self._spent,
        }

    def until(self, at: int) -> Iterator[Event]:
        """The events before an instant that were not given yet."""
        while self._waiting and self._waiting[0][0] < at:
            yield heapq.heappop(self._waiting)[2]

    def _put(self, kind: type[e.Envelope], source: str, at: int, account: str, data: Any, event_id: str | None = None) -> None:
        """Write an event; its id is its number among those of the account, unless it is given."""
        if at >= self._stops:
            return
        self._written += 1
        if event_id is None:
            number = self._of_account[account] = self._of_account.get(account, 0) + 1
            event_id = f"{account}:{number}"
        made = kind(id=event_id, source=source, time=_time(at), subject=account, specversion="1.0", data=data)  # type: ignore[call-arg]
        told: Any = msgspec.to_builtins(made)
        del told["dataschema"]
        heapq.heappush(self._waiting, (at, self._written, told))

    def write(self, decision: d.Decision) -> None:
        """Write a decision."""
        self._writers[type(decision)](decision)

    # -- payment-events

    def _agreed(self, one: d.Agreed) -> None:
        deal = one.deal
        if one.told_at is None or one.told_at >= self._stops:
            return
        version = self._versions[deal.name] = self._versions.get(deal.name, 0) + 1
        by_date = deal.state == "ending" and deal.ends_at != deal.period_end
        data = e.SubscriptionUpsertedData(
            subscription_id=deal.name,
            status="canceled" if deal.state == "ended" else _STATUS[deal.state],
            items=(
                e.SubscriptionItem(
                    item_id=f"{deal.name}-1",
                    product_id=deal.product,
                    price_id=f"{deal.product}-{deal.interval}",
                    unit_amount_minor=str(deal.unit),
                    quantity=deal.seats,
                    interval=deal.interval,
                ),
            ),
            currency=deal.currency,
            version=version,
            discounts=(e.Discount(percent=float(deal.discount), duration="forever" if deal.is_for_ever else "once"),)
            if deal.discount
            else (),
            started_at=_time(deal.started_at),
            current_period_start=_maybe(deal.period_start),
            current_period_end=_maybe(deal.period_end),
            trial_start=None if deal.trial_end is None else _time(deal.started_at),
            trial_end=_maybe(deal.trial_end),
            cancel_at=_maybe(deal.ends_at) if by_date else None,
            cancel_at_period_end=deal.state == "ending" and not by_date,
            canceled_at=_time(one.told_at) if deal.state == "ended" else None,
            ended_at=_maybe(deal.ends_at) if deal.state == "ended" else None,
            pause=e.Pause(behavior="void", resumes_at=_maybe(deal.resumes_at)) if deal.state == "paused" else None,
            cancellation=e.Cancellation(reason="payment_failed" if one.why == "involuntary" else "cancellation_requested")
            if one.why and deal.state in ("ending", "ended")
            else None,
            auto_renew=True if deal.renews else None,
        )
        self._put(e.SubscriptionUpserted, BILLING, one.told_at, one.account, data)

    def _invoiced(self, one: d.Invoiced) -> None:
        def money(amount: int) -> e.Money:
            return e.Money(amount_minor=amount, currency=one.currency)

        lines = [e.InvoiceLine(product_id=one.product, amount_minor=one.net - one.one_off, recurring=True)]
        if one.one_off:
            lines.append(e.InvoiceLine(product_id="setup", amount_minor=one.one_off, recurring=False))
        of: dict[str, Any] = {"invoice_id": one.name, "subscription_id": one.deal}
        of |= {"total": money(one.net + one.tax), "tax": money(one.tax), "lines": tuple(lines)}
        reason = "subscription_cycle" if not one.one_off else "subscription_create"
        issued = e.InvoiceIssuedData(**of, billing_reason=reason, due_at=_time(one.at + 14 * DAY))
        self._put(e.InvoiceIssued, BILLING, one.at, one.account, issued)
        charged = e.NonNegativeMoney(amount_minor=one.net + one.tax, currency=one.currency)
        for attempt, at in enumerate(one.failed, 1):
            failed = e.InvoicePaymentFailedData(**of, attempt=attempt)
            self._put(e.InvoicePaymentFailed, BILLING, at, one.account, failed)
            charge = e.ChargeFailedData(charge_id=f"ch-{one.name}-{attempt}", amount=charged, failure_code="card_declined")
            self._put(e.ChargeFailed, BILLING, at, one.account, charge)
        if one.paid_at is not None:
            attempt = len(one.failed) + 1
            self._put(e.InvoicePaid, BILLING, one.paid_at, one.account, e.InvoicePaidData(**of, attempt=attempt))
            taken = e.ChargeSucceededData(charge_id=f"ch-{one.name}-{attempt}", amount=charged)
            self._put(e.ChargeSucceeded, BILLING, one.paid_at, one.account, taken)
        if one.voided_at is not None:
            self._put(e.InvoiceVoided, BILLING, one.voided_at, one.account, e.InvoiceVoidedData(**of))

    def _ordered(self, one: d.Ordered) -> None:
        amount = e.NonNegativeMoney(amount_minor=one.amount, currency=one.currency)
        data = e.ChargeSucceededData(charge_id=f"ch-{one.name}", amount=amount, order_id=one.name)
        self._put(e.ChargeSucceeded, BILLING, one.at, one.account, data)

    def _gave_back(self, one: d.GaveBack) -> None:
        amount = e.Money(amount_minor=one.amount, currency=one.currency)
        if one.kind == "credit_note":
            note = e.CreditNoteCreatedData(credit_note_id=one.name, amount=amount, invoice_id=one.of)
            self._put(e.CreditNoteCreated, BILLING, one.at, one.account, note)
            return
        data = e.RefundCreatedData(refund_id=one.name, amount=amount, cancels_subscription=one.kind == "refund_and_end")
        self._put(e.RefundCreated, BILLING, one.at, one.account, data)

    # -- account-events

    def _joined(self, one: d.Joined) -> None:
        data = e.AccountCreatedData(
            name=one.name,
            segment=one.segment,
            industry=one.industry,
            employees=one.employees,
            region=one.region,
            plan=one.plan,
            seats=one.seats,
            owner=one.owner,
            created_at=_time(one.created_at),
            lifecycle_stage=one.stage,
            currency=one.currency,
        )
        self._put(e.AccountCreated, CRM, one.at, one.account, data)

    def _changed(self, one: d.Changed) -> None:
        if one.is_deleted:
            self._put(e.AccountDeleted, CRM, one.at, one.account, e.AccountDeletedData())
        if one.segment is not None:
            self._put(e.AccountUpdated, CRM, one.at, one.account, e.AccountUpdatedData(segment=one.segment))
        if one.owner is not None:
            changed = e.AccountOwnerChangedData(from_=one.former_owner, to=one.owner)
            self._put(e.AccountOwnerChanged, CRM, one.at, one.account, changed)
        if one.stage is not None:
            moved = e.AccountStageChangedData(from_=one.former_stage, to=one.stage)
            self._put(e.AccountStageChanged, CRM, one.at, one.account, moved)
        if one.seats is not None or one.features is not None:
            may = e.EntitlementChangedData(features=one.features, seats=one.seats)
            self._put(e.EntitlementChanged, APP, one.at, one.account, may)

    def _user_moved(self, one: d.UserMoved) -> None:
        role: Any = one.role
        if one.what == "added":
            self._put(e.UserAdded, APP, one.at, one.account, e.UserAddedData(user_id=one.user, role=role))
        elif one.what == "removed":
            self._put(e.UserRemoved, APP, one.at, one.account, e.UserRemovedData(user_id=one.user))
        elif one.what == "champion_left":
            self._put(e.ChampionLeft, CRM, one.at, one.account, e.ChampionLeftData(user_id=one.user))
        else:
            self._put(e.UserRoleChanged, APP, one.at, one.account, e.UserRoleChangedData(user_id=one.user, role=role))

    def _signed_up(self, one: d.SignedUp) -> None:
        data = e.SignupCompletedData(user_id=one.user, visitor_id=one.visitor, channel=one.channel, referred_by=one.referred_by)
        self._put(e.SignupCompleted, APP, one.at, one.account, data)

    def _step_done(self, one: d.StepDone) -> None:
        data = e.OnboardingStepCompletedData(step=one.step, checklist=one.checklist)
        self._put(e.OnboardingStepCompleted, APP, one.at, one.account, data)

    def _tried(self, one: d.Tried) -> None:
        of: dict[str, Any] = {"trial_id": one.name, "plan": one.plan, "card_on_file": one.has_card}
        of |= {"starts_at": _time(one.at), "ends_at": _time(one.ends_at)}
        self._put(e.TrialStarted, APP, one.at, one.account, e.TrialStartedData(**of))
        if one.converted_at is not None:
            self._put(e.TrialConverted, APP, one.converted_at, one.account, e.TrialConvertedData(**of))
        if one.ended_at is not None:
            self._put(e.TrialEnded, APP, one.ended_at, one.account, e.TrialEndedData(**of))

    def _term(self, one: d.Term) -> None:
        of: dict[str, Any] = {"contract_id": one.name, "term_start": _time(one.start), "term_end": _time(one.end)}
        of["mrr"] = e.Money(amount_minor=one.amount, currency=one.currency)
        self._put(e.ContractSigned, CRM, one.at, one.account, e.ContractSignedData(**of))
        if one.due_told_at is not None:
            self._put(e.RenewalDue, CRM, one.due_told_at, one.account, e.RenewalDueData(**of))

    def _renewal(self, one: d.Renewal) -> None:
        data = e.RenewalOutcomeData(contract_id=one.name, term_end=_time(one.end), outcome=one.outcome)
        self._put(e.RenewalOutcome, CRM, one.at, one.account, data)

    def _referred(self, one: d.Referred) -> None:
        made = e.ReferralMadeData(referral_id=one.name, referred_account=one.to)
        self._put(e.ReferralMade, CRM, one.at, one.account, made)
        if one.converted_at is not None:
            converted = e.ReferralConvertedData(referral_id=one.name, referred_account=one.to)
            self._put(e.ReferralConverted, CRM, one.converted_at, one.account, converted)

    def _contact(self, one: d.Contact) -> None:
        data = e.TouchpointLoggedData(kind=one.kind, direction=one.direction, outcome=one.outcome)
        self._put(e.TouchpointLogged, CRM, one.at, one.account, data)

    def _pulse(self, one: d.Pulse) -> None:
        self._put(e.CsmPulseSet, CRM, one.at, one.account, e.CsmPulseSetData(value=one.value))

    def _advised(self, one: d.Advised) -> None:
        self._put(e.RecommendationMade, CRM, one.at, one.account, e.RecommendationMadeData(recommendation_id=one.name))
        if one.done_at is not None:
            data = e.RecommendationActionedData(recommendation_id=one.name)
            self._put(e.RecommendationActioned, CRM, one.done_at, one.account, data)

    # -- ticket-events

    def _ticket(self, one: d.Ticket) -> None:
        created = e.TicketCreatedData(
            ticket_id=one.name, user_id=one.user, channel=one.channel, priority=one.priority, kind=one.kind, department=one.department
        )
        self._put(e.TicketCreated, DESK, one.at, one.account, created)
        status: Any = "new"
        priority: Any = one.priority
        for step in one.steps:
            kind, data, status, priority = _step(one.name, step, status, priority)
            self._put(kind, DESK, step.at, one.account, data)

    def _gave_up(self, one: d.GaveUp) -> None:
        self._put(e.TicketAbandoned, DESK, one.at, one.account, e.TicketAbandonedData(wait_ms=float(one.waited_ms)))

    # -- survey-events

    def _asked(self, one: d.Asked) -> None:
        offered = e.SurveyOfferedData(survey_id=one.name, kind=one.kind, user_id=one.user)
        self._put(e.SurveyOffered, APP, one.at, one.account, offered)
        for place, (at, score) in enumerate(one.answers):
            data = e.SurveyAnsweredData(
                survey_id=one.name,
                kind=one.kind,
                score=float(score),
                scale_min=one.scale[0],
                scale_max=one.scale[1],
                user_id=one.user,
                ticket_id=one.ticket,
                comment=one.comment if place == 0 else None,
                language=one.language if place == 0 else None,
            )
            self._put(e.SurveyAnswered, APP, at, one.account, data)

    def _wrote(self, one: d.Wrote) -> None:
        data = e.FeedbackReceivedData(channel=one.channel, text=one.text, language=one.language)
        self._put(e.FeedbackReceived, APP, one.at, one.account, data)

    # -- usage-events

    def _used(self, one: d.Used) -> None:
        data = e.UsageEventData(
            event=f"{one.feature}_used", user_id=one.user, feature=one.feature, count=one.times, duration_ms=float(one.ms)
        )
        self._put(e.UsageEvent, APP, one.at, one.account, data)

    def _snapshot(self, one: d.Snapshot) -> None:
        self._put(e.UsageGauge, APP, one.at, one.account, e.UsageGaugeData(metric="seats", value=float(one.seats), seats=one.seats))

    def _failure(self, one: d.Failure) -> None:
        self._put(e.UsageError, APP, one.at, one.account, e.UsageErrorData(kind=one.kind, count=one.times))

    # -- cost-events

    def _spent(self, one: d.Spent) -> None:
        data = e.CostRecordedData(
            category=one.category,  # type: ignore[arg-type]
            amount=e.Money(amount_minor=one.amount, currency=one.currency),
            period=e.Period(start=_time(one.start), end=_time(one.end)),
            account_id=one.of,
            channel=one.channel,
            allocation=one.allocation,
        )
        self._put(e.CostRecorded, BOOKS, one.at, one.account, data, one.name)


def _step(  # noqa: PLR0911 - one case after the other
    name: str, step: d.TicketStep, status: Any, priority: Any
) -> tuple[type[e.Envelope], Any, Any, Any]:
    """The event of a step of a ticket, and its status and priority after it."""
    match step.what:
        case "agent_reply" | "note" | "customer_reply":
            is_agent = step.what != "customer_reply"
            replied = e.TicketRepliedData(
                ticket_id=name, author_role="agent" if is_agent else "customer", public=step.what != "note", department=step.who or None
            )
            return e.TicketReplied, replied, status, priority
        case "assigned":
            return e.TicketAssigned, e.TicketAssignedData(ticket_id=name, agent_id=step.who), status, priority
        case "urgent" | "calm":
            to: Any = "urgent" if step.what == "urgent" else "normal"
            return e.TicketPriorityChanged, e.TicketPriorityChangedData(ticket_id=name, from_=priority, to=to), status, to
        case "open" | "solved" | "closed":
            return e.TicketStatusChanged, e.TicketStatusChangedData(ticket_id=name, from_=status, to=step.what), step.what, priority
        case "reopened":
            return e.TicketReopened, e.TicketReopenedData(ticket_id=name), "open", priority
        case "merged":
            return e.TicketMerged, e.TicketMergedData(ticket_id=name, into=step.who), status, priority
        case "deleted":
            return e.TicketDeleted, e.TicketDeletedData(ticket_id=name), status, priority
