"""The switches of the sandbox's Payer, each with what it does."""

from django_multipay.sandbox.providers import CALLBACK_SETTINGS, WEBHOOK_URL, Setting

SETTINGS = (
    WEBHOOK_URL,
    *CALLBACK_SETTINGS,
    Setting(
        "webhook_shape",
        "payment",
        choices=("payment", "event", "minimal"),
        help="The payment as retrieve gives it, `{type, data}` around it, or only "
        "`{payment_id}`.",
    ),
    Setting(
        "return_parameter",
        "payment_id",
        help="Name of the query parameter with the payment id in the return.",
    ),
    Setting(
        "status_word",
        "",
        help="retrieve answers this word as `status`; empty: the right one.",
    ),
    Setting(
        "failed_may_retry",
        False,
        help="The checkout of a failed payment takes a second try.",
    ),
    Setting(
        "idempotency_mismatch",
        "refuse",
        choices=("refuse", "replay", "create"),
        help="A used Idempotency-Key with another body is refused, gets the first "
        "answer, or makes a new payment.",
    ),
    Setting("idempotency_mismatch_status", 409, help="HTTP status of such a refusal."),
    Setting(
        "idempotency_seconds",
        86400,
        help="How long an Idempotency-Key is remembered, on the sandbox clock.",
    ),
    Setting(
        "rate_limit_per_minute",
        0,
        help="More requests of one key are refused with 429 and Retry-After; 0: none.",
    ),
    Setting(
        "error_shape",
        "nested",
        choices=("nested", "flat", "message", "empty"),
        help="Body of errors: `{error: {code, message}}`, `{error: message}`, "
        "`{message, statusCode}`, or nothing.",
    ),
    Setting(
        "null_absent_fields",
        False,
        help="Answers write a customer field that was not given as null.",
    ),
    Setting("uppercase_currency", False, help="Answers write the currency as USD."),
    Setting("metadata_bytes", 5120, help="Largest metadata, as compact JSON in UTF-8."),
    Setting(
        "refuse_unknown_fields",
        True,
        help="A field the document does not know is refused.",
    ),
)
