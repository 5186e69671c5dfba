"""The switches of the sandbox's Eximbay, each with what it does."""

from django_multipay.sandbox.providers import Setting

SETTINGS = (
    Setting(
        "callbacks_enabled", True, help="false: status notices are recorded, not sent."
    ),
    Setting(
        "retry_count",
        3,
        help="Tries to deliver a status notice until it is acknowledged.",
    ),
    Setting(
        "retry_delay_seconds", 2.0, help="Wait between two tries, on the sandbox clock."
    ),
    Setting(
        "send_status_before_return",
        True,
        help="The page answers the buyer after the first try to deliver the status.",
    ),
    Setting(
        "status_delay_seconds",
        1.0,
        help="How long after the return the status is sent when the return is first.",
    ),
    Setting("status_only", False, help="The buyer is never sent back."),
    Setting("return_only", False, help="The status notice is never made."),
    Setting(
        "duplicate_status",
        0,
        help="So many more deliveries of an already acknowledged status.",
    ),
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
        "retrieve_amount_as_text",
        False,
        help="retrieve finds an amount only in the very text given to ready.",
    ),
    Setting("auth_error_status", 401, help="HTTP status of EC1000."),
    Setting("request_error_status", 400, help="HTTP status of EC00, EC1001 and VE00."),
)
