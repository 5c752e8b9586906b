"""The few facts that every score carries (MRR, owner, segment, renewal), made once when the facts or payments change."""

from dataclasses import dataclass
from functools import cached_property

import msgspec

from models.columns import Columns
from models.events import SubscriptionUpsertedData
from models.fold import read_part
from models.revenue import mrr_by_currency
from models.row import NEVER
from models.scored import MoneyScored

_read_subscription = msgspec.json.Decoder(SubscriptionUpsertedData).decode


class _Members(msgspec.Struct):
    mrr: MoneyScored | None
    owner: str | None
    segment: str | None


_write = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Profile:
    """What every score says of an account besides its numbers. `term_ends` are the ends of its contracts, ascending, in microseconds."""

    mrr: MoneyScored | None = None
    owner: str | None = None
    segment: str | None = None
    term_ends: tuple[int, ...] = ()

    @cached_property
    def members(self) -> str:
        """The members `mrr`, `owner` and `segment` of a score, as JSON."""
        return _write(_Members(self.mrr, self.owner, self.segment)).decode()[1:-1]

    def renewal_at(self, as_of: int) -> int:
        """When the next contract ends that has not ended at an instant (microseconds); NEVER when there is none."""
        return next((end for end in self.term_ends if end >= as_of), NEVER)


NOBODY = Profile()


def profile_of(columns: Columns, slot: int) -> Profile:
    """The profile of an account, from its facts and payments.

    An account that pays in several currencies shows the MRR of its own currency, or of the first by name.
    """
    facts = read_part(columns, "facts", slot)
    subscriptions = read_part(columns, "payment", slot).subscriptions.values()
    by_currency = mrr_by_currency(_read_subscription(each.data) for each in subscriptions)
    currency = facts.text("currency")
    if currency not in by_currency:
        currency = next(iter(by_currency), None)
    return Profile(
        mrr=None if currency is None else MoneyScored(by_currency[currency], currency),
        owner=facts.text("owner"),
        segment=facts.text("segment"),
        term_ends=tuple(sorted({each.value for each in facts.contracts.values()})),
    )
