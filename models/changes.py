"""The history of a subscription: its versions as compact change points, from which its MRR at any time follows (docs/ledger.md).

At an instant that version is in force which has the greatest `(version, time, id)` of those with a time at or before it. So a version that
another one with a greater rank and no later time stands before was never in force, and is not kept: what is kept is a staircase, in which
times and ranks both rise. It is the same whatever order the versions came in.
"""

from bisect import bisect_left, bisect_right
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from models import events
from models.parts import GRACE_US
from models.times import DAY_US, parse_us

MONTH_US = 2_629_800 * 1_000_000
"""A month of 365.25 / 12 days."""

HISTORY_US = 800 * DAY_US
"""How far back changes are kept: 24 months and the month that runs, a dunning window, and the lateness."""

RENEWAL_US = 7 * DAY_US
"""A renewal no later than this after the end of what was paid leaves no gap, whatever expires: `mrr_expiry_days` is at least 7."""

CHANGES_MAX = 1000
"""Change points that an account keeps at the most besides the latest of each subscription, and renewals."""


class Item(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """A line of a price: an amount (decimal text or minor units) for `count` intervals, times the quantity."""

    unit: int | str
    quantity: int
    interval: str
    count: int
    is_metered: bool
    product: str | None


class Discount(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """What reduces a price, as a share or as an amount."""

    percent: float | None
    amount_minor: int | None
    duration: str | None


class Price(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """What a version of a subscription costs."""

    currency: str
    items: list[Item]
    discounts: list[Discount]


class Change(msgspec.Struct, array_like=True, gc=False):
    """A version of a subscription, from `at` on; `price` is its place among the prices of the account.

    `ends_at` is the least end that it names; `is_ending`: somebody asked for an end that is yet to come.
    """

    version: int
    at: int
    id: str
    status: str
    price: int
    started_at: int | None = None
    period_end: int | None = None
    ends_at: int | None = None
    is_ending: bool = False
    trial_end: int | None = None
    is_paused: bool = False
    resumes_at: int | None = None
    auto_renew: bool = False


class History(msgspec.Struct, array_like=True, gc=False):
    """The changes of a subscription, oldest first, their times and their ranks both rising.

    `is_cut`: earlier ones were let go; they were first and last paid for at these times, as far as their statuses and ends say.
    """

    changes: list[Change]
    is_cut: bool = False
    first_paid: int | None = None
    last_paid: int | None = None


class Holder(Protocol):
    """What of a payment part is looked after here."""

    histories: dict[str, History]
    renewals: dict[str, list[int]]
    prices: list[bytes]


_write_price = msgspec.msgpack.Encoder().encode
read_price = msgspec.msgpack.Decoder(Price).decode


def price_of(data: events.SubscriptionUpsertedData) -> bytes:
    """What a version costs, as it is stored."""
    items = [
        Item(item.unit_amount_minor, item.quantity, item.interval, item.interval_count, item.usage_type == "metered", item.product_id)
        for item in data.items
    ]
    discounts = [Discount(each.percent, each.amount_minor, each.duration) for each in data.discounts]
    return _write_price(Price(data.currency, items, discounts))


def _instant(text: str | None) -> int | None:
    return None if text is None else parse_us(text)


def change_of(data: events.SubscriptionUpsertedData, at: int, rank: str, price: int) -> Change:
    """The change point of a version."""
    period_end = _instant(data.current_period_end)
    ends = [_instant(data.ended_at), _instant(data.cancel_at), period_end if data.cancel_at_period_end else None]
    return Change(
        data.version,
        at,
        rank,
        data.status,
        price,
        started_at=_instant(data.started_at),
        period_end=period_end,
        ends_at=min((end for end in ends if end is not None), default=None),
        is_ending=data.cancel_at_period_end or data.cancel_at is not None,
        trial_end=_instant(data.trial_end),
        is_paused=data.status == "paused" or data.pause is not None,
        resumes_at=None if data.pause is None else _instant(data.pause.resumes_at),
        auto_renew=data.auto_renew is True,
    )


_read_data = msgspec.json.Decoder(events.SubscriptionUpsertedData).decode


def changes_of(subscription: Any) -> tuple[History, list[bytes]]:
    """The history and prices of a subscription that was stored before histories were kept: its latest version is all there is."""
    data = _read_data(subscription.data)
    return History([change_of(data, subscription.at, subscription.id, 0)]), [price_of(data)]


def add(holder: Holder, name: str, data: events.SubscriptionUpsertedData, at: int, rank: str, before: Any) -> None:
    """Take a version into the history of a subscription; `before` is its latest version so far, None for none."""
    history = holder.histories.get(name)
    if history is None:
        history = holder.histories[name] = History([])
        if before is not None:
            old, (price,) = changes_of(before)
            old.changes[0].price = _place(holder, price)
            history.changes = old.changes
    changes = history.changes
    place = bisect_right(changes, (at, data.version, rank), key=lambda change: (change.at, change.version, change.id))
    is_hidden = place > 0 and _rank(changes[place - 1]) >= (data.version, at, rank)
    if is_hidden or (place < len(changes) and changes[place].at == at):
        return  # never in force, or for no time
    if place and changes[place - 1].at == at:
        place -= 1
        del changes[place]
    while place < len(changes) and (changes[place].version, changes[place].at) < (data.version, at):
        del changes[place]
    changes.insert(place, change_of(data, at, rank, _place(holder, price_of(data))))
    _merge(history, at - GRACE_US)


def _rank(change: Change) -> tuple[int, int, str]:
    return change.version, change.at, change.id


def _place(holder: Holder, price: bytes) -> int:
    """The place of a price among those of the account; a new one is put at the end."""
    try:
        return holder.prices.index(price)
    except ValueError:
        holder.prices.append(price)
        return len(holder.prices) - 1


def _merge(history: History, settled: int) -> None:
    """Make one of two changes that no late event can come between any more, when the second says nothing that the first did not."""
    changes = history.changes
    place = 1
    while place < len(changes) and changes[place].at < settled:
        first, second = changes[place - 1], changes[place]
        if _is_renewal(first, second):
            changes[place - 1] = msgspec.structs.replace(second, at=first.at, id="")
            del changes[place]
        else:
            place += 1


def _is_renewal(first: Change, second: Change) -> bool:
    """Whether the second change only says that an active subscription goes on, in time."""
    if first.status != "active" or first.period_end is None or second.at > first.period_end + RENEWAL_US:
        return False
    if first.ends_at is not None or first.is_ending or first.is_paused or (first.trial_end or first.at) > first.at:
        return False
    if second.period_end is None or second.period_end <= second.at or first.period_end <= max(first.at, first.started_at or first.at):
        return False
    return second == msgspec.structs.replace(first, version=second.version, at=second.at, id=second.id, period_end=second.period_end)


def renew(holder: Holder, name: str, at: int) -> None:
    """Take the payment of a renewal into account."""
    renewals = holder.renewals.setdefault(name, [])
    place = bisect_right(renewals, at)
    if not place or renewals[place - 1] != at:
        renewals.insert(place, at)


def due_at(holder: Holder) -> int | None:
    """The time of the oldest change or renewal that is let go once it is more than `HISTORY_US` old; None when there is none."""
    times = [history.changes[1].at for history in holder.histories.values() if len(history.changes) > 1]
    times += [renewals[0] for renewals in holder.renewals.values()]
    return min(times, default=None)


def let_go(holder: Holder, newest: int) -> None:
    """Let go of what is older than is looked back to, or too much, and of prices that nothing has any more."""
    horizon = newest - HISTORY_US
    count = 0
    for history in holder.histories.values():
        while len(history.changes) > 1 and history.changes[1].at < horizon:
            _cut(history, holder.prices)
        count += len(history.changes)
    if count - len(holder.histories) > CHANGES_MAX:
        _cut_the_oldest(holder)
        count = CHANGES_MAX + len(holder.histories)
    if len(holder.prices) > count:
        _drop_prices(holder)
    _let_renewals_go(holder, horizon)


def _cut_the_oldest(holder: Holder) -> None:
    changes = sorted((change.at, name) for name, history in holder.histories.items() for change in history.changes[:-1])
    for _, name in changes[: len(changes) - CHANGES_MAX]:
        _cut(holder.histories[name], holder.prices)


def _let_renewals_go(holder: Holder, horizon: int) -> None:
    for name, renewals in list(holder.renewals.items()):
        if renewals[0] < horizon:
            del renewals[: bisect_left(renewals, horizon)]
        if not renewals:
            del holder.renewals[name]
    if sum(map(len, holder.renewals.values())) > CHANGES_MAX:
        times = sorted((at, name) for name, renewals in holder.renewals.items() for at in renewals)
        for at, name in times[: len(times) - CHANGES_MAX]:
            holder.renewals[name].remove(at)
            if not holder.renewals[name]:
                del holder.renewals[name]


def _cut(history: History, prices: list[bytes]) -> None:
    """Let the first change go, and note when it was paid for: option-free, by its status, price and end alone."""
    gone, following = history.changes[0], history.changes[1]
    since = gone.at if history.is_cut or gone.started_at is None else min(gone.at, gone.started_at)
    until = following.at if gone.ends_at is None else min(following.at, gone.ends_at)
    if gone.status in ("active", "past_due") and not gone.is_paused and since < until and _costs(prices[gone.price]):
        history.first_paid = since if history.first_paid is None else history.first_paid
        history.last_paid = until
    history.is_cut = True
    del history.changes[0]


def _costs(price: bytes) -> bool:
    return any(Decimal(item.unit) * item.quantity > 0 for item in read_price(price).items if not item.is_metered)


def _drop_prices(holder: Holder) -> None:
    used = sorted({change.price for history in holder.histories.values() for change in history.changes})
    if len(used) == len(holder.prices):
        return
    moved = {old: new for new, old in enumerate(used)}
    holder.prices[:] = [holder.prices[old] for old in used]
    for history in holder.histories.values():
        for change in history.changes:
            change.price = moved[change.price]
