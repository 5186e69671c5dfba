"""The switches of the sandbox's EasyBilling, each with what it does."""

from django_multipay.sandbox.providers import Setting

SETTINGS = (
    Setting(
        "amount_unit",
        "minor",
        choices=("minor", "major"),
        help="Amounts are whole minor units (9900), or major units (99.00).",
    ),
    Setting("date_required", True, help="`date` is mandatory, as the seed says."),
    Setting(
        "https_required",
        True,
        help="Redirect addresses of stripe-connect must start with https://.",
    ),
    Setting(
        "customer_required_for_stripe",
        False,
        help="stripe-connect needs customerIdentifier. Given, it is an e-mail anyway.",
    ),
    Setting(
        "transaction_id_length", 32, help="Longest transactionId and requestId taken."
    ),
    Setting(
        "refuse_unknown_fields",
        True,
        help="A field the document does not know is refused.",
    ),
    Setting(
        "trace_id_required",
        False,
        help="A call without a UUID in the trace-id header is refused.",
    ),
    Setting(
        "token_lifetime_seconds",
        3600,
        help="How long a token from log-in lasts, on the sandbox clock.",
    ),
    Setting("expire_seconds", 1800, help="expireTime: how long a buyer may pay."),
    Setting(
        "vocabulary",
        "documented",
        choices=("documented", "seed", "status-page", "guide", "capitals"),
        help="Status words: of the page in question, of one source everywhere, or "
        "the page's in capitals.",
    ),
    Setting(
        "refund_vocabulary",
        "documented",
        choices=("documented", "guide", "capitals"),
        help="Status words of refunds.",
    ),
    Setting(
        "status_word", "", help="Not empty: inquiries answer this word as the status."
    ),
    Setting(
        "stale_until_refresh",
        False,
        help="GET status tells what the hub last heard; only POST status asks anew.",
    ),
    Setting(
        "reissue",
        "failed",
        choices=("failed", "always", "never"),
        help="When a repeated transactionId gets a new link: after a failure, also "
        "while the first is open, or never (the same answer).",
    ),
    Setting(
        "repeat_of_finished",
        "refuse",
        choices=("refuse", "same"),
        help="A repeated transactionId that succeeded, closed or expired: 409, or the "
        "same answer.",
    ),
    Setting(
        "changed_repeat",
        "refuse",
        choices=("refuse", "ignore"),
        help="A repeated transactionId with another amount, currency, gateway, "
        "customer or scenario: 409, or taken for the first request.",
    ),
    Setting(
        "cancel_closes",
        True,
        help="A buyer's cancel closes the transaction; false: it goes on waiting.",
    ),
    Setting(
        "return_parameters",
        False,
        help="transactionId, paymentId and status are added to redirect addresses.",
    ),
    Setting(
        "wechat_returns",
        False,
        help="The browser on the phone goes to the redirect addresses, too.",
    ),
    Setting(
        "offline_outcome",
        "succeed",
        choices=("succeed", "pending", "fail"),
        help="What a charge with onlineScenario false comes to.",
    ),
    Setting(
        "offline_gateways",
        "presets",
        choices=("presets", "all"),
        help="Gateways that save methods: those with a set-up page, or all four.",
    ),
    Setting(
        "refund_outcome",
        "succeed",
        choices=("succeed", "pending", "fail"),
        help="What a refund comes to; pending: the control desk decides.",
    ),
    Setting(
        "refund_delay_seconds",
        0,
        help="How long after the request, on the sandbox clock. 0: in the answer.",
    ),
)
