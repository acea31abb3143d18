"""What models cost, USD per million tokens: a small dated table by name.

Source: OpenAI's price list as of 2026-11 (training, and use of the base and of the tuned model, also of cached input).
The built-in model of the model server costs nothing. Every other price is unknown until a trainer fills it in.
"""

from decimal import Decimal
from typing import NamedTuple

AS_OF = "2026-11"


class Prices(NamedTuple):
    """USD per million tokens; None is unknown, for `cached` (input that was read before) the same as `input`."""

    input: Decimal | None
    output: Decimal | None
    training: Decimal | None
    cached: Decimal | None = None


UNKNOWN = Prices(None, None, None)
FREE = Prices(Decimal(0), Decimal(0), Decimal(0))


def _row(base: tuple[str, str, str], tuned: tuple[str, str, str], training: str) -> tuple[Prices, Prices]:
    """`base`, `tuned`: input, cached input, output."""
    (base_in, base_cached, base_out), (tuned_in, tuned_cached, tuned_out) = base, tuned
    rate = Decimal(training)
    return (
        Prices(Decimal(base_in), Decimal(base_out), rate, Decimal(base_cached)),
        Prices(Decimal(tuned_in), Decimal(tuned_out), rate, Decimal(tuned_cached)),
    )


# name: (the base model, a model tuned from it)
TABLE = {
    "base-zh": (FREE, FREE),
    "gpt-4.1": _row(("2", "0.50", "8"), ("3", "0.75", "12"), "25"),
    "gpt-4.1-mini": _row(("0.40", "0.10", "1.60"), ("0.80", "0.20", "3.20"), "5"),
    "gpt-4o": _row(("2.50", "1.25", "10"), ("3.75", "1.875", "15"), "25"),
    "gpt-4o-mini": _row(("0.15", "0.075", "0.60"), ("0.30", "0.15", "1.20"), "3"),
}


def prices_for(name: str) -> Prices:
    """The prices of a base (`gpt-4o-mini`, also `gpt-4o-mini-2024-07-18`) or tuned (`ft:…`) model."""
    tuned = name.startswith("ft:")
    base = name.split(":")[1] if tuned else name
    for known, (base_prices, tuned_prices) in TABLE.items():
        if base == known or base.startswith(f"{known}-20"):
            return tuned_prices if tuned else base_prices
    return UNKNOWN
