"""Dollars into euro: dated exchange rates, and the one place where a price is rounded."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, localcontext

from aigov.database import Connection
from aigov.money import round_up
from aigov.snapshots import Snapshot


@dataclass(frozen=True, slots=True)
class Rate:
    """Euro for one US dollar, valid from a day on."""

    id: int
    valid_from: date
    eur_per_usd: Decimal


class FxTable:
    """The rates in force, by day. Of several rows for one day the latest made one counts."""

    def __init__(self, rates: Iterable[Rate]) -> None:
        latest = {rate.valid_from: rate for rate in sorted(rates, key=lambda rate: rate.id)}
        self._days = sorted(latest)
        self._rates = [latest[day] for day in self._days]

    def on(self, day: date) -> Rate:
        """The rate of the newest day up to `day`.

        Raises:
            LookupError: there is none; nothing can be priced in euro.
        """
        at = bisect_right(self._days, day)
        if at == 0:
            raise LookupError(f"no exchange rate from USD to EUR on or before {day}")
        return self._rates[at - 1]


def to_eur(cost_usd: Decimal, rate: Rate) -> Decimal:
    """`cost_usd` in euro, rounded up once to the nano-euro."""
    with localcontext(prec=60):  # the product is exact, so that there is but one rounding
        return round_up(cost_usd * rate.eur_per_usd)


async def load_fx_table(conn: Connection) -> FxTable:
    cursor = await conn.execute("SELECT id, valid_from, eur_per_unit FROM fx_rates WHERE currency = 'USD'")
    return FxTable([Rate(*row) for row in await cursor.fetchall()])


FX_TABLE = Snapshot(kind="fx_rates", load=load_fx_table)
