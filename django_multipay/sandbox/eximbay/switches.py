"""The switches of the sandbox's Eximbay, each with what it does."""

from django_multipay.sandbox.providers import CALLBACK_SETTINGS, Setting

SETTINGS = (
    *CALLBACK_SETTINGS,
    Setting("status_only", False, help="The buyer is never sent back."),
    Setting("return_only", False, help="The status notice is never made."),
    Setting(
        "status_in_callback",
        "deferred",
        choices=("deferred", "always", "never", True, False),
        help="Callbacks carry `status`: for deferred methods and AUTHORIZE, always "
        "(true) or never (false).",
    ),
    Setting(
        "legacy_key_names",
        False,
        help="Callbacks use the names of the older protocol (ref, cur, amt, ...).",
    ),
    Setting(
        "version_key",
        "version",
        choices=("version", "ver"),
        help="Name of the version field in callbacks.",
    ),
    Setting(
        "comma_amounts",
        False,
        help="Callbacks write amounts with a thousands comma (132,000).",
    ),
    Setting(
        "errcode_in_callback", False, help="Callbacks of failures carry `errcode`."
    ),
    Setting("tamper_fgkey", False, help="Callbacks carry a wrong fgkey."),
    Setting(
        "return_method",
        "POST",
        choices=("POST", "GET"),
        help="How the buyer's browser comes back.",
    ),
    Setting(
        "card_field_spelling",
        "cardno",
        choices=("cardno", "card_number"),
        help="retrieve: cardno1 (the document's example) or card_number1 (its text).",
    ),
    Setting(
        "confirm_answer",
        "text",
        choices=("text", "example"),
        help="confirm: the fields of the document's text, or the three of its example.",
    ),
    Setting(
        "cancel_answer",
        "example",
        choices=("example", "text"),
        help="cancel: foregin_* as in the document's example, or its text's foreign_* "
        "and auth_code.",
    ),
    Setting(
        "capture_answer",
        "example",
        choices=("example", "text"),
        help="capture: allowed_pvoid as in the document's example, or its text's "
        "partially_cancelable and lang.",
    ),
    Setting(
        "rebill_answer",
        "example",
        choices=("example", "text"),
        help="rebill: payment and card_info as in the document's example, or all of "
        "its text.",
    ),
    Setting(
        "rebill_request",
        "text",
        choices=("text", "example"),
        help="rebill: lang, buyer and whole product lines are mandatory (text) or not "
        "(example).",
    ),
    Setting(
        "charge_rescode",
        "",
        help="confirm, rebill and charges of plans are declined with this code.",
    ),
    Setting(
        "refund_outcome",
        "succeed",
        choices=("succeed", "fail"),
        help="cancel: fail is RF00, INSUFFICIENT_MERCHANT_REFUND_FUNDS.",
    ),
    Setting(
        "full_refund_of_rest",
        False,
        help="cancel: refund_type F also refunds what partial refunds have left.",
    ),
    Setting(
        "partially_cancelable",
        "Y",
        choices=("Y", "N"),
        help="capture answers this flag; N refuses partial refunds of what it captured.",
    ),
    Setting(
        "partial_void",
        False,
        help="cancel: a part of an uncaptured authorization may be canceled.",
    ),
    Setting("partial_capture", False, help="capture takes less than was authorized."),
    Setting(
        "status_word", "", help="retrieve answers this word as the payment's status."
    ),
    Setting(
        "check_sum_rule",
        True,
        help="Products and surcharges must add up to the amount.",
    ),
    Setting(
        "refuse_unknown_fields",
        True,
        help="A field the document does not know is EC00.",
    ),
    Setting(
        "refuse_unknown_codes",
        True,
        help="A payment method or currency outside Eximbay's tables is EC00.",
    ),
    Setting(
        "retrieve_amount_as_text",
        False,
        help="retrieve finds an amount only in the very text given to ready.",
    ),
    Setting("auth_error_status", 401, help="HTTP status of EC1000."),
    Setting(
        "request_error_status",
        400,
        help="HTTP status of EC00, EC1001, EC1002 and VE00.",
    ),
)
