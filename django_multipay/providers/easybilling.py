"""EasyBilling Payment Hub: Stripe, Alipay, WeChat Pay and PayerMax by one call.

Reference: https://docs.easybilling.cloud/api-reference/payment-transactions
(an older page, read 2026-11-21). Its newer pages and the integration skill of a third
party contradict it; `docs/providers/easybilling.md` says where, and what is done.

Amounts: digits as text, in minor units unless the option ``amount_unit`` differs.
Webhooks: none. Proof of payment: the status call, which names no amount.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from moneyed import Money

from django_multipay import money
from django_multipay.enums import (
    AmountFormat,
    Capability,
    CaptureMode,
    DeclineCode,
    MethodKind,
    PaymentStatus,
    RefundStatus,
    WebhookTrust,
)
from django_multipay.exceptions import (
    InvalidAmount,
    InvalidOperation,
    OutcomeUnknown,
    ProviderConfigurationError,
    ProviderError,
    ProviderUnavailable,
    UnexpectedAnswer,
)
from django_multipay.http import error_for_status, loads_strict, read_json
from django_multipay.messages import (
    Decline,
    HttpRequest,
    HttpResponse,
    Method,
    NextAction,
    PaymentQuery,
    PaymentRequest,
    PaymentSnapshot,
    QRCode,
    Redirect,
    RefundQuery,
    RefundRequest,
    RefundSnapshot,
    TokenChargeRequest,
    TokenSnapshot,
)
from django_multipay.providers.base import Provider, ProviderOptions, Secret
from django_multipay.redaction import storable
from django_multipay.signatures import constant_time_equal

logger = logging.getLogger(__name__)

# Tables of the reference ------------------------------------------------------------

STRIPE = "stripe-connect"
ALIPAY = "alipay-page"
WECHAT = "wechat-pay-native"
PAYERMAX = "payer-max-isv"

GATEWAYS: Mapping[str, str] = {
    STRIPE: "Stripe",
    ALIPAY: "Alipay",
    WECHAT: "WeChat Pay",
    PAYERMAX: "PayerMax",
}
"""``paymentGatewayType`` → name for people. PayerMax is in the newer list only."""

METHODS: Sequence[Method] = (
    Method(code=STRIPE, kind=MethodKind.CARD),
    Method(code=ALIPAY, kind=MethodKind.WALLET, name="Alipay"),
    Method(code=WECHAT, kind=MethodKind.QR, name="WeChat Pay"),
    Method(code=PAYERMAX, kind=MethodKind.WALLET, name="PayerMax"),
)

OFFLINE_GATEWAYS = (STRIPE, PAYERMAX)
"""Gateways that can charge without the buyer. Nobody publishes which can; the call
that saves a method in advance names these two."""

AMOUNT_UNITS: Mapping[str, AmountFormat] = {
    "minor": AmountFormat.MINOR_INTEGER,
    "major": AmountFormat.MAJOR_STRING,
}
"""What the digits of ``amount`` count; no page says it, no sample has a decimal."""

PAYMENT_STATUSES: Mapping[str, PaymentStatus] = {
    # the answer to the start
    "waiting": PaymentStatus.PENDING,
    "processing": PaymentStatus.PENDING,
    "succeeded": PaymentStatus.PAID,
    "failed": PaymentStatus.FAILED,
    "closed": PaymentStatus.CANCELED,
    # the page of the status call
    "pending": PaymentStatus.PENDING,
    "completed-with-success": PaymentStatus.PAID,
    "completed-with-failure": PaymentStatus.FAILED,
    "expired": PaymentStatus.EXPIRED,
    "refunded": PaymentStatus.REFUNDED,
}
"""Three published vocabularies in one. Compared in lower case with hyphens: a newer
page writes the words in capitals."""

REFUND_STATUSES: Mapping[str, RefundStatus] = {
    "created": RefundStatus.PENDING,
    "refunding": RefundStatus.PENDING,
    "closed": RefundStatus.FAILED,
    # the page of the refund call
    "success": RefundStatus.SUCCEEDED,
    "failure": RefundStatus.FAILED,
    "cancel": RefundStatus.FAILED,
    # the integration skill
    "succeeded": RefundStatus.SUCCEEDED,
    "failed": RefundStatus.FAILED,
    "canceled": RefundStatus.FAILED,
}
"""Two published vocabularies in one, compared in the same way."""

MAX_TRANSACTION_ID = 32
"""Characters of ``transactionId``: the text says 36, the schema beside it 32."""

TEST_HOSTS = ("sbx.", "test.")
"""How the hosts of the test systems begin."""

# A deadline beyond this is no duration but, say, a moment in Unix time.
_MAX_EXPIRE_SECONDS = 366 * 24 * 3600

_PATH = re.compile(r"(/[A-Za-z0-9_.-]+)+")
_EMAIL = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+")
_SESSION_TOKEN = re.compile(r"[!-~]+")

_Status = TypeVar("_Status", PaymentStatus, RefundStatus)


@dataclass(frozen=True, slots=True, kw_only=True)
class EasyBillingOptions(ProviderOptions):
    """``OPTIONS`` of one EasyBilling tenant."""

    base_url: str = field(
        metadata={
            "help": "the payment hub with its path: "
            "'https://sbx.api.easybilling.cloud/payment-hub' for tests, "
            "'https://app.api.easybilling.cloud/payment-hub' for real money",
            "url": True,
        }
    )
    api_token: Secret | None = field(
        default=None,
        metadata={
            "help": "the token that EasyBilling issued; or use username and password"
        },
    )
    username: str | None = field(
        default=None, metadata={"help": "name to log in with, instead of api_token"}
    )
    password: Secret | None = field(
        default=None, metadata={"help": "password that goes with username"}
    )
    login_url: str | None = field(
        default=None,
        metadata={
            "help": "where /api/authenticate/login is, if not under base_url",
            "url": True,
        },
    )
    gateway: str = field(
        default=STRIPE,
        metadata={
            "help": "the gateway of payments that name no method, and of saved methods",
            "choices": tuple(GATEWAYS),
        },
    )
    amount_unit: str = field(
        default="minor",
        metadata={
            "help": "minor: 26.30 USD is sent as '2630'; major: as '26.30'. "
            "EasyBilling does not say which; try one payment first",
            "choices": tuple(AMOUNT_UNITS),
        },
    )
    send_date: bool = field(
        default=True,
        metadata={
            "help": "send date with each payment: the reference demands it, its own "
            "example and the newer pages do without"
        },
    )
    status_path: str = field(
        default="/transactions/{id}/status",
        metadata={
            "help": "path of the status call under base_url; if yours is like all the "
            "others, '/api/transactions/{id}/status'"
        },
    )
    offline_redirect_url: str | None = field(
        default=None,
        metadata={
            "help": "page named in charges of saved methods, where both redirects are "
            "demanded though nobody is there to be sent; by default base_url",
            "url": True,
        },
    )
    require_https: bool = field(
        default=True,
        metadata={
            "help": "refuse return addresses without https for Stripe, which demands "
            "it; switch it off for a local sandbox only"
        },
    )


class EasyBillingProvider(Provider):
    """One EasyBilling tenant."""

    slug = "easybilling"
    display_name = "EasyBilling"
    docs_url = "https://docs.easybilling.cloud/api-reference/payment-transactions"
    capabilities = frozenset(
        {
            Capability.FETCH,
            Capability.REFUND,
            Capability.PARTIAL_REFUND,
            Capability.FETCH_REFUND,
            Capability.TOKENS,
        }
    )
    webhook_trust = WebhookTrust.NONE
    options_class = EasyBillingOptions
    currencies = frozenset()
    methods = METHODS

    options: EasyBillingOptions

    def __init__(self, alias: str, options: EasyBillingOptions) -> None:
        super().__init__(alias, options)
        self.amount_format = AMOUNT_UNITS[options.amount_unit]

    def problems(self) -> Sequence[str]:
        """Return contradictions between the options."""
        found = []
        options = self.options
        has_login = options.username is not None or options.password is not None
        if options.api_token is None and not has_login:
            found.append(
                "OPTIONS['api_token'] is missing; add it, or username and password"
            )
        if options.api_token is not None and has_login:
            found.append(
                "OPTIONS has api_token as well as username or password; keep one way"
            )
        if has_login and (options.username is None or options.password is None):
            found.append("OPTIONS needs username and password together")
        path = options.status_path
        if path.count("{id}") != 1 or not _PATH.fullmatch(path.replace("{id}", "id")):
            found.append(
                "OPTIONS['status_path'] is no path with one {id}; use one such as "
                "'/transactions/{id}/status'"
            )
        if urlsplit(options.base_url).path.rstrip("/").endswith("/billing"):
            found.append(
                "OPTIONS['base_url'] is the billing API; payments go to the payment "
                "hub, such as 'https://sbx.api.easybilling.cloud/payment-hub'"
            )
        return found

    def deploy_problems(self) -> Sequence[str]:
        """Return what belongs to tests or to a laptop."""
        found = []
        if (urlsplit(self.options.base_url).hostname or "").startswith(TEST_HOSTS):
            found.append("OPTIONS['base_url'] is the test system; no money will arrive")
        urls = {"base_url": self.options.base_url, "login_url": self.options.login_url}
        for name, url in urls.items():
            if url and urlsplit(url).scheme != "https":
                found.append(
                    f"OPTIONS[{name!r}] is not https; anybody on the way could read"
                )
        if not self.options.require_https:
            found.append(
                "OPTIONS['require_https'] is off; Stripe refuses plain http addresses"
            )
        return found

    def can_take(self, amount: Money) -> bool:
        """Say whether the amount can be written in an ISO 4217 currency.

        The reference names that standard for ``currency`` and publishes no list.
        """
        try:
            is_above_zero = money.to_minor(amount, self.exponents) > 0
        except InvalidAmount:
            return False
        return is_above_zero and len(amount.currency.code) == 3

    # A payment's life ---------------------------------------------------------------

    def start_payment(self, request: PaymentRequest) -> PaymentSnapshot:
        """Open the transaction; its page is to be visited or, for WeChat, drawn.

        ``transactionId`` is the idempotency key: who sends it again gets the same
        transaction, perhaps with a new page, and perhaps already paid.
        """
        gateway = self._gateway(request)
        _check_wishes(request)
        buyer = request.buyer
        identifier = _checked_identifier(
            gateway,
            _identifier(gateway, request.customer_id, buyer.email, buyer.phone),
            "buyer.email",
        )
        # Before the call: our deadline must not be later than theirs.
        now = datetime.now(UTC)
        body = {
            **self._transaction(request, gateway, identifier, now),
            "completePayRedirectUrl": self._page(
                gateway, request.return_url, "return_url"
            ),
            "cancelPayRedirectUrl": self._page(
                gateway, request.cancel_url or request.return_url, "cancel_url"
            ),
            "onlineScenario": True,
        }
        if request.save_token:
            self._check_saving(gateway)
            body["supportOfflineScenario"] = True
        call = self._call("start payment", "POST", "/api/transactions", body)
        answer = self._answer(call)
        snapshot = self._payment(
            call, answer, request.merchant_reference, request.amount, gateway
        )
        if snapshot.status is not PaymentStatus.PENDING:
            return self._with_token(snapshot, identifier)
        expires_at = _deadline(answer, now)
        return replace(
            snapshot,
            next_action=self._action(call, answer, gateway, expires_at),
            expires_at=expires_at,
        )

    def fetch_payment(self, query: PaymentQuery) -> PaymentSnapshot:
        """Ask for the status, the only proof of payment there is.

        The answer repeats neither order nor amount, so both are those we asked about.
        Its ``expireTime`` is left alone: whether it counts from the start or from the
        answer is not published.
        """
        path = self.options.status_path.replace(
            "{id}", quote(query.merchant_reference, safe="")
        )
        call = self._call("fetch payment", "GET", path)
        response = self._send(call)
        # What EasyBilling has named must be known to it; then 404 is a wrong path.
        if not query.provider_reference and _is_unknown(response):
            return PaymentSnapshot(status=PaymentStatus.PENDING, provider_status="404")
        # The option may have changed since; what the payment was started with counts.
        gateway = query.method if query.method in GATEWAYS else self.options.gateway
        snapshot = self._payment(
            call,
            self._read(call, response),
            query.merchant_reference,
            query.amount,
            gateway,
        )
        return self._with_token(
            snapshot, _identifier(gateway, query.customer_id, query.buyer_email)
        )

    def refund_payment(self, request: RefundRequest) -> RefundSnapshot:
        """Ask for a refund; it is done later, so its status is to be asked for.

        The fields are those of the reference's sample. Its table lists ``status`` in
        the place of ``amount``, which is taken for a slip.
        """
        self._check_refund(request)
        body = {
            "transactionId": request.query.merchant_reference,
            "requestId": request.merchant_reference,
            "amount": self._amount_text(request.amount),
        }
        call = self._call("refund payment", "POST", "/api/refund", body)
        return self._refund(call, self._answer(call), body)

    def fetch_refund(self, query: RefundQuery) -> RefundSnapshot:
        """Ask what became of a refund, by our reference of it.

        The parameters are not published. One source names ``transactionId``; the page
        of the refund call says that ``requestId`` is needed for the query: both go.
        """
        names = {
            "transactionId": query.query.merchant_reference,
            "requestId": query.merchant_reference,
        }
        call = self._call("fetch refund", "GET", f"/api/refund?{urlencode(names)}")
        response = self._send(call)
        if _is_unknown(response):
            return RefundSnapshot(status=RefundStatus.REQUESTED)
        return self._refund(call, self._read(call, response), names)

    def charge_token(self, request: TokenChargeRequest) -> PaymentSnapshot:
        """Charge the method saved for a customer identifier; the buyer is not there.

        What the answer looks like is not published, so only its status is read; while
        that is pending, the status call has the result.
        """
        gateway = self.options.gateway
        if not self._can_save(gateway):
            raise InvalidOperation(
                f"EasyBilling charges no saved method by {GATEWAYS[gateway]}; use an "
                f"account whose gateway is one of: {', '.join(OFFLINE_GATEWAYS)}",
                "token",
            )
        page = self._page(
            gateway,
            self.options.offline_redirect_url or self.options.base_url,
            "OPTIONS['offline_redirect_url']",
        )
        identifier = _checked_identifier(gateway, request.token, "token")
        body = {
            **self._transaction(request, gateway, identifier, datetime.now(UTC)),
            "completePayRedirectUrl": page,
            "cancelPayRedirectUrl": page,
            "onlineScenario": False,
        }
        call = self._call("charge token", "POST", "/api/transactions", body)
        return self._payment(
            call,
            self._answer(call),
            request.merchant_reference,
            request.amount,
            gateway,
        )

    # To the wire --------------------------------------------------------------------

    def _gateway(self, request: PaymentRequest) -> str:
        gateway = request.method or self.options.gateway
        if gateway not in GATEWAYS:
            raise InvalidOperation(
                f"method {gateway[:40]!r} is no gateway of EasyBilling; leave it out "
                f"or use one of: {', '.join(GATEWAYS)}",
                "method",
            )
        return gateway

    def _transaction(
        self,
        request: PaymentRequest | TokenChargeRequest,
        gateway: str,
        identifier: str,
        now: datetime,
    ) -> dict[str, Any]:
        """Return what a payment has with and without its buyer."""
        if len(request.merchant_reference) > MAX_TRANSACTION_ID:
            raise InvalidOperation(
                f"merchant_reference is longer than {MAX_TRANSACTION_ID} characters, "
                "which is all that EasyBilling takes",
                "merchant_reference",
            )
        body: dict[str, Any] = {
            "transactionId": request.merchant_reference,
            "amount": self._amount_text(request.amount),
            "currency": request.amount.currency.code,
            "paymentGatewayType": gateway,
        }
        if self.options.send_date:
            body["date"] = now.date().isoformat()
        if request.description.strip():
            body["description"] = request.description
        if identifier:
            body["customerIdentifier"] = identifier
        return body

    def _page(self, gateway: str, url: str, name: str) -> str:
        is_strict = gateway == STRIPE and self.options.require_https
        if is_strict and not url.startswith("https://"):
            raise InvalidOperation(
                f"{name} must begin with https:// for Stripe; serve it by https, or "
                "set OPTIONS['require_https'] to False for a local sandbox",
                name,
            )
        return url

    def _can_save(self, gateway: str) -> bool:
        # A charge names no method of its own, so it is made by the account's gateway.
        return gateway in OFFLINE_GATEWAYS and gateway == self.options.gateway

    def _check_saving(self, gateway: str) -> None:
        if not self._can_save(gateway):
            raise InvalidOperation(
                f"EasyBilling saves no method of {GATEWAYS[gateway]} in an account "
                f"whose gateway is {self.options.gateway}; leave save_token out, or "
                f"use an account for one of: {', '.join(OFFLINE_GATEWAYS)}",
                "save_token",
            )

    def _check_refund(self, request: RefundRequest) -> None:
        if request.amount.currency != request.query.amount.currency:
            raise InvalidAmount(
                "a refund has the currency of its payment: EasyBilling asks for none",
                "amount",
            )
        if request.account is not None:
            raise InvalidOperation(
                "EasyBilling refunds to where the money came from; leave account out",
                "account",
            )
        _check_provider_data(request.provider_data)

    def _amount_text(self, amount: Money) -> str:
        if not self.can_take(amount):
            raise InvalidAmount(
                "EasyBilling takes amounts above zero in an ISO 4217 currency, with no "
                "more decimals than that has; ask for such an amount",
                "amount",
            )
        return str(self.wire_amount(amount))

    # From the wire ------------------------------------------------------------------

    def _payment(
        self,
        call: HttpRequest,
        answer: Mapping[str, Any],
        merchant_reference: str,
        amount: Money,
        gateway: str,
    ) -> PaymentSnapshot:
        """Return what all answers about a payment have in common."""
        word = self._word(call, answer)
        status = self._meaning(word, PAYMENT_STATUSES, PaymentStatus.PENDING)
        has_paid = status in {PaymentStatus.PAID, PaymentStatus.REFUNDED}
        return PaymentSnapshot(
            status=status,
            provider_reference=_text(answer.get("paymentId")),
            merchant_reference=merchant_reference,
            amount=amount,
            captured=amount if has_paid else None,
            method=gateway,
            provider_status=storable(word, 64),
            # No answer has a reason.
            decline=Decline(code=DeclineCode.GENERIC, provider_code=storable(word, 40))
            if status is PaymentStatus.FAILED
            else None,
        )

    def _with_token(
        self, snapshot: PaymentSnapshot, identifier: str
    ) -> PaymentSnapshot:
        """Add what a paid payment may have saved, if anything could be.

        EasyBilling gives no token away: it charges whoever bears the identifier.
        """
        is_paid = snapshot.status is PaymentStatus.PAID
        if not (is_paid and identifier and self._can_save(snapshot.method)):
            return snapshot
        return replace(snapshot, token=TokenSnapshot(reference=identifier))

    def _action(
        self,
        call: HttpRequest,
        answer: Mapping[str, Any],
        gateway: str,
        expires_at: datetime | None,
    ) -> NextAction:
        url = _text(answer.get("paymentUrl"))
        if gateway == WECHAT and url:
            return QRCode(data=url, expires_at=expires_at)
        # The browser goes there, so nothing but a page may stand there.
        if re.fullmatch(r"https?://\S+", url):
            return Redirect(url)
        raise self._unreadable(call, "the answer has no page to send the buyer to")

    def _refund(
        self, call: HttpRequest, answer: Mapping[str, Any], names: Mapping[str, str]
    ) -> RefundSnapshot:
        """Return what an answer says about the refund of these ``names``.

        Only ``transactionId`` is documented to come back, and neither amount nor id.
        """
        for name in ("transactionId", "requestId"):
            if _text(answer.get(name)) not in {"", names[name]}:
                raise self._unreadable(call, f"the answer has another {name}")
        word = self._word(call, answer)
        status = self._meaning(word, REFUND_STATUSES, RefundStatus.PENDING)
        return RefundSnapshot(
            status=status,
            merchant_reference=_text(answer.get("requestId")) or None,
            decline=Decline(code=DeclineCode.GENERIC, provider_code=storable(word, 40))
            if status is RefundStatus.FAILED
            else None,
        )

    def _word(self, call: HttpRequest, answer: Mapping[str, Any]) -> str:
        word = _text(answer.get("status")).strip()
        if not word:
            raise self._unreadable(call, "the answer has no status")
        return word

    def _meaning(
        self, word: str, meanings: Mapping[str, _Status], unknown: _Status
    ) -> _Status:
        meaning = meanings.get(word.lower().replace("_", "-"))
        if meaning is None:
            logger.warning(
                "%s: status %r is unknown and counts as %s",
                self.alias,
                storable(word, 40),
                unknown.value,
            )
        return meaning or unknown

    # The wire -----------------------------------------------------------------------

    def _call(
        self,
        operation: str,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
    ) -> HttpRequest:
        return HttpRequest(
            operation=operation,
            method=method,
            url=f"{self.options.base_url.rstrip('/')}{path}",
            json=body,
            is_read=method == "GET",
        )

    def _answer(self, call: HttpRequest) -> dict[str, Any]:
        return self._read(call, self._send(call))

    def _send(self, call: HttpRequest) -> HttpResponse:
        """Return the answer, after a new log-in if the last one is no longer valid.

        A 401 says that nothing was done, so that even a write may be repeated, once.
        """
        token = self._bearer()
        response = self.http.send(_authorized(call, token))
        if response.status != 401 or self.options.api_token is not None:
            return response
        # Another thread may have logged in meanwhile.
        if constant_time_equal(token, self.http.session_token):
            self.http.session_token = ""
        return self.http.send(_authorized(call, self._bearer()))

    def _bearer(self) -> str:
        if self.options.api_token is not None:
            return self.options.api_token.current
        token = self.http.session_token
        if not token:
            token = self.http.session_token = self._log_in()
        return token

    def _log_in(self) -> str:
        """Return a new token.

        Whatever goes wrong here, the call that needs the token was not sent.
        """
        if self.options.username is None or self.options.password is None:
            raise ProviderConfigurationError(
                f"MULTIPAY['PROVIDERS'][{self.alias!r}]['OPTIONS'] needs api_token, or "
                "username and password"
            )
        base_url = (self.options.login_url or self.options.base_url).rstrip("/")
        call = HttpRequest(
            operation="log in",
            method="POST",
            url=f"{base_url}/api/authenticate/login",
            headers={"trace-id": str(uuid.uuid4())},
            json={
                "username": self.options.username,
                "password": self.options.password.current,
            },
            is_read=True,
        )
        try:
            answer = self._read(call, self.http.send(call))
        except UnexpectedAnswer as error:
            raise ProviderUnavailable(
                f"the log-in failed: {error.message}",
                self.alias,
                call.operation,
                http_status=error.http_status,
            ) from error
        token = _text(answer.get("token"))
        if not _SESSION_TOKEN.fullmatch(token):
            raise ProviderUnavailable(
                "the log-in was answered without a token", self.alias, call.operation
            )
        return token

    def _read(self, call: HttpRequest, response: HttpResponse) -> dict[str, Any]:
        """Return the object in an answer; no body of an error is published."""
        if response.status == 409 and not call.is_read:
            # Probably there already, so the last word is that of the status call.
            raise OutcomeUnknown(
                "the provider speaks of a conflict, perhaps with our own first try",
                self.alias,
                call.operation,
                http_status=response.status,
            )
        if not 200 <= response.status < 300:
            raise error_for_status(call, response, self.alias)
        return read_json(call, response, self.alias)

    def _unreadable(self, call: HttpRequest, message: str) -> ProviderError:
        kind = UnexpectedAnswer if call.is_read else OutcomeUnknown
        return kind(message, self.alias, call.operation)


# To the wire, without an account ----------------------------------------------------


def _check_wishes(request: PaymentRequest) -> None:
    """Refuse what no field of EasyBilling can say."""
    if request.capture_mode != CaptureMode.AUTOMATIC:
        raise InvalidOperation(
            "EasyBilling captures at once; leave capture_mode out", "capture_mode"
        )
    if request.token:
        raise InvalidOperation(
            "EasyBilling charges a saved method without the buyer only; use "
            "charge_token, or leave token out",
            "token",
        )
    if request.plan is not None:
        raise InvalidOperation(
            "EasyBilling's payment hub keeps no plans; let the shop charge a saved "
            "method instead",
            "plan",
        )
    _check_provider_data(request.provider_data)


def _check_provider_data(data: Mapping[str, Any]) -> None:
    for name in data:
        path = f"provider_data.{name}"
        raise InvalidOperation(
            f"{path} is unknown: every field of EasyBilling has a word of ours; "
            "remove it",
            path,
        )


def _identifier(gateway: str, customer_id: str, email: str, phone: str = "") -> str:
    """Return whom EasyBilling saves a method for; also what such a token is."""
    return email if gateway == STRIPE else customer_id or email or phone


def _checked_identifier(gateway: str, identifier: str, name: str) -> str:
    if gateway == STRIPE and not _EMAIL.fullmatch(identifier):
        raise InvalidOperation(
            f"{name} must be an e-mail address: EasyBilling knows Stripe's customers "
            "by nothing else",
            name,
        )
    return identifier


def _authorized(call: HttpRequest, token: str) -> HttpRequest:
    """Return ``call`` with the headers that each transmission has anew."""
    headers = {"Authorization": f"Bearer {token}", "trace-id": str(uuid.uuid4())}
    return replace(call, headers=headers)


# From the wire, without an account --------------------------------------------------


def _is_unknown(response: HttpResponse) -> bool:
    """Say whether the hub itself, not something before it, knows no such thing."""
    if response.status != 404:
        return False
    try:
        return isinstance(loads_strict(response.body), dict)
    except ValueError:
        return False


def _deadline(answer: Mapping[str, Any], now: datetime) -> datetime | None:
    """Return when ``expireTime``, a duration in seconds, is over, or None."""
    seconds = answer.get("expireTime")
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        return None
    if not 0 < seconds <= _MAX_EXPIRE_SECONDS:
        return None
    return now + timedelta(seconds=seconds)


def _text(value: object) -> str:
    """Return a JSON text, or a whole number as text; "" for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""
