"""The requests by the document: every field, every rule, and the flat signed form.

Each field also has a name in the older protocol below the Open API; the fgkey of
`ready` is the hash over those. Names of nested objects nobody published are ours
(ship_to, product, recurring ...).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import Any

from django_multipay.sandbox.eximbay.codes import (
    ANY_CARD,
    BAD_REQUEST,
    BANK_TRANSFER,
    CURRENCIES,
    NAVER_POINTS,
    NOT_FOUND,
    VIRTUAL_ACCOUNTS,
    decimal_places,
    is_method,
)


class Refused(Exception):
    """The request gets an error body instead of an answer."""

    def __init__(self, rescode: str, resmsg: str, errcode: str = "") -> None:
        super().__init__(resmsg)
        self.rescode = rescode
        self.resmsg = resmsg
        self.errcode = errcode


def bad_request(text: str, errcode: str = "INVALID_OR_MISSING_FIELD") -> Refused:
    return Refused(BAD_REQUEST, f"Invalid request parameter: {text}", errcode)


def no_transaction() -> Refused:
    return Refused(NOT_FOUND, "No Transaction", "ORIGINAL_TRANSACTION_NOT_EXIST")


@dataclass(frozen=True, slots=True)
class Field:
    """One string field of a request object."""

    name: str
    legacy: str = ""
    required: bool = False
    may_be_blank: bool = False
    choices: tuple[str, ...] = ()
    pattern: str = ""
    longest: int = 0

    @property
    def flat_name(self) -> str:
        return self.legacy or self.name

    def problem_with(self, holder: Mapping[str, Any], path: str) -> str | None:
        value = holder.get(self.name)
        if value is None:
            return f"{path} is mandatory" if self.required else None
        if not isinstance(value, str):
            return f"{path} must be a string"
        if value == "":
            must_be_filled = self.required and not self.may_be_blank
            return f"{path} is mandatory" if must_be_filled else None
        if self.choices and value not in self.choices:
            return f"{path} must be one of {', '.join(self.choices)}"
        if self.longest and len(value) > self.longest:
            return f"{path} is longer than {self.longest}"
        if self.pattern and not re.fullmatch(self.pattern, value, re.ASCII):
            return f"{path} is malformed"
        return None


Fields = tuple[Field, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One request body. The object "" stands for the body itself."""

    objects: Mapping[str, Fields] = field(default_factory=dict)
    mandatory: tuple[str, ...] = ()
    # name of the list -> (prefix of its flat names, fields of one line)
    lists: Mapping[str, tuple[str, Fields]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How strict the switches are."""

    is_strict: bool
    has_sum_rule: bool
    knows_codes: bool


AMOUNT = r"\d{1,15}(\.\d+)?"
SIGNED_AMOUNT = r"-?\d{1,15}(\.\d+)?"
WHOLE = r"[1-9]\d{0,8}"
DAY = r"\d{8}"
METHOD = r"P[A-Z0-9]\d{2}"
# "A maximum of 10 digits, including two decimal places."
PLAN_AMOUNT = r"\d+(\.\d{1,2})?"
YES_NO = ("Y", "N")

# Published lengths are enforced; 30 for order_id is ours (integrators cut there).
ORDER_ID = Field("order_id", "ref", required=True, longest=30)
CURRENCY = Field("currency", "cur", required=True, pattern=r"[A-Z]{3}")
PRICE = Field("amount", "amt", required=True, pattern=AMOUNT)
# An unknown language is accepted; the page then speaks English.
LANG = Field("lang", required=True)
MID = Field("mid", required=True)
OTHER_PARAM = (
    Field("param1", longest=255),
    Field("param2", longest=255),
)


def _address(prefix: str) -> Fields:
    names = [
        "city",
        "country",
        "first_name",
        "last_name",
        "phone_number",
        "postal_code",
        "state",
        "street1",
    ]
    return tuple(Field(name, f"{prefix}_{name}") for name in names)


READY: Mapping[str, Fields] = {
    "payment": (
        Field(
            "transaction_type",
            "txntype",
            required=True,
            choices=("PAYMENT", "PAYER_AUTH", "AUTHORIZE", "REBILL"),
        ),
        ORDER_ID,
        CURRENCY,
        PRICE,
        LANG,
        Field("payment_method", "paymethod", pattern=METHOD),
        Field(
            "multi_payment_method", "multipaymethod", pattern=rf"{METHOD}(-{METHOD})*"
        ),
    ),
    "merchant": (
        MID,
        Field("shop"),
        Field("partner_code", "partnercode"),
    ),
    # No scheme is demanded: the document's own sample is "eximbay.com".
    "url": (
        Field("return_url", "returnurl", required=True),
        Field("status_url", "statusurl", required=True),
    ),
    "buyer": (
        Field("name", "buyer", required=True),
        Field("phone_number", "tel"),
        Field("email", required=True),
    ),
    "tax": (
        Field("receipt_status", choices=YES_NO),
        Field("amount_tax_free", pattern=AMOUNT),
        Field("amount_taxable", pattern=AMOUNT),
        Field("amount_vat", pattern=AMOUNT),
        Field("amount_service_fee", pattern=AMOUNT),
    ),
    "other_param": OTHER_PARAM,
    "ship_to": _address("shipTo"),
    "bill_to": _address("billTo"),
    "settings": (
        Field("display_type", "displaytype", choices=("P", "R")),
        Field("autoclose", choices=YES_NO),
        Field("site_foreign_currency", "siteforeigncur"),
        Field("call_from_app", "callfromapp", choices=YES_NO),
        Field("call_from_scheme", "callfromscheme"),
        Field("issuer_country", "issuercountry", pattern=r"[A-Z]{2}"),
        Field("ostype", choices=("P", "M")),
        Field("virtualaccount_expiry_date", "vaexpirydate", pattern=r"\d{10}"),
    ),
    "tokenbilling": (
        Field("token_creation", choices=("Y",)),
        Field("unique_token_id", choices=YES_NO),
        Field("token_id", longest=20),
    ),
    "recurring": (
        Field("recurring_amount", required=True, longest=10, pattern=PLAN_AMOUNT),
        Field("recurring_start_date", required=True, pattern=DAY),
        Field("recurring_interval", required=True, pattern=r"[1-9]|10"),
        Field("recurring_noti_url", longest=255),
        Field("remind_email_interval", longest=2, pattern=r"\d+"),
    ),
    # All but the user may be blank for a shop that does no identity check.
    "fast_payment": (
        Field("user_id", "fast_user_id", required=True),
        Field("user_ci", "fast_user_ci", required=True, may_be_blank=True),
        Field("phone_number", "fast_phone_number", required=True, may_be_blank=True),
        Field(
            "birthday", "fast_birthday", required=True, may_be_blank=True, pattern=DAY
        ),
        Field(
            "gender",
            "fast_gender",
            required=True,
            may_be_blank=True,
            choices=("M", "F"),
        ),
        Field(
            "foreigner",
            "fast_foreigner",
            required=True,
            may_be_blank=True,
            choices=("T", "F"),
        ),
    ),
}

PRODUCT = (
    Field("name", "product", required=True),
    Field("quantity", required=True, pattern=WHOLE),
    Field("unit_price", "unitPrice", required=True, pattern=AMOUNT),
    Field("link", required=True),
)
SURCHARGE = (
    Field("name"),
    Field("quantity", pattern=WHOLE),
    # "negative quantity" in the document's prose means a negative price.
    Field("unit_price", "unitPrice", pattern=SIGNED_AMOUNT),
)
LINES = {"product": ("item", PRODUCT), "surcharge": ("surcharge", SURCHARGE)}
MOST_LINES = 3

READY_FORM = Form(
    objects=READY, mandatory=("payment", "merchant", "url", "buyer"), lists=LINES
)

CONFIRM = Form(
    objects={
        "": (
            Field(
                "transaction_type",
                required=True,
                choices=("PAYMENT_PA", "AUTHORIZE_PA"),
            ),
            MID,
        ),
        "payment": (
            ORDER_ID,
            CURRENCY,
            PRICE,
            Field("payer_auth_id", required=True, longest=24),
            LANG,
        ),
        "other_param": OTHER_PARAM,
    },
    mandatory=("payment",),
)

VERIFY = Form(objects={"": (Field("data", required=True),)})

RETRIEVE = Form(
    objects={
        "": (
            MID,
            Field("key_field", required=True, choices=("order_id", "transaction_id")),
        ),
        "payment": (ORDER_ID, CURRENCY, PRICE, LANG, Field("transaction_id")),
        "other_param": OTHER_PARAM,
    },
    mandatory=("payment",),
)

CANCEL = Form(
    objects={
        "": (MID,),
        "refund": (
            Field("refund_type", required=True, choices=("F", "P")),
            # Mandatory by its heading, optional with F by its text.
            Field("refund_amount", pattern=AMOUNT),
            Field("refund_id", required=True),
            Field("reason", required=True),
        ),
        "payment": (
            ORDER_ID,
            CURRENCY,
            PRICE,
            Field("balance", required=True, pattern=AMOUNT),
            LANG,
        ),
        "refund_account": (
            Field("user_name", required=True),
            Field("bank_code", required=True),
            Field("account_number", required=True),
        ),
        "tax": READY["tax"],
        "other_param": OTHER_PARAM,
    },
    mandatory=("refund", "payment"),
)

CAPTURE = Form(
    objects={
        "": (MID,),
        "payment": (ORDER_ID, CURRENCY, PRICE, LANG),
        "other_param": OTHER_PARAM,
    },
    mandatory=("payment",),
)

SETTLE = Form(
    objects={"": (MID,), "payment": (ORDER_ID, CURRENCY, PRICE)},
    mandatory=("payment",),
)

REBILL = Form(
    objects={
        "payment": (ORDER_ID, CURRENCY, PRICE, LANG),
        "merchant": (MID, Field("shop")),
        "buyer": READY["buyer"],
        "other_param": OTHER_PARAM,
        "ship_to": READY["ship_to"],
        "bill_to": READY["bill_to"],
    },
    mandatory=("payment", "merchant", "buyer"),
    lists=LINES,
)
# The document's example has no lang, no buyer, and a product of blanks.
REBILL_AS_EXAMPLE = Form(
    objects={
        **REBILL.objects,
        "payment": (ORDER_ID, CURRENCY, PRICE, replace(LANG, required=False)),
    },
    mandatory=("payment", "merchant"),
    lists={
        **LINES,
        "product": ("item", tuple(replace(item, required=False) for item in PRODUCT)),
    },
)

ADJUST = Form(
    objects={
        "": (Field("adjust_amount", required=True, longest=10, pattern=PLAN_AMOUNT),)
    }
)


def check_order(body: Mapping[str, Any], form: Form, rules: Rules) -> None:
    """All that can be said about a new order without looking into the ledger."""
    check_form(body, form, is_strict=rules.is_strict)
    payment = body["payment"]
    check_amount(payment["amount"], payment["currency"], "payment.amount")
    for problem in (*_method_problems(body), *_recurring_problems(body)):
        raise bad_request(problem)
    if rules.knows_codes:
        _check_codes(payment)
    if rules.has_sum_rule:
        _check_sum(body)


def check_form(body: Mapping[str, Any], form: Form, *, is_strict: bool = True) -> None:
    """Every object of the form. Strict: a field the document does not know is refused."""
    if is_strict:
        top = (item.name for item in form.objects.get("", ()))
        _check_names(body, {*top, *form.objects, *form.lists}, "")
    for name in form.mandatory:
        if name not in body:
            raise bad_request(f"{name} is mandatory")
    for name, fields in form.objects.items():
        if name == "":
            _check_fields(body, fields, "")
        elif name in body:
            _check_object(body[name], fields, name, is_strict=is_strict)
    for name, (_, fields) in form.lists.items():
        _check_lines(body.get(name), fields, name, is_strict=is_strict)


def _check_object(holder: Any, fields: Fields, path: str, *, is_strict: bool) -> None:
    if not isinstance(holder, dict):
        raise bad_request(f"{path} must be an object")
    if is_strict:
        _check_names(holder, {item.name for item in fields}, path)
    _check_fields(holder, fields, path)


def _check_fields(holder: Mapping[str, Any], fields: Fields, path: str) -> None:
    for item in fields:
        place = f"{path}.{item.name}" if path else item.name
        if problem := item.problem_with(holder, place):
            raise bad_request(problem)


def _check_names(holder: Mapping[str, Any], known: set[str], path: str) -> None:
    for name in holder:
        if name not in known:
            raise bad_request(
                f"{path}.{name} is unknown" if path else f"{name} is unknown"
            )


def _check_lines(lines: Any, fields: Fields, name: str, *, is_strict: bool) -> None:
    if lines is None:
        return
    if not isinstance(lines, list):
        raise bad_request(f"{name} must be an array")
    if len(lines) > MOST_LINES:
        raise bad_request(f"{name} has more than {MOST_LINES} entries")
    for position, line in enumerate(lines):
        _check_object(line, fields, f"{name}[{position}]", is_strict=is_strict)


def check_amount(amount: str, currency: str, path: str) -> None:
    if Decimal(amount) <= 0:
        raise bad_request(f"{path} must be greater than 0")
    if has_too_many_decimals(amount, currency):
        raise bad_request(f"{path} has more than {decimal_places(currency)} decimals")


def has_too_many_decimals(amount: str, currency: str) -> bool:
    value = Decimal(amount)
    return value != round(value, decimal_places(currency))


def _check_codes(payment: Mapping[str, str]) -> None:
    if payment["currency"] not in CURRENCIES:
        raise bad_request("payment.currency is not served", "CURRENCY_NOT_SUPPORTED")
    for name in ("payment_method", "multi_payment_method"):
        codes = payment.get(name)
        if codes and not all(is_method(code) for code in codes.split("-")):
            raise bad_request(f"payment.{name} is unknown")


def _check_sum(body: Mapping[str, Any]) -> None:
    """Reported by integrators as Eximbay's own note; not in the reference."""
    prices = [
        Decimal(line["quantity"]) * Decimal(line["unit_price"])
        for name in LINES
        for line in body.get(name) or ()
        if line.get("quantity") and line.get("unit_price")
    ]
    if not body.get("product") or not prices:
        return
    total = sum(prices)
    if total != Decimal(body["payment"]["amount"]):
        raise bad_request(
            f"product and surcharge add up to {total}, not to payment.amount"
        )


def _method_problems(body: Mapping[str, Any]) -> Iterable[str]:
    """What one method or another demands of the rest of the request."""
    method = body["payment"].get("payment_method")
    tax = body.get("tax", {})
    if method == BANK_TRANSFER and not tax.get("receipt_status"):
        yield "tax.receipt_status is mandatory for bank transfer"
    if method in NAVER_POINTS:
        for item in READY["tax"]:
            if not tax.get(item.name):
                yield f"tax.{item.name} is mandatory for Naver Pay points"
    if method == "P006" and not body["buyer"].get("phone_number"):
        yield "buyer.phone_number is mandatory for convenience stores"
    wants_dcc = body.get("settings", {}).get("site_foreign_currency")
    if wants_dcc and method and method != ANY_CARD:
        yield "settings.site_foreign_currency goes only with payment_method P000"


def _recurring_problems(body: Mapping[str, Any]) -> Iterable[str]:
    plan = body.get("recurring")
    if plan is None:
        return
    if Decimal(plan["recurring_amount"]) <= 0:
        yield "recurring.recurring_amount must be greater than 0"
    if has_too_many_decimals(plan["recurring_amount"], body["payment"]["currency"]):
        yield "recurring.recurring_amount has too many decimals"
    try:
        read_day(plan["recurring_start_date"])
    except ValueError:
        yield "recurring.recurring_start_date is no date"


def check_refund_extras(body: Mapping[str, Any], method: str) -> None:
    """What a refund of one method or another demands beside the amount."""
    if method in VIRTUAL_ACCOUNTS and "refund_account" not in body:
        raise bad_request("refund_account is mandatory", "INVALID_ACCOUNT")
    if method in VIRTUAL_ACCOUNTS | NAVER_POINTS:
        tax = body.get("tax", {})
        for item in READY["tax"]:
            if not tax.get(item.name):
                raise bad_request(f"tax.{item.name} is mandatory for {method}")


def flatten(body: Mapping[str, Any]) -> dict[str, str]:
    """The request in the older protocol's names, with the defaults that are signed."""
    flat = {"ver": "230", "displaytype": "P", "ostype": "P"}
    for name, fields in READY.items():
        holder = body.get(name, {})
        flat |= {
            item.flat_name: holder[item.name]
            for item in fields
            if holder.get(item.name) is not None
        }
    for name, (prefix, fields) in LINES.items():
        for position, line in enumerate(body.get(name) or ()):
            flat |= {
                f"{prefix}_{position}_{item.flat_name}": line[item.name]
                for item in fields
                if line.get(item.name) is not None
            }
    return flat


def read_day(text: str) -> date:
    """YYYYMMDD, or ValueError."""
    return date(int(text[:4]), int(text[4:6]), int(text[6:]))
