"""Money in integer nano-dollars (1 USD = 10^9), always rounded up."""

import re
from dataclasses import dataclass

NANO = 1_000_000_000
_MAX_USD_PER_MTOK = 1_000_000
_AMOUNT = re.compile(r"[0-9]{1,40}(?:\.[0-9]{1,40})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Nano-dollars per million tokens; cached input costs as much as other input unless a price is given."""

    input_nanousd_per_mtok: int = 0
    cached_input_nanousd_per_mtok: int | None = None
    output_nanousd_per_mtok: int = 0

    def cost_nanousd(self, *, input_tokens: int, output_tokens: int, cached_input_tokens: int = 0) -> int:
        """Cost of one call, rounded up to a whole nano-dollar; cached tokens are part of the input tokens.

        Raises ValueError for counts that are negative, or more cached tokens than input tokens.
        """
        if not 0 <= cached_input_tokens <= input_tokens or output_tokens < 0:
            raise ValueError("token counts cannot be negative, nor cached input more than input")
        cached = self.cached_input_nanousd_per_mtok
        cached_price = self.input_nanousd_per_mtok if cached is None else cached
        total = (
            (input_tokens - cached_input_tokens) * self.input_nanousd_per_mtok
            + cached_input_tokens * cached_price
            + output_tokens * self.output_nanousd_per_mtok
        )
        return -(-total // 1_000_000)

    @property
    def free(self) -> bool:
        return self.input_nanousd_per_mtok == 0 and self.output_nanousd_per_mtok == 0


def parse_usd(text: str) -> int:
    """Nano-dollars of a decimal string such as "0.15", rounded up.

    Raises ValueError unless it is a plain, finite amount from 0 to 1,000,000.
    """
    if not _AMOUNT.fullmatch(text):
        raise ValueError(f"{text!r} is not a decimal number")
    whole, _, part = text.partition(".")
    amount = int(whole + part)
    scale: int = 10 ** len(part)
    if amount > _MAX_USD_PER_MTOK * scale:
        raise ValueError(f"{text!r} is not between 0 and {_MAX_USD_PER_MTOK}")
    return -(-amount * NANO // scale)


def format_usd(nanousd: int) -> str:
    """Dollars for people: `$0`, `$0.0042`, `$12.30`; small amounts keep two significant digits."""
    if nanousd == 0:
        return "$0"
    from decimal import Decimal

    usd = Decimal(nanousd) / NANO
    if usd >= 1:
        return f"${usd:.2f}"
    places = max(4, 1 - usd.adjusted())
    return f"${usd:.{places}f}"
