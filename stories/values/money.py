"""Money is whole micro-USD: tokens × (USD per million), rounded up; exact on every database."""

from decimal import ROUND_CEILING, Decimal

MICRO = Decimal(1_000_000)


def cost(*, tokens: int, price: Decimal) -> int:
    """Micro-USD for `tokens` at `price` USD per million."""
    return int((tokens * price).to_integral_value(rounding=ROUND_CEILING))


def to_micros(usd: Decimal) -> int:
    return int((usd * MICRO).to_integral_value(rounding=ROUND_CEILING))


def to_usd(micros: int | None) -> Decimal | None:
    """USD, None for an unknown amount."""
    return None if micros is None else Decimal(micros) / MICRO


def show(micros: int | None) -> str:
    """`$0.0123`; `?` for an unknown amount. Four decimals: stories cost fractions of a cent."""
    return "?" if micros is None else f"${Decimal(micros) / MICRO:.4f}"
