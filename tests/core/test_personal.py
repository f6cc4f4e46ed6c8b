"""Personal data is known by its form and its check digits, and nothing else is touched."""

import pytest

from promptops.core.personal import Masked, is_iban, luhn


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to jane.doe+x@mail.example.co.uk, please", "write to <email>, please"),
        ("max@müller.de.", "<email>."),
        ("card 4111 1111 1111 1111 was charged", "card <card> was charged"),
        ("card 4111-1111-1111-1111.", "card <card>."),
        ("order 4111 1111 1111 1112", "order 4111 1111 1111 1112"),
        ("to DE89 3704 0044 0532 0130 00 on Monday", "to <iban> on Monday"),
        ("GB82WEST12345698765432", "<iban>"),
        ("DE88 3704 0044 0532 0130 00", "DE88 3704 0044 0532 0130 00"),
        ("call +49 (0)30 1234567 now", "call <phone> now"),
        ("call 030/1234-5678", "call <phone>"),
        ("tel 03-1234-5678", "tel <phone>"),
        ("(555) 123-4567", "<phone>"),
        ("2024-05-17 and 17.05.2024 and 12:30:00", "2024-05-17 and 17.05.2024 and 12:30:00"),
        ("it cost 1,234,567.89 EUR for 12345678 units", "it cost 1,234,567.89 EUR for 12345678 units"),
        ("version 10.20.30.40, ticket 20240517", "version 10.20.30.40, ticket 20240517"),
        ("@handle, a@b, {{x}}", "@handle, a@b, {{x}}"),
    ],
)
def test_personal_data_is_masked_by_its_kind(text: str, expected: str):
    """Cards need Luhn's digit, accounts MOD 97-10; dates, amounts and versions are no phone numbers."""
    assert expected == Masked().text(text)


def test_finds_are_counted_in_nested_values():
    masked = Masked()

    assert {"a": ["<email>", 5], "b@c.de": "<email>"} == masked.value({"a": ["x@y.de", 5], "b@c.de": "z@y.de"})
    assert {"email": 2} == masked.counts


def test_check_digits():
    """The examples of ISO/IEC 7812-1 and of the IBAN registry."""
    assert (True, False) == (luhn("79927398713"), luhn("79927398710"))
    assert (True, True, False) == (is_iban("FR14 2004 1010 0505 0001 3M02 606"), is_iban("NO9386011117947"), is_iban("NO9386011117948"))  # fmt: skip
