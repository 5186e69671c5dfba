"""What is read and written, object by object."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from django_multipay import enums, money
from django_multipay.api.clients import client_secret
from django_multipay.api.fields import (
    AmountSerializer,
    Day,
    Identifier,
    Moment,
    MoneySerializer,
    PlainObject,
    StrictSerializer,
    Text,
    WholeNumber,
    Word,
    YesNo,
)
from django_multipay.enums import DeclineCode, ProblemCode
from django_multipay.messages import Address, BankAccount, Buyer, LineItem
from django_multipay.models import Payment, RecurringPlan, Token
from django_multipay.providers.base import Provider

Object = serializers.Serializer[Any]

# Problems ----------------------------------------------------------------------------


class ComplaintSerializer(Object):
    """One field that was not accepted."""

    field = serializers.CharField()
    code = serializers.CharField()
    detail = serializers.CharField()


class ProblemSerializer(Object):
    """What went wrong: RFC 9457 with a code for programs and a remedy for people."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.ChoiceField([str(code) for code in ProblemCode])
    field = serializers.CharField(help_text="A dotted path into the body, or empty")
    remedy = serializers.CharField()
    # REST framework keeps the name for what a serializer found wrong itself.
    errors = ComplaintSerializer(many=True)  # type: ignore[assignment]


# Parts of a payment ------------------------------------------------------------------


class AddressSerializer(StrictSerializer):
    """A postal address; ``country`` is ISO 3166-1 alpha-2."""

    first_name = Text(required=False, allow_blank=True, max_length=150)
    last_name = Text(required=False, allow_blank=True, max_length=150)
    street = Text(required=False, allow_blank=True, max_length=255)
    city = Text(required=False, allow_blank=True, max_length=150)
    state = Text(required=False, allow_blank=True, max_length=150)
    postal_code = Text(required=False, allow_blank=True, max_length=20)
    country = Text(required=False, allow_blank=True, max_length=2)
    phone = Text(required=False, allow_blank=True, max_length=40)

    def to_internal_value(self, data: Any) -> Address:
        """Return an `Address`."""
        return Address(**super().to_internal_value(data))


class BuyerSerializer(StrictSerializer):
    """Who pays."""

    name = Text(required=False, allow_blank=True, max_length=150)
    email = Text(required=False, allow_blank=True, max_length=254)
    phone = Text(required=False, allow_blank=True, max_length=40)
    country = Text(required=False, allow_blank=True, max_length=2)
    address = AddressSerializer(required=False, write_only=True)

    def to_internal_value(self, data: Any) -> Buyer:
        """Return a `Buyer`."""
        return Buyer(**super().to_internal_value(data))


class LineItemSerializer(StrictSerializer):
    """One line of the order; a negative ``unit_minor`` is a discount."""

    name = Text(max_length=255)
    quantity = WholeNumber(min_value=1, max_value=10**6, default=1)
    unit_minor = WholeNumber(
        min_value=-money.MAX_MINOR,
        max_value=money.MAX_MINOR,
        help_text="Whole minor units of the payment's currency",
    )
    url = Text(required=False, allow_blank=True, max_length=2000, default="")
    is_surcharge = YesNo(default=False)


def line_items(values: list[dict[str, Any]], code: str) -> list[LineItem]:
    """Return the lines with their prices in the currency ``code``."""
    return [
        LineItem(
            unit_price=money.from_minor(value["unit_minor"], code),
            **{name: value[name] for name in value if name != "unit_minor"},
        )
        for value in values
    ]


class NextActionSerializer(Object):
    """What the buyer does next; ``type`` says which of the other fields there are."""

    type = serializers.ChoiceField(
        ["redirect", "post_form", "provider_script", "qr_code"]
    )
    url = serializers.CharField(required=False, help_text="redirect, post_form")
    fields_ = serializers.DictField(
        required=False, child=serializers.CharField(), help_text="post_form"
    )
    src = serializers.CharField(required=False, help_text="provider_script")
    call = serializers.CharField(required=False, help_text="provider_script")
    payload = PlainObject(required=False, help_text="provider_script")
    requires = serializers.ListField(
        required=False, child=serializers.CharField(), help_text="provider_script"
    )
    opens_popup = serializers.BooleanField(required=False, help_text="provider_script")
    data = serializers.CharField(  # type: ignore[assignment]
        required=False, allow_blank=True, help_text="qr_code"
    )
    image = serializers.CharField(required=False, allow_blank=True, help_text="qr_code")
    deep_link = serializers.CharField(
        required=False, allow_blank=True, help_text="qr_code"
    )
    fallback_url = serializers.CharField(
        required=False, allow_blank=True, help_text="qr_code"
    )
    expires_at = serializers.CharField(
        required=False, allow_null=True, help_text="qr_code"
    )

    def get_fields(self) -> dict[str, Any]:
        """Return the fields; one has a name that REST framework keeps for itself."""
        return {
            {"fields_": "fields"}.get(name, name): field
            for name, field in super().get_fields().items()
        }

    def to_representation(self, instance: Any) -> Any:
        """Return the action as it is stored."""
        return instance


class DeclineSerializer(Object):
    """Why it did not go through."""

    code = serializers.ChoiceField(DeclineCode.values)
    message = serializers.CharField(help_text="In words a buyer can act upon")


@extend_schema_field(DeclineSerializer(allow_null=True))
class DeclineField(serializers.Field[Any, Any, Any, Any]):
    """The decline of a payment, or null."""

    def to_representation(self, value: Payment) -> dict[str, str] | None:
        """Return code and words."""
        if not value.decline_code:
            return None
        return {
            "code": value.decline_code,
            "message": value.get_decline_code_display(),
        }


# Payments ------------------------------------------------------------------------------


class PaymentForBuyerSerializer(Object):
    """A payment as its buyer may see it: no name, no number, no reference of the shop's."""

    uuid = serializers.UUIDField()
    status = serializers.ChoiceField(enums.PaymentStatus.choices)
    amount = MoneySerializer()
    refunded = MoneySerializer()
    order_id = serializers.CharField()
    description = serializers.CharField(allow_blank=True)
    items = LineItemSerializer(many=True)
    provider = serializers.CharField(allow_blank=True)
    method = serializers.CharField(allow_blank=True)
    decline = DeclineField(source="*")
    next_action = NextActionSerializer(allow_null=True)
    instructions = serializers.SerializerMethodField()
    expires_at = serializers.DateTimeField(allow_null=True)
    checkout_url = serializers.CharField(source="get_checkout_url")
    outcome_url = serializers.CharField(source="get_outcome_url")

    @extend_schema_field({"type": "object", "additionalProperties": True})
    def get_instructions(self, payment: Payment) -> dict[str, Any]:
        """Return where to deposit: bank, account number, holder, until when."""
        return {
            name: payment.details[name]
            for name in _INSTRUCTIONS
            if name in payment.details
        }


_INSTRUCTIONS = (
    "virtual_account_bank_name",
    "virtual_account_number",
    "virtual_account_depositor",
    "virtual_account_due_date",
    "payment_url",
)
"""What a buyer who pays later must know, and the outcome page shows as well."""


class PaymentSerializer(PaymentForBuyerSerializer):
    """A payment as staff see it; the buyer's data only with the permission for them."""

    authorized = MoneySerializer()
    captured = MoneySerializer()
    capture_mode = serializers.ChoiceField(enums.CaptureMode.choices)
    review_reason = serializers.ChoiceField(
        enums.ReviewReason.choices, allow_blank=True
    )
    merchant_reference = serializers.CharField()
    provider_reference = serializers.CharField(allow_null=True)
    transaction_reference = serializers.CharField(allow_null=True)
    buyer = serializers.SerializerMethodField()
    customer_id = serializers.SerializerMethodField()
    metadata = serializers.SerializerMethodField()
    details = serializers.SerializerMethodField()
    locale = serializers.CharField(allow_blank=True)
    success_url = serializers.CharField(allow_blank=True)
    failure_url = serializers.CharField(allow_blank=True)
    token = serializers.UUIDField(source="token.uuid", allow_null=True, default=None)
    plan = serializers.UUIDField(source="plan.uuid", allow_null=True, default=None)
    paid_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()

    def _shows_buyer(self) -> bool:
        return bool(self.context.get("shows_buyer"))

    @extend_schema_field(BuyerSerializer(allow_null=True))
    def get_buyer(self, payment: Payment) -> dict[str, str] | None:
        """Return who pays, or null without ``view_buyer_data``."""
        if not self._shows_buyer():
            return None
        return {
            "name": payment.buyer_name,
            "email": payment.buyer_email,
            "phone": payment.buyer_phone,
            "country": payment.buyer_country,
        }

    @extend_schema_field({"type": ["string", "null"]})
    def get_customer_id(self, payment: Payment) -> str | None:
        """Return the shop's id of the buyer, or null without ``view_buyer_data``."""
        return payment.customer_id if self._shows_buyer() else None

    @extend_schema_field(PlainObject(allow_null=True))
    def get_metadata(self, payment: Payment) -> Any:
        """Return what the shop put there, or null without ``view_buyer_data``."""
        return payment.metadata if self._shows_buyer() else None

    @extend_schema_field(PlainObject(allow_null=True))
    def get_details(self, payment: Payment) -> Any:
        """Return what the provider said, or null without ``view_buyer_data``."""
        return payment.details if self._shows_buyer() else None


class CreatedPaymentSerializer(PaymentSerializer):
    """A new payment, with what its buyer's browser needs."""

    client_secret = serializers.SerializerMethodField()

    def get_client_secret(self, payment: Payment) -> str:
        """Return the secret for the header Authorization: Multipay-Client."""
        return client_secret(payment)


class CreatedPaymentForBuyerSerializer(PaymentForBuyerSerializer):
    """A new attempt, with the secret that its browser needs from now on."""

    client_secret = serializers.SerializerMethodField()

    def get_client_secret(self, payment: Payment) -> str:
        """Return the secret for the header Authorization: Multipay-Client."""
        return client_secret(payment)


class NewPaymentSerializer(StrictSerializer):
    """What is to be collected; `provider` left out: the buyer chooses."""

    order_id = Text(max_length=64)
    amount = AmountSerializer()
    provider = Text(required=False, allow_null=True, max_length=64)
    buyer = BuyerSerializer(required=False)
    customer_id = Text(required=False, allow_blank=True, max_length=64)
    success_url = Text(required=False, allow_blank=True, max_length=500)
    failure_url = Text(required=False, allow_blank=True, max_length=500)
    description = Text(required=False, allow_blank=True, max_length=255)
    items = serializers.ListField(
        child=LineItemSerializer(), required=False, max_length=100
    )
    locale = Text(required=False, allow_blank=True, max_length=16)
    method = Text(required=False, allow_blank=True, max_length=64)
    capture_mode = Word(enums.CaptureMode.choices, required=False)
    save_token = YesNo(required=False)
    token = Identifier(required=False, allow_null=True)
    metadata = PlainObject(required=False)
    expires_at = Moment(required=False, allow_null=True)
    ship_to = AddressSerializer(required=False)
    provider_data = PlainObject(required=False)


class StartSerializer(StrictSerializer):
    """Where the buyer wants to pay; needed only while the payment has no provider."""

    provider = Text(required=False, allow_blank=True, max_length=64)
    method = Text(required=False, allow_blank=True, max_length=64)


class StartedSerializer(Object):
    """What the buyer does next; null: somebody else opens it right now, ask again."""

    status = serializers.ChoiceField(enums.PaymentStatus.choices)
    next_action = NextActionSerializer(allow_null=True)


class NothingSerializer(StrictSerializer):
    """An empty object, or no body at all."""


class AmountToMoveSerializer(StrictSerializer):
    """How much; left out: all that is left."""

    amount = AmountSerializer(required=False)
    expected_left = AmountSerializer(
        required=False, help_text="What you saw to be left; refused if it changed"
    )


class ConfirmSerializer(StrictSerializer):
    """Charge a buyer who was authenticated, or only reserve the money."""

    capture = YesNo(default=True)


class OperationSerializer(Object):
    """One call to the provider, and the payment after it."""

    kind = serializers.ChoiceField(enums.OperationKind.choices)
    state = serializers.ChoiceField(enums.OperationState.choices)
    amount = serializers.SerializerMethodField()
    error = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()
    payment = PaymentSerializer()

    @extend_schema_field(MoneySerializer)
    def get_amount(self, operation: Any) -> Any:
        """Return how much it moves."""
        amount = money.from_minor(operation.amount_minor, operation.payment.currency)
        return MoneySerializer().to_representation(amount)


# Refunds -------------------------------------------------------------------------------


class BankAccountSerializer(StrictSerializer):
    """Where the money of a bank deposit goes back to."""

    holder = Text(max_length=150)
    bank_code = Text(max_length=20)
    number = Text(max_length=64)

    def to_internal_value(self, data: Any) -> BankAccount:
        """Return a `BankAccount`."""
        return BankAccount(**super().to_internal_value(data))


class NewRefundSerializer(AmountToMoveSerializer):
    """Give money back; without ``amount`` all that is left."""

    payment = Identifier()
    reason = Text(required=False, allow_blank=True, max_length=255)
    account = BankAccountSerializer(required=False)
    provider_data = PlainObject(required=False)


class RefundSerializer(Object):
    """One request to give captured money back."""

    uuid = serializers.UUIDField()
    payment = serializers.UUIDField(source="payment.uuid")
    amount = MoneySerializer()
    status = serializers.ChoiceField(enums.RefundStatus.choices)
    reason = serializers.CharField(allow_blank=True)
    requested_by = serializers.CharField(allow_blank=True)
    error = serializers.CharField(allow_blank=True)
    is_external = serializers.BooleanField()
    merchant_reference = serializers.CharField()
    provider_reference = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


# Providers -----------------------------------------------------------------------------


class ProviderSerializer(Object):
    """One account of the settings; nothing secret."""

    alias = serializers.CharField()
    provider = serializers.CharField(source="slug")
    name = serializers.CharField(source="display_name")
    capabilities = serializers.SerializerMethodField()
    currencies = serializers.SerializerMethodField()
    docs_url = serializers.CharField()

    @extend_schema_field({"type": "array", "items": {"type": "string"}})
    def get_capabilities(self, provider: Provider) -> list[str]:
        """Return what it can do."""
        return sorted(provider.capabilities)

    @extend_schema_field({"type": "array", "items": {"type": "string"}})
    def get_currencies(self, provider: Provider) -> list[str]:
        """Return its currencies; empty: it publishes no list."""
        return sorted(provider.currencies)


class MethodSerializer(Object):
    """One way to pay an amount."""

    provider = serializers.CharField(help_text="The alias, for start")
    method = serializers.CharField(
        allow_blank=True, help_text='For start; "" is the page of the provider'
    )
    kind = serializers.ChoiceField(enums.MethodKind.choices)
    name = serializers.CharField(help_text="What buyers know it as")


# The ledger, and the inbox -------------------------------------------------------------


class EventSerializer(Object):
    """One fact of the ledger; ``id`` is the ``notice_id`` that the signals carry."""

    id = serializers.UUIDField(source="notice.uuid")
    payment = serializers.UUIDField(source="payment.uuid")
    order_id = serializers.CharField(source="payment.order_id")
    kind = serializers.ChoiceField(enums.TransactionKind.choices)
    amount = MoneySerializer()
    source = serializers.ChoiceField(  # type: ignore[assignment]
        enums.Source.choices
    )
    reason = serializers.CharField(allow_blank=True)
    provider_reference = serializers.CharField(allow_blank=True)
    occurred_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()


class DeliverySerializer(Object):
    """One authentic message of a provider, and what became of it."""

    uuid = serializers.UUIDField()
    provider = serializers.CharField()
    payment = serializers.UUIDField(
        source="payment.uuid", allow_null=True, default=None
    )
    source = serializers.CharField()  # type: ignore[assignment]
    verdict = serializers.ChoiceField(enums.Verdict.choices)
    attempts = serializers.IntegerField()
    error = serializers.CharField(allow_blank=True)
    received_at = serializers.DateTimeField()
    applied_at = serializers.DateTimeField(allow_null=True)


class EndpointDeliverySerializer(Object):
    """One event for one endpoint of the shop, and what became of it."""

    endpoint = serializers.UUIDField(source="endpoint.uuid")
    event_id = serializers.CharField(help_text="The header `webhook-id`")
    type = serializers.CharField(source="event_type")
    state = serializers.ChoiceField(enums.EndpointDeliveryState.choices)
    attempts = serializers.IntegerField()
    last_status = serializers.IntegerField(
        allow_null=True, help_text="Of HTTP; null when no answer came"
    )
    error = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()
    due_at = serializers.DateTimeField(help_text="While it waits: not sent before")
    delivered_at = serializers.DateTimeField(allow_null=True)


# Saved methods -------------------------------------------------------------------------


class TokenSerializer(Object):
    """A saved method, by what may be shown of it."""

    uuid = serializers.UUIDField()
    provider = serializers.CharField()
    customer_id = serializers.SerializerMethodField()
    brand = serializers.CharField(allow_blank=True)
    last4 = serializers.CharField(allow_blank=True)
    expires_on = serializers.DateField(allow_null=True)
    status = serializers.ChoiceField(enums.TokenStatus.choices)
    created_at = serializers.DateTimeField()

    @extend_schema_field({"type": ["string", "null"]})
    def get_customer_id(self, token: Token) -> str | None:
        """Return whose it is, or null without ``view_buyer_data``."""
        return token.customer_id if self.context.get("shows_buyer") else None


class ChargeSerializer(StrictSerializer):
    """Charge a saved method; the buyer is not there."""

    order_id = Text(max_length=64)
    amount = AmountSerializer()
    description = Text(required=False, allow_blank=True, max_length=255)
    buyer = BuyerSerializer(required=False)
    items = serializers.ListField(
        child=LineItemSerializer(), required=False, max_length=100
    )
    metadata = PlainObject(required=False)


# Plans ---------------------------------------------------------------------------------


class NewPlanSerializer(StrictSerializer):
    """What is to be collected again and again."""

    provider = Text(max_length=64)
    customer_id = Text(max_length=64, allow_blank=True)
    order_id = Text(max_length=64)
    amount = AmountSerializer()
    start_on = Day()
    interval_months = WholeNumber(required=False, min_value=1, max_value=120)
    ends_on = Day(required=False, allow_null=True)
    token = Identifier(required=False, allow_null=True)
    managed_by = Word(enums.PlanManager.choices, required=False, allow_null=True)
    buyer = BuyerSerializer(required=False)
    description = Text(required=False, allow_blank=True, max_length=255)
    success_url = Text(required=False, allow_blank=True, max_length=500)
    failure_url = Text(required=False, allow_blank=True, max_length=500)
    locale = Text(required=False, allow_blank=True, max_length=16)
    method = Text(required=False, allow_blank=True, max_length=64)
    provider_data = PlainObject(required=False)


class ChangePlanSerializer(StrictSerializer):
    """What is left out stays."""

    amount = AmountSerializer(required=False)
    token = Identifier(required=False)
    ends_on = Day(required=False)


class CancelPlanSerializer(StrictSerializer):
    """Now, or with the period that is paid for."""

    at_period_end = YesNo(default=False)


class ChargePlanSerializer(StrictSerializer):
    """Which period: its first day, as `due_on` of the plan."""

    due_on = Day()


class PlanSerializer(Object):
    """An amount collected every so many months."""

    uuid = serializers.UUIDField()
    status = serializers.ChoiceField(enums.PlanStatus.choices)
    provider = serializers.CharField()
    managed_by = serializers.ChoiceField(enums.PlanManager.choices)
    order_id = serializers.CharField(allow_blank=True)
    customer_id = serializers.SerializerMethodField()
    description = serializers.CharField(allow_blank=True)
    amount = MoneySerializer()
    interval_months = serializers.IntegerField()
    start_on = serializers.DateField()
    due_on = serializers.DateField(help_text="The period that is collected next")
    next_on = serializers.DateField(allow_null=True)
    ends_on = serializers.DateField(allow_null=True)
    is_ending = serializers.BooleanField()
    attempts = serializers.IntegerField()
    decline_code = serializers.ChoiceField(DeclineCode.choices, allow_blank=True)
    needs_buyer = serializers.BooleanField()
    token = serializers.UUIDField(source="token.uuid", allow_null=True, default=None)
    first_payment = serializers.UUIDField(
        source="first_payment.uuid", allow_null=True, default=None
    )
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()

    @extend_schema_field({"type": ["string", "null"]})
    def get_customer_id(self, plan: RecurringPlan) -> str | None:
        """Return whose it is, or null without ``view_buyer_data``."""
        return plan.customer_id if self.context.get("shows_buyer") else None


class CreatedPlanSerializer(PlanSerializer):
    """A new plan, with what its buyer's browser needs to pay the first period."""

    client_secret = serializers.SerializerMethodField()

    @extend_schema_field({"type": ["string", "null"]})
    def get_client_secret(self, plan: RecurringPlan) -> str | None:
        """Return the secret of the first payment, or null if there is none."""
        first = plan.first_payment
        return None if first is None else client_secret(first)
