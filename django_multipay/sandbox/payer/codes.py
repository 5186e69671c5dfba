"""Accounts, fields, statuses and outcomes: what Payer's page says, and our guesses."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A shop. An inactive one has a key that is known and refused."""

    shop: str
    api_key: str = field(repr=False)
    is_active: bool = True


# Made up here, keys and their form: no page shows one.
ACCOUNTS = (
    Account(
        shop="Sandbox Shop",
        api_key="payer_test_5Wd8Qk2Zr7Tn4Yb9Hc3Mx6Vp",
    ),
    Account(
        shop="Other Shop",
        api_key="payer_test_9Fj3Lg6Sx2Ra8Ue5Kt7Bw4Nq",
    ),
    Account(
        shop="Closed Shop",
        api_key="payer_test_1Cv4Pz7Gd9Mh2Xs6Jy8Ef5Lr",
        is_active=False,
    ),
)
API_KEY_FORM = re.compile(r"payer_(test|live)_[0-9A-Za-z]{24}", re.ASCII)

CURRENCY = "usd"
SMALLEST_AMOUNT = 50  # cents
METADATA_KEYS = 50
KEY_LENGTH = 255  # ASSUMED
# name -> is it required?
FIELDS: Mapping[str, bool] = {
    "amount": True,
    "currency": True,
    "return_url": True,
    "customer_email": False,
    "customer_name": False,
    "metadata": False,
}
E_MAIL = re.compile(r"[^@\s]+@[^@\s]+")
RATE_WINDOW = timedelta(minutes=1)

# The four documented statuses.
PENDING = "pending"
COMPLETED = "completed"
FAILED = "failed"
REFUNDED = "refunded"
TONES = {COMPLETED: "good", PENDING: "wait", FAILED: "bad"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One button of the hosted checkout; an empty `status` changes nothing."""

    status: str
    label: str
    help: str
    is_return: bool = True


OUTCOMES: Mapping[str, Outcome] = {
    "approve": Outcome(
        status=COMPLETED, label="Pay", help="Paid: completed, and back to the shop."
    ),
    "decline": Outcome(
        status=FAILED, label="Decline", help="Refused: failed, and back to the shop."
    ),
    "cancel": Outcome(
        status="",
        label="Back to the shop",
        help="The buyer goes back without paying: the payment stays pending.",
    ),
    "pending": Outcome(
        status="",
        label="Pay, not decided yet",
        help="Back to the shop while the payment is pending; decide later.",
    ),
    "close": Outcome(
        status=COMPLETED,
        label="Pay, then close the browser",
        help="Paid: completed, but the buyer never comes back.",
        is_return=False,
    ),
}
