"""The seeded load of the benchmark: which account does what and when, and each event as it is sent.

Everything is drawn from one seed, so two loads of the same numbers differ in their times alone, which end at `now`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from models.input_topics import PAYMENTS, TICKETS, USAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

TOPICS: Final = (USAGE, TICKETS, PAYMENTS)
"""The topics that a load is sent to; a message names one by its place here."""

SHARES: Final = (0.90, 0.06, 0.04)
"""The share of the events of each of these topics."""

ZIPF_EXPONENT: Final = 0.9
ZIPF_SHIFT: Final = 50
"""An account's share is `1 / (rank + shift) ** exponent`: unequal, yet none has more than about 1 % of the events."""

TROUBLED: Final = 0.03
"""The share of the accounts that do not pay and have nothing but urgent tickets: they are what alerts open for."""

SPAN_SECONDS: Final = 3600
"""The events lie in the hour before now: a backlog such as an outage leaves."""

SEED: Final = 20_261_118

_FEATURES: Final = (
    "dashboards",
    "exports",
    "search",
    "api",
    "reports",
    "billing",
    "imports",
    "alerts",
    "sharing",
    "admin",
    "mobile",
    "sso",
)
_ACTIONS: Final = ("opened", "created", "exported", "edited", "shared", "deleted")
_CHANNELS: Final = ("email", "chat", "web", "phone")
_KINDS: Final = ("question", "incident", "problem", "task")
_PRIORITIES: Final = ("low", "normal", "high", "urgent")
_PRIORITY_SHARES: Final = (0.20, 0.55, 0.18, 0.07)

_PAGE, _SESSION = 0.02, 0.04
"""Of the usage, what lies below the first is a page and below the second a session; the rest are events."""
_CREATE, _REPLY = 0.40, 0.70
"""Of the ticket events, likewise: new tickets, replies; the rest are solved. An account with no open ticket gets a new one."""
_CHARGED, _CHARGE_FAILED, _ISSUED, _PAID, _NOT_PAID = 0.45, 0.52, 0.74, 0.92, 0.96
"""Of the payment events, likewise; the rest are subscriptions. An account with no open invoice gets a new one."""

Message = tuple[int, str, str]
"""The place of the topic in `TOPICS`, the account id, and the event as JSON."""


@dataclass(frozen=True)
class Load:
    """How many events of how many accounts, the last of them at `end_us` (microseconds since 1970).

    `is_even` touches every account, each about as often as any other, instead of by Zipf's law.
    """

    events: int
    accounts: int
    end_us: int
    is_even: bool = False
    seed: int = SEED

    @cached_property
    def plan(self) -> Plan:
        """What happens, as columns; drawn once."""
        rng = np.random.default_rng(self.seed)
        return Plan(
            is_troubled=rng.random(self.accounts) < TROUBLED,
            account=self._accounts(rng),
            topic=rng.choice(len(TOPICS), self.events, p=SHARES),
            variant=rng.random(self.events),
            uses=rng.integers(1, 6, self.events),
            user=rng.integers(0, 50, self.events),
            feature=rng.integers(0, len(_FEATURES), self.events),
            priority=rng.choice(len(_PRIORITIES), self.events, p=_PRIORITY_SHARES),
            identity=rng.integers(0, 2**64, self.events, dtype=np.uint64),
        )

    def _accounts(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """The account of each event, by its number."""
        if self.is_even:
            rounds = -(-self.events // self.accounts)
            return np.concatenate([rng.permutation(self.accounts) for _ in range(rounds)])[: self.events]
        share = 1 / (np.arange(self.accounts) + 1.0 + ZIPF_SHIFT) ** ZIPF_EXPONENT
        ranked = rng.choice(self.accounts, self.events, p=share / share.sum())
        return rng.permutation(self.accounts)[ranked]

    def times_ms(self) -> NDArray[np.int64]:
        """When each event happened, milliseconds since 1970: evenly over the span, in order, none after the end."""
        back = np.arange(self.events - 1, -1, -1) * (SPAN_SECONDS * 1000) // max(self.events, 1)
        return self.end_us // 1000 - back

    def messages(self) -> Iterator[Message]:
        """The events in the order of their times."""
        return Writer(self).messages()


@dataclass(frozen=True, slots=True)
class Plan:
    """A load as columns: what a message is made from, each `(events,)`; `is_troubled` is of each account, `(accounts,)`."""

    is_troubled: NDArray[np.bool_]
    account: NDArray[np.int64]
    topic: NDArray[np.int64]
    variant: NDArray[np.float64]
    uses: NDArray[np.int64]
    user: NDArray[np.int64]
    feature: NDArray[np.int64]
    priority: NDArray[np.int64]
    identity: NDArray[np.uint64]

    @property
    def accounts_touched(self) -> int:
        """How many accounts have an event."""
        return len(np.unique(self.account))

    @property
    def uses_counted(self) -> int:
        """How many uses the usage events count together: what a reader that lost nothing adds up to."""
        is_usage = self.topic == TOPICS.index(USAGE)
        is_event = self.variant >= _SESSION
        return int(self.uses[is_usage & is_event].sum() + (is_usage & ~is_event).sum())


class Writer:
    """Writes the events of a plan as JSON; tickets and invoices go on from what the account has open."""

    def __init__(self, load: Load) -> None:
        """The strings that many events share are made once."""
        self._load = load
        self._ids = [f"acct-{number:06d}" for number in range(load.accounts)]
        self._open_tickets: dict[int, list[str]] = defaultdict(list)
        self._open_invoices: dict[int, list[str]] = defaultdict(list)
        self._troubled = frozenset(np.flatnonzero(load.plan.is_troubled).tolist())
        self._due_at = _text((load.end_us // 1_000_000) + 30 * 86_400)
        self._was_due_at = _text((load.end_us // 1_000_000) - 45 * 86_400)
        self._objects = 0

    def messages(self) -> Iterator[Message]:
        """The events in the order of the plan."""
        plan = self._load.plan
        ids = self._ids
        write = (self._usage, self._ticket, self._payment)
        for topic, account, time, identity, variant, uses, user, feature, priority in zip(
            plan.topic.tolist(),
            plan.account.tolist(),
            _texts(self._load.times_ms()),
            plan.identity.tolist(),
            plan.variant.tolist(),
            plan.uses.tolist(),
            plan.user.tolist(),
            plan.feature.tolist(),
            plan.priority.tolist(),
            strict=True,
        ):
            source, kind, data = write[topic](account, variant, uses, user, feature, priority)
            subject = ids[account]
            yield (
                topic,
                subject,
                (f'{{"id":"{identity:016x}","source":"{source}","type":"{kind}","time":"{time}","subject":"{subject}","data":{{{data}}}}}'),
            )

    def _usage(self, account: int, variant: float, uses: int, user: int, feature: int, _priority: int) -> tuple[str, str, str]:
        used = _FEATURES[feature]
        if variant < _PAGE:
            return "segment", "usage.page", f'"path":"/app/{used}","visitor_id":"v-{account:06d}-{user:02d}"'
        who = f'"user_id":"u-{account:06d}-{user:02d}"'
        if variant < _SESSION:
            session = self._next()
            return "segment", "usage.session", f'"session_id":"s-{session}",{who},"pages":{uses},"is_bounce":false'
        action = _ACTIONS[user % len(_ACTIONS)]
        data = f'"event":"{used}_{action}",{who},"feature":"{used}","count":{uses}'
        return "/app/production", "usage.event", data

    def _ticket(self, account: int, variant: float, _uses: int, user: int, feature: int, priority: int) -> tuple[str, str, str]:
        opened = self._open_tickets[account]
        is_troubled = account in self._troubled
        if variant < _CREATE or not opened or is_troubled:
            ticket = f"T-{self._next()}"
            opened.append(ticket)
            data = (
                f'"ticket_id":"{ticket}","user_id":"u-{account:06d}-{user:02d}","channel":"{_CHANNELS[feature % 4]}",'
                f'"priority":"{"urgent" if is_troubled else _PRIORITIES[priority]}","kind":"{_KINDS[user % 4]}"'
            )
            return "zendesk", "ticket.created", data
        if variant < _REPLY:
            author = "agent" if user % 2 else "customer"
            data = f'"ticket_id":"{opened[-1]}","author_role":"{author}","public":true'
            return "zendesk", "ticket.replied", data
        return "zendesk", "ticket.status_changed", f'"ticket_id":"{opened.pop(0)}","from":"open","to":"solved"'

    def _payment(self, account: int, variant: float, uses: int, _user: int, _feature: int, _priority: int) -> tuple[str, str, str]:
        money = f'{{"amount_minor":{uses * 4900},"currency":"USD"}}'
        if account in self._troubled:
            return self._unpaid(variant, money)
        if variant < _CHARGED:
            return "stripe", "charge.succeeded", f'"charge_id":"ch_{self._next()}","amount":{money}'
        if variant < _CHARGE_FAILED:
            data = f'"charge_id":"ch_{self._next()}","amount":{money},"failure_code":"card_declined"'
            return "stripe", "charge.failed", data
        if variant < _NOT_PAID:
            return self._invoice(account, variant, money)
        data = (
            f'"subscription_id":"sub_{account:06d}","status":"active","items":[{{"item_id":"si_{account:06d}",'
            f'"product_id":"team","price_id":"team-monthly","unit_amount_minor":4900,"quantity":{uses},'
            f'"interval":"month"}}],"currency":"USD","version":{self._next()}'
        )
        return "stripe", "subscription.upserted", data

    def _unpaid(self, variant: float, money: str) -> tuple[str, str, str]:
        if variant < _CHARGED:
            data = f'"charge_id":"ch_{self._next()}","amount":{money},"failure_code":"card_declined"'
            return "stripe", "charge.failed", data
        return "stripe", "invoice.overdue", f'"invoice_id":"in_{self._next()}","total":{money},"due_at":"{self._was_due_at}"'

    def _invoice(self, account: int, variant: float, money: str) -> tuple[str, str, str]:
        opened = self._open_invoices[account]
        if variant < _ISSUED or not opened:
            invoice = f"in_{self._next()}"
            opened.append(invoice)
            data = f'"invoice_id":"{invoice}","total":{money},"due_at":"{self._due_at}"'
            return "stripe", "invoice.issued", data
        if variant < _PAID:
            return "stripe", "invoice.paid", f'"invoice_id":"{opened.pop(0)}","total":{money}'
        return "stripe", "invoice.payment_failed", f'"invoice_id":"{opened[-1]}","total":{money},"attempt":1'

    def _next(self) -> int:
        """A number that no other object of this load has."""
        self._objects += 1
        return self._objects


def _text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _texts(times_ms: NDArray[np.int64]) -> Iterator[str]:
    """RFC 3339 texts of ascending milliseconds; the seconds are written once each."""
    known = -1
    second = ""
    for seconds, rest in zip((times_ms // 1000).tolist(), (times_ms % 1000).tolist(), strict=True):
        if seconds != known:
            known, second = seconds, _text(seconds)[:-1]
        yield f"{second}.{rest:03d}Z"
