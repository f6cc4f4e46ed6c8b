"""Money in integer nano-dollars (1 USD = 10^9), always rounded up."""

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal, InvalidOperation

NANO = 1_000_000_000
_MAX_USD_PER_MTOK = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Nano-dollars per million tokens."""

    input_nanousd_per_mtok: int = 0
    output_nanousd_per_mtok: int = 0

    def cost_nanousd(self, *, input_tokens: int, output_tokens: int) -> int:
        """Cost of one call, rounded up to a whole nano-dollar. Raises ValueError for negative counts."""
        if input_tokens < 0 or output_tokens < 0:
            raise ValueError("token counts cannot be negative")
        total = input_tokens * self.input_nanousd_per_mtok + output_tokens * self.output_nanousd_per_mtok
        return -(-total // 1_000_000)

    @property
    def free(self) -> bool:
        return self.input_nanousd_per_mtok == 0 and self.output_nanousd_per_mtok == 0


def parse_usd(text: str) -> int:
    """Nano-dollars of a decimal string such as "0.15", rounded up.

    Raises ValueError unless it is a plain, finite amount from 0 to 1,000,000.
    """
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a decimal number") from None
    if not amount.is_finite() or not 0 <= amount <= _MAX_USD_PER_MTOK:
        raise ValueError(f"{text!r} is not between 0 and {_MAX_USD_PER_MTOK}")
    return int((amount * NANO).to_integral_value(rounding=ROUND_CEILING))


def format_usd(nanousd: int) -> str:
    """Dollars for people: `$0`, `$0.0042`, `$12.30`; small amounts keep two significant digits."""
    if nanousd == 0:
        return "$0"
    usd = Decimal(nanousd) / NANO
    if usd >= 1:
        return f"${usd:.2f}"
    places = max(4, 1 - usd.adjusted())
    return f"${usd:.{places}f}"
