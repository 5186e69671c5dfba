"""The switches of the sandbox's Clink, each with what it does."""

from django_multipay.sandbox.providers import CALLBACK_SETTINGS, WEBHOOK_URL, Setting

SETTINGS = (
    WEBHOOK_URL,
    *CALLBACK_SETTINGS,
    Setting(
        "envelope",
        "new",
        choices=("new", "old"),
        help="Webhooks: data.object and milliseconds, or the older form with the "
        "fields below data and an ISO date.",
    ),
    Setting(
        "timestamp_unit",
        "ms",
        choices=("ms", "s"),
        help="Unit of X-Clink-Timestamp.",
    ),
    Setting(
        "signing_clock",
        "real",
        choices=("real", "sandbox"),
        help="Which clock X-Clink-Timestamp reads: the shop's own does not move when "
        "the sandbox's does.",
    ),
    Setting(
        "signature_case",
        "lower",
        choices=("lower", "upper"),
        help="Letters of the hexadecimal signature.",
    ),
    Setting("tamper_signature", False, help="Webhooks carry a wrong signature."),
    Setting(
        "account_answer_required",
        False,
        help="order.succeeded is acknowledged only by the documented account record.",
    ),
    Setting(
        "merchant_reference_trap",
        "off",
        choices=("off", "null", "blank"),
        help='Webhooks carry "null" or one blank as merchantReferenceId.',
    ),
    Setting(
        "order_created_status",
        "created",
        choices=("created", "pending"),
        help="Status in order.created: the word the document forgot, or a known one.",
    ),
    Setting(
        "dispute_times",
        "ms",
        choices=("ms", "iso"),
        help="Times in dispute events: milliseconds or ISO dates.",
    ),
    Setting(
        "status_word",
        "",
        help="When not empty, inquiries answer this as the payment's status.",
    ),
    Setting(
        "payment_result",
        "by_method",
        choices=("by_method", "success", "pending", "failure", "action"),
        help="Answer of POST /payment and /subscription: a card succeeds and the "
        "others need an action, or status 1, 2, 3, 5 for all.",
    ),
    Setting(
        "action_shape",
        "by_method",
        choices=("by_method", "redirect", "post_form", "qr"),
        help="What the action asks for: by the table of methods, or one for all.",
    ),
    Setting(
        "qr_picture",
        "url",
        choices=("url", "base64", "data_url"),
        help="imageUrlPng and imageUrlSvg are addresses or Base64 pictures; or there "
        "is imageDataUrl alone.",
    ),
    Setting(
        "deep_link",
        "https",
        choices=("https", "app"),
        help="mobileAuthUrl: an address of this sandbox, or one only an app opens.",
    ),
    Setting(
        "action_always",
        False,
        help="Answers with another status than 5 also carry an action.",
    ),
    Setting(
        "qr_lifetime_seconds", 900, help="How long a QR code opens the wallet's page."
    ),
    Setting(
        "session_lifetime_seconds",
        86_400,
        help="How long a session, or a payment with an action, can be paid.",
    ),
    Setting(
        "return_parameter",
        "sessionId",
        help="Name of the parameter with the session id on successUrl; empty: none.",
    ),
    Setting(
        "subtotal_currency",
        "original",
        choices=("original", "payment"),
        help="Currency of amountSubtotal after a conversion.",
    ),
    Setting(
        "refund_outcome",
        "succeed",
        choices=("succeed", "pending", "fail", "refuse"),
        help="What becomes of a refund; refuse: the merchant's balance is too small.",
    ),
    Setting(
        "renewal_outcome",
        "succeed",
        choices=("succeed", "fail"),
        help="What becomes of the charge of a subscription's next period.",
    ),
    Setting(
        "renewal_events",
        "both",
        choices=("both", "order", "invoice"),
        help="A renewal tells order.succeeded, invoice.paid or both.",
    ),
    Setting(
        "renewal_reference",
        "same",
        choices=("same", "none"),
        help="merchantReferenceId of a renewal's order: the subscription's, or none.",
    ),
    Setting(
        "timestamp_skew_seconds",
        120,
        help="How far X-Timestamp may be from the real time (or the sandbox's).",
    ),
    Setting(
        "business_error_status",
        200,
        help="HTTP status of refusals; their code is in the body.",
    ),
    Setting(
        "refuse_unknown_fields", True, help="A field the document does not know is 400."
    ),
    Setting(
        "check_sum_rule",
        True,
        help="Items must add up to the amount, and a price must equal it.",
    ),
    Setting(
        "check_decimals",
        True,
        help="More decimals than the currency has are refused.",
    ),
)
