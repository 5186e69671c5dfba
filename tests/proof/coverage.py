"""Which tests stand for which known vulnerability, bad input, fault and attack.

The rows are those of the list that this package is built by: V1 to V29 are classes of
known vulnerabilities in payment software, 1 to 112 inputs, faults and attacks with what
must come of them. G1 to G23 are our guards, each with a twin that shows the damage
without it. A name is a file below ``tests/`` and a test in it; a contract is inherited
by the tests of every provider. An empty row says in its title why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

FLOWS: Final = "flows/test_"
CONTRACT: Final = "providers/test_clink.py::TestContract::"
"""Of one provider for all: each of them inherits it."""


@dataclass(frozen=True)
class Row:
    """What it is about, and the tests that would notice."""

    title: str
    tests: Sequence[str]


def _row(title: str, *tests: str) -> Row:
    return Row(title, tests)


ATTACKS = f"{FLOWS}attacks.py::"
BELIEF = f"{FLOWS}belief.py::"
CORRIDORS = f"{FLOWS}provider_corridors.py::"
CREATE = f"{FLOWS}create_payment.py::"
CRASH = f"{FLOWS}crash.py::"
FUZZ = f"{FLOWS}provider_fuzz.py::"
NOTICES = f"{FLOWS}notices.py::"
OPERATIONS = f"{FLOWS}operations.py::"
RACES = f"{FLOWS}races.py::"
MOVES = f"{FLOWS}operation_races.py::"
RECONCILE = f"{FLOWS}reconcile.py::"
DOORS = "views/test_webhooks.py::"
OUTCOME = "views/test_outcome.py::"
STEPS = "admin/test_steps.py::"
RULES = "test_house_rules.py::test_the_package_keeps_the_rule"
PROOF = "proof/test_"
ANY_LINE = f"{PROOF}faults.py::test_a_fault_of_the_line_is_told_for_what_it_is"
CANARIES = f"{PROOF}canaries.py::test_nothing_that_was_planted_is_found_again"
MUTATED = (
    f"{ATTACKS}test_five_thousand_mutated_requests_change_nothing_and_crash_nothing",
    f"{FUZZ}test_thousands_of_changed_messages_change_nothing_and_crash_nothing",
)

VULNERABILITIES: Mapping[str, Row] = {
    "V1": _row(
        "a callback that nobody authenticates",
        f"{PROOF}guards.py::test_what_nobody_verified_changes_nothing",
        f"{ATTACKS}test_a_forged_key_opens_neither_door_and_leaves_no_row",
        *MUTATED,
        "test_checks.py::test_a_provider_must_be_able_to_prove_a_payment",
    ),
    "V2": _row(
        "an empty secret is equal to an empty input",
        f"{CONTRACT}test_no_secret_may_be_empty",
        "test_signatures.py::test_without_a_secret_nothing_is_accepted",
        "test_signatures.py::test_blank_is_not_equal_to_blank",
    ),
    "V3": _row(
        "genuine, but of another amount, currency or receiver",
        f"{ATTACKS}test_a_genuine_message_that_does_not_fit_is_held_or_refused",
        f"{CORRIDORS}test_a_genuine_message_about_another_amount_is_held",
        f"{BELIEF}test_a_page_that_would_ask_for_another_amount_is_never_shown",
    ),
    "V4": _row(
        "the paid transaction of another order",
        f"{ATTACKS}test_another_payments_genuine_message_does_nothing_here",
        f"{ATTACKS}test_the_transaction_of_another_order_pays_nothing",
        f"{CORRIDORS}test_a_message_about_one_payment_does_nothing_at_the_door_of_another",
    ),
    "V5": _row(
        "a declined payment is recorded as paid",
        f"{ATTACKS}test_a_failure_is_never_paid_in_whichever_order_the_doors_hear_of_it",
        f"{CORRIDORS}test_an_outcome_is_the_same_in_whatever_order_and_how_often_it_is_told",
    ),
    "V6": _row(
        "a comparison that tells how far it came",
        RULES,
        "test_signatures.py::test_every_candidate_is_compared_in_constant_time",
    ),
    "V7": _row(
        "a comparison up to the shorter length",
        "test_signatures.py::test_a_signature_that_is_cut_is_refused",
        "test_signatures.py::test_every_prefix_and_extension_is_refused",
    ),
    "V8": _row(
        "the sender chooses where the key comes from",
        f"{CONTRACT}test_garbage_is_refused_without_a_call",
        RULES,
    ),
    "V9": _row(
        "a header supplies the secret",
        f"{ATTACKS}test_no_header_decides_whether_a_message_is_genuine",
    ),
    "V10": _row(
        "an authentic event comes again",
        f"{ATTACKS}test_a_message_repeated_at_both_doors_pays_once",
        f"{CONTRACT}test_a_message_out_of_its_time_is_refused",
    ),
    "V11": _row(
        "ids that can be guessed, owners that nobody checks",
        "test_models.py::test_links_carry_the_public_id_and_never_the_key",
        "api/test_access.py::test_who_may_not_learns_nothing_and_changes_nothing",
        "views/test_methods.py::test_what_belongs_to_another_is_not_there",
    ),
    "V12": _row(
        "look first, act later: doubled by a race",
        f"{PROOF}races.py::test_sixteen_processes_want_the_same",
        f"{MOVES}test_of_sixteen_refunds_of_sixty_out_of_a_hundred_one_is_sent",
        f"{MOVES}test_twin_without_the_lock_more_is_sent_than_was_taken",
    ),
    "V13": _row(
        "return and webhook at once",
        f"{RACES}test_a_hundred_deliveries_by_eight_threads_pay_once_and_tell_once",
    ),
    "V14": _row(
        "a refund times out, and a second one goes out",
        f"{CORRIDORS}test_a_refund_whose_answer_is_lost_heals_to_exactly_one",
        f"{OPERATIONS}test_what_waits_for_its_answer_is_reserved",
    ),
    "V15": _row(
        "a renewal charged or counted twice",
        f"{FLOWS}plan_races.py::test_two_schedulers_cron_a_person_and_a_message_charge_each_period_once",
        f"{FLOWS}plan_races.py::test_twin_without_either_the_buyer_is_charged_twice",
    ),
    "V16": _row(
        "SQL from a callback",
        RULES,
        f"{ATTACKS}test_hostile_values_in_any_field_of_a_genuine_message_do_no_harm",
    ),
    "V17": _row(
        "card data and personal data in logs",
        CANARIES,
        f"{PROOF}canaries.py::test_an_error_report_shows_nothing_of_it",
        f"{PROOF}canaries.py::test_twin_without_the_mask_card_numbers_are_found",
    ),
    "V18": _row(
        "a way back that is a script or another site",
        f"{OUTCOME}test_foreign_addresses_are_never_links",
    ),
    "V19": _row(
        "a GET that changes something, no token against forgery",
        f"{STEPS}test_looking_never_acts",
        f"{STEPS}test_nothing_is_done_without_the_token_against_forgery",
        "api/test_access.py::test_every_other_method_is_refused_whoever_asks",
    ),
    "V20": _row(
        "fields that nobody may set",
        "api/test_bodies.py::test_fields_that_nobody_may_set_are_refused",
        "api/test_bodies.py::test_no_endpoint_takes_a_field_it_does_not_know",
    ),
    "V21": _row(
        "a header says who somebody is",
        f"{ATTACKS}test_no_header_decides_whether_a_message_is_genuine",
        "api/test_access.py::test_a_secret_counts_in_its_header_only",
    ),
    "V22": _row(
        "a payment logs somebody in",
        f"{DOORS}test_no_door_sets_a_cookie_or_touches_a_session",
    ),
    "V23": _row(
        "a stranger writes what all buyers see",
        f"{ATTACKS}test_a_flood_of_forged_messages_writes_nothing_and_asks_within_the_ration",
        f"{DOORS}test_no_answer_may_be_kept_by_a_cache",
    ),
    "V24": _row(
        "a pattern that takes for ever",
        "test_redaction.py::test_no_text_takes_long",
        "test_money.py::test_what_is_no_plain_decimal_is_refused_at_once",
    ),
    "V25": _row(
        "an address that a header made up",
        "api/test_lists.py::test_strangers_are_counted_by_address_whatever_they_forge",
        "providers/test_eximbay.py::test_an_allow_list_is_never_the_only_check",
        "providers/test_excoinz.py::test_an_address_replaces_no_secret",
    ),
    "V26": _row(
        "our own requests are led to inner addresses",
        "test_outgoing.py::test_no_trick_reaches_our_own_net",
        "test_outgoing.py::test_twin_without_the_look_at_the_address_tricks_arrive",
    ),
    "V27": _row(
        "a stranger's words run in the admin or in a spreadsheet",
        "admin/test_payments.py::test_what_strangers_write_is_text",
        "admin/test_export.py::test_no_text_is_calculated_or_breaks_the_line",
    ),
    "V28": _row(
        "two readers read one JSON differently",
        "test_http.py::test_bad_json_is_refused_in_no_time",
        "api/test_bodies.py::test_a_body_that_is_not_plain_json_is_malformed",
    ),
    "V29": _row(
        "a test provider or a debug page left in",
        "test_house_rules.py::test_every_provider_has_its_sandbox_its_page_and_its_tests",
        "test_checks.py::test_test_systems_and_plain_http_are_warned_of",
    ),
}

INPUTS: Mapping[str, Row] = {
    # Signature, replay, binding
    "1": _row(
        "no signature",
        f"{CONTRACT}test_a_message_without_signature_is_refused_without_a_call",
    ),
    "2": _row(
        "an empty or odd signature",
        "test_signatures.py::test_a_signature_that_is_not_exactly_right_is_refused",
        "test_signatures.py::test_whatever_else_a_sender_puts_there_is_just_not_equal",
    ),
    "3": _row("letters in a signature", "test_signatures.py::test_no_text_raises"),
    "4": _row(
        "a signature that was cut, extended or repeated",
        "test_signatures.py::test_a_signature_that_is_cut_is_refused",
        "test_signatures.py::test_every_prefix_and_extension_is_refused",
    ),
    "5": _row(
        "a retired secret",
        "test_signatures.py::test_a_retired_or_foreign_secret_is_refused",
    ),
    "6": _row(
        "two secrets while they are rotated",
        "test_signatures.py::test_each_of_two_rotated_secrets_is_accepted",
    ),
    "7": _row(
        "ten thousand signatures",
        "test_signatures.py::test_ten_thousand_signatures_are_refused_before_hashing",
    ),
    "8": _row(
        "a time too old, or in the future",
        "test_signatures.py::test_a_timestamp_too_old_or_too_new_is_refused",
    ),
    "9": _row(
        "a time that is not plain digits",
        "test_signatures.py::test_a_timestamp_that_is_not_plain_digits_is_refused",
    ),
    "10": _row(
        "the same message in other bytes",
        f"{ATTACKS}test_bytes_that_are_not_the_message_are_not_the_message",
        f"{FUZZ}test_a_signature_covers_every_byte",
    ),
    "11": _row(
        "the signature of our other account",
        f"{CORRIDORS}test_a_message_of_the_second_account_is_refused_at_every_door",
    ),
    "12": _row(
        "test money at a live account",
        "test_ledger.py::test_test_money_is_never_taken_for_real_money",
    ),
    "13": _row(
        "a message about A at the door of B",
        f"{ATTACKS}test_another_payments_genuine_message_does_nothing_here",
    ),
    "14": _row(
        "a genuine event of another merchant",
        "test_ledger.py::test_a_message_of_another_alias_is_held",
        f"{CORRIDORS}test_a_message_of_the_second_account_is_refused_at_every_door",
    ),
    "15": _row(
        "fields that no signature covers",
        f"{ATTACKS}test_every_field_is_covered_whether_changed_dropped_or_given_twice",
    ),
    "16": _row(
        "a border between fields that moved",
        "providers/test_eximbay.py::test_the_rule_makes_the_fgkey_of_a_notice",
        f"{ATTACKS}test_every_field_is_covered_whether_changed_dropped_or_given_twice",
    ),
    "17": _row("a batch with one forged item (no provider sends batches)"),
    "18": _row(
        "one event many times",
        f"{PROOF}messages.py::test_deliveries_twice_and_shuffled_by_eight_threads_end_in_one_state",
    ),
    "19": _row(
        "one event id with two bodies",
        f"{ATTACKS}test_a_message_is_not_silenced_by_another_that_wears_its_bytes",
        f"{ATTACKS}test_a_stored_message_does_not_vouch_for_the_one_that_carries_it",
    ),
    "20": _row(
        "an old return after the refund",
        f"{PROOF}rows.py::test_a_return_after_the_refund_shows_the_refund",
    ),
    "21": _row(
        "a return in another browser",
        f"{DOORS}test_the_outcome_of_a_return_is_the_same_for_every_visitor",
        f"{OUTCOME}test_it_names_nobody",
    ),
    "22": _row(
        "a parameter that says it was confirmed",
        f"{FLOWS}eximbay_corridor.py::test_a_return_without_a_word_proves_nothing",
    ),
    "23": _row(
        "an address of keys from the request",
        f"{CONTRACT}test_garbage_is_refused_without_a_call",
    ),
    "24": _row(
        "an algorithm from the request",
        f"{ATTACKS}test_no_header_decides_whether_a_message_is_genuine",
    ),
    "25": _row(
        "junk at a payment that is confirmed",
        f"{DOORS}test_a_link_that_we_did_not_sign_leads_nowhere",
    ),
    # Amounts, currencies, dates
    "26": _row(
        "another amount",
        f"{CORRIDORS}test_a_genuine_message_about_another_amount_is_held",
        "test_ledger.py::test_a_claim_of_money_that_does_not_fit_is_held_for_staff",
    ),
    "27": _row(
        "another currency",
        f"{ATTACKS}test_a_genuine_message_that_does_not_fit_is_held_or_refused",
    ),
    "28": _row(
        "a negative amount",
        f"{OPERATIONS}test_a_wrong_amount_is_refused_by_name_before_anything_is_sent",
        "api/test_bodies.py::test_an_amount_is_plain_or_refused",
    ),
    "29": _row(
        "nothing as an amount",
        f"{CREATE}test_bad_input_is_refused_by_name_and_nothing_is_stored",
    ),
    "30": _row(
        "NaN, Infinity, exponents",
        "test_money.py::test_what_is_no_plain_decimal_is_refused_at_once",
    ),
    "31": _row(
        "digits of other scripts, blanks, underscores",
        "test_money.py::test_what_is_no_plain_decimal_is_refused_at_once",
    ),
    "32": _row(
        "a float where whole numbers belong",
        RULES,
        "api/test_bodies.py::test_an_amount_is_plain_or_refused",
    ),
    "33": _row(
        "currencies with other decimals",
        "test_money.py::test_a_currency_has_the_decimals_of_iso_4217",
        "test_money.py::test_minor_units_survive_the_round_trip",
    ),
    "34": _row(
        "more decimals than the currency has",
        "test_money.py::test_more_decimals_than_the_currency_has_are_not_rounded",
    ),
    "35": _row(
        "an amount above everything",
        "test_money.py::test_an_amount_beyond_all_bounds_is_refused_at_once",
    ),
    "36": _row(
        "the fourth 30 of 100",
        f"{MOVES}test_eight_captures_of_thirty_never_take_more_than_a_hundred",
    ),
    "37": _row(
        "a refund above what is left",
        f"{OPERATIONS}test_what_waits_for_its_answer_is_reserved",
        f"{CORRIDORS}test_more_than_is_left_is_refused_before_anything_is_sent",
    ),
    "38": _row(
        "another refund than ours",
        f"{OPERATIONS}test_another_amount_than_ours_is_held_for_a_person_who_hears_at_once",
    ),
    "39": _row(
        "the total changed after the page was opened",
        f"{BELIEF}test_what_was_paid_may_differ_from_what_was_asked",
        f"{FLOWS}attempts.py::test_late_money_for_an_order_that_was_paid_again_is_held",
    ),
    "40": _row(
        "two pages of one order, both paid",
        f"{CORRIDORS}test_two_pages_of_one_payment_that_are_both_paid_are_shown_to_a_person",
    ),
    "41": _row(
        "fees and conversions",
        f"{CORRIDORS}test_a_converted_payment_is_paid_in_our_currency_and_not_refunded_by_us",
    ),
    "42": _row(
        "month ends, leap days, zones",
        f"{FLOWS}plans.py::test_due_dates_keep_their_day_and_every_period_has_one",
        f"{FLOWS}plans.py::test_the_zone_of_the_site_says_which_day_it_is",
    ),
    # Parsing and size
    "43": _row("no JSON", f"{CONTRACT}test_garbage_is_refused_without_a_call"),
    "44": _row(
        "keys twice, NaN, trailing data",
        "test_http.py::test_bad_json_is_refused_in_no_time",
    ),
    "45": _row("deep nesting", "test_http.py::test_bad_json_is_refused_in_no_time"),
    "46": _row(
        "a number of 5,000 digits",
        "test_http.py::test_bad_json_is_refused_in_no_time",
    ),
    "47": _row(
        "NUL, lone surrogates, other encodings",
        f"{ATTACKS}test_hostile_values_in_any_field_of_a_genuine_message_do_no_harm",
        f"{CREATE}test_words_that_no_database_takes_are_made_fit",
    ),
    "48": _row(
        "text longer than its column",
        f"{CREATE}test_bad_input_is_refused_by_name_and_nothing_is_stored",
        "test_redaction.py::test_stored_text_fits_every_database",
    ),
    "49": _row(
        "a body above the limit",
        f"{DOORS}test_a_body_above_256_kib_is_refused",
        f"{DOORS}test_a_body_that_says_it_is_too_large_is_not_read",
    ),
    "50": _row(
        "a body without a length",
        f"{DOORS}test_a_body_without_a_length_is_counted_while_it_is_read",
    ),
    "51": _row("a packed body", f"{DOORS}test_a_packed_body_is_refused_unopened"),
    "52": _row("odd content types and forms", *MUTATED),
    "53": _row(
        "fields given twice",
        f"{ATTACKS}test_every_field_is_covered_whether_changed_dropped_or_given_twice",
    ),
    "54": _row("entities in XML (no provider speaks XML)"),
    "55": _row(
        "a link that is none",
        f"{DOORS}test_a_link_that_we_did_not_sign_leads_nowhere",
    ),
    "56": _row(
        "headers with underscores",
        f"{ATTACKS}test_no_header_decides_whether_a_message_is_genuine",
    ),
    "57": _row("other methods", f"{DOORS}test_no_other_method_is_heard"),
    "58": _row(
        "a word that nobody knows",
        f"{CORRIDORS}test_a_word_that_nobody_knows_is_no_money",
        f"{CONTRACT}test_an_unknown_status_is_pending_and_logged",
    ),
    "59": _row(
        "a body that comes byte by byte (the server in front limits it)",
        f"{DOORS}test_a_sender_that_hangs_up_is_no_crash",
    ),
    # Web, access, content
    "60": _row(
        "a return from another site without cookies",
        f"{DOORS}test_the_buyer_is_shown_the_outcome_and_what_they_carry_counts",
        f"{DOORS}test_no_door_sets_a_cookie_or_touches_a_session",
    ),
    "61": _row(
        "framed or cached",
        f"{OUTCOME}test_headers",
        f"{DOORS}test_no_answer_may_be_kept_by_a_cache",
    ),
    "62": _row(
        "a way back to elsewhere", f"{OUTCOME}test_foreign_addresses_are_never_links"
    ),
    "63": _row(
        "a page of the provider at another host",
        "test_http.py::test_a_redirect_is_not_followed",
        "templatetags/test_multipay.py::test_safe_link_stops_the_rest",
    ),
    "64": _row(
        "line breaks in names",
        "admin/test_payments.py::test_no_word_of_a_stranger_reaches_a_header",
        "views/test_checkout_shop.py::test_a_letter_is_plain_text_and_its_subject_one_line",
    ),
    "65": _row(
        "markup in words",
        "admin/test_payments.py::test_what_strangers_write_is_text",
        "views/test_checkout.py::test_what_the_shop_wrote_is_only_text",
    ),
    "66": _row(
        "formulas in exports",
        "admin/test_export.py::test_no_text_is_calculated_or_breaks_the_line",
    ),
    "67": _row(
        "a step without permission",
        f"{STEPS}test_a_step_needs_its_own_permission_and_the_right_to_see",
        f"{STEPS}test_nothing_is_done_without_the_token_against_forgery",
    ),
    "68": _row(
        "a double click, two tabs, two people",
        f"{STEPS}test_the_same_confirmation_twice_is_one_refund",
        f"{STEPS}test_of_two_who_look_at_the_same_money_the_second_must_look_again",
    ),
    "69": _row(
        "amounts changed in the admin",
        "admin/test_payments.py::test_nothing_of_a_payment_can_be_changed_or_deleted_or_added",
    ),
    "70": _row(
        "ids of others",
        "api/test_access.py::test_who_may_not_learns_nothing_and_changes_nothing",
        "api/test_access.py::test_unknown_urls_answer_as_foreign_ones",
    ),
    "71": _row(
        "fields too many",
        "api/test_bodies.py::test_no_endpoint_takes_a_field_it_does_not_know",
    ),
    "72": _row(
        "idempotency keys",
        "api/test_idempotency.py::test_the_same_request_gets_the_very_same_answer",
        "api/test_idempotency.py::test_a_key_is_bound_to_body_and_path",
        "api/test_idempotency.py::test_of_equal_requests_at_once_one_is_carried_out",
        "api/test_idempotency.py::test_without_the_claim_they_would_all_pass",
    ),
    "73": _row(
        "a saved method of somebody else",
        f"{FLOWS}tokens.py::test_a_method_is_for_its_customer_and_account_only",
        f"{CREATE}test_only_ones_own_saved_method_can_be_used",
    ),
    "74": _row(
        "cards tried out",
        "api/test_lists.py::test_one_address_opens_few_payments",
    ),
    "75": _row(
        "a flood of forged messages",
        f"{ATTACKS}test_a_flood_of_forged_messages_writes_nothing_and_asks_within_the_ration",
        f"{ATTACKS}test_a_flood_that_names_another_order_each_time_shares_one_ration",
    ),
    "76": _row(
        "an endpoint at an inner address",
        "test_outgoing.py::test_no_trick_reaches_our_own_net",
        "test_outgoing.py::test_what_is_looked_at_is_what_is_connected_to",
    ),
    "77": _row(
        "an odd base URL",
        "providers/test_base.py::test_a_bad_url_is_refused_without_repeating_it",
        "test_checks.py::test_test_systems_and_plain_http_are_warned_of",
    ),
    "78": _row(
        "card numbers in words",
        CANARIES,
        f"{CREATE}test_card_numbers_are_masked_wherever_words_are_kept",
    ),
    "79": _row(
        "a bug in a provider class",
        f"{PROOF}canaries.py::test_an_error_report_shows_nothing_of_it",
        f"{PROOF}canaries.py::test_a_bug_that_quotes_what_it_read_is_logged_without_the_quote",
    ),
    "80": _row(
        "secrets in a repr",
        f"{CONTRACT}test_no_secret_shows",
        "test_messages.py::test_nothing_secret_or_personal_is_shown",
    ),
    "81": _row(
        "a bad certificate",
        "test_http.py::test_a_bad_certificate_means_nothing_was_sent",
        "test_http.py::test_the_environment_can_neither_add_trust_nor_proxies_nor_credentials",
    ),
    "82": _row("a dummy provider in production (the package ships none)"),
    # Order, time and concurrency of events
    "83": _row(
        "the capture before the authorization",
        "test_ledger.py::test_the_order_of_authorization_and_capture_does_not_matter",
        "test_states.py::test_a_refund_that_came_before_its_capture_is_counted",
    ),
    "84": _row(
        "failure after the money",
        "test_states.py::test_late_money_beats_words",
        f"{ATTACKS}test_a_failure_after_the_money_is_shown_to_a_person_and_undoes_nothing",
    ),
    "85": _row(
        "the payment told again after the refund",
        f"{PROOF}rows.py::test_a_return_after_the_refund_shows_the_refund",
        f"{PROOF}messages.py::test_every_order_of_seven_events_ends_in_one_state",
    ),
    "86": _row(
        "a message before our own answer",
        f"{RACES}test_a_message_that_comes_before_the_checkout_was_concluded_is_applied",
        f"{RECONCILE}test_a_message_that_came_before_its_payment_is_applied_later",
    ),
    "87": _row(
        "a message while the call is under way",
        f"{MOVES}test_a_capture_seen_before_its_answer_counts_once",
        f"{MOVES}test_an_answer_and_other_news_of_the_refund_at_once_are_one_fact",
    ),
    "88": _row(
        "every order of seven events",
        "test_states.py::test_every_order_of_seven_events_with_duplicates_gives_one_state",
        f"{PROOF}messages.py::test_every_order_of_seven_events_ends_in_one_state",
    ),
    "89": _row(
        "times equal, reversed, missing",
        "test_states.py::test_neither_order_nor_duplicates_change_the_state",
        f"{ATTACKS}test_a_date_that_no_calendar_has_does_not_stop_a_message",
    ),
    "90": _row(
        "chargebacks",
        f"{OPERATIONS}test_a_chargeback_is_for_a_person_and_may_be_won",
        f"{CORRIDORS}test_a_dispute_is_for_a_person_until_it_is_won",
    ),
    "91": _row(
        "money that came back",
        "test_states.py::test_a_capture_that_came_back_is_taken_off",
    ),
    "92": _row(
        "clocks that differ",
        "test_ledger.py::test_the_database_tells_the_time_that_leases_are_measured_by",
    ),
    # Faults
    "93": _row("nothing was sent", ANY_LINE),
    "94": _row(
        "the answer is lost, or cannot be read",
        ANY_LINE,
        f"{CORRIDORS}test_a_refund_whose_answer_is_lost_heals_to_exactly_one",
    ),
    "95": _row("5xx", ANY_LINE),
    "96": _row(
        "409",
        "providers/test_easybilling.py::test_a_conflict_may_be_with_our_own_first_try",
    ),
    "97": _row(
        "429, and how long to wait",
        ANY_LINE,
        "test_http.py::test_a_wish_to_wait_is_read_and_bounded",
        f"{OPERATIONS}test_a_provider_that_asks_us_to_wait_is_left_alone_until_then",
    ),
    "98": _row(
        "401 and 403",
        ANY_LINE,
        "test_http_breaker.py::test_credentials_that_are_refused_are_told_at_once_and_once",
    ),
    "99": _row("redirects", "test_http.py::test_a_redirect_is_not_followed", ANY_LINE),
    "100": _row(
        "an answer after the time-out",
        f"{CORRIDORS}test_a_move_whose_answer_is_lost_heals_and_happens_once",
    ),
    "101": _row(
        "the provider is down for long",
        f"{RECONCILE}test_an_outage_expires_nothing",
        f"{RECONCILE}test_a_provider_that_is_down_is_an_error_in_the_report_and_asked_later",
        "test_http_breaker.py::test_a_pause_leaves_what_is_unknown_unknown",
    ),
    "102": _row(
        "the database is down when a message comes",
        "views/test_outages.py::test_a_door_says_that_it_cannot_answer_and_when_to_come_again",
        f"{CRASH}test_a_database_that_cannot_be_reached_again_is_the_providers_to_retry",
    ),
    "103": _row(
        "the database restarts",
        f"{PROOF}restarts.py::test_a_server_that_crashes_under_a_call_loses_and_doubles_nothing",
    ),
    "104": _row(
        "a commit fails after the call",
        f"{PROOF}crashes.py::test_a_connection_that_is_cut_at_any_step_of_a_move",
    ),
    "105": _row(
        "kill -9 anywhere",
        f"{PROOF}crashes.py::test_kill_9_at_any_step_of_a_move",
        f"{PROOF}crashes.py::test_kill_9_at_any_step_of_a_message",
        f"{FLOWS}at_once.py::test_a_message_that_died_anywhere_ends_in_one_payment_and_is_told",
        f"{PROOF}crashes.py::test_kill_9_at_any_step_of_a_checkout",
        f"{PROOF}crashes.py::test_kill_9_at_any_step_of_a_recurring_charge",
        f"{PROOF}crashes.py::test_kill_9_at_any_step_of_a_sweep",
        f"{PROOF}crashes.py::test_twin_without_the_intent_a_kill_doubles_the_money",
        f"{FLOWS}plan_races.py::test_kill_9_in_a_charge_run_loses_and_doubles_nothing",
        f"{FLOWS}token_crash.py::test_kill_9_during_a_charge_loses_and_doubles_nothing",
    ),
    "106": _row(
        "a worker dies with many leases",
        f"{FLOWS}reconcile_shared.py::test_what_a_killed_worker_had_taken_is_worked_on_after_its_lease",
        f"{PROOF}races.py::test_sixteen_sweepers_send_what_was_never_sent_once",
    ),
    "107": _row(
        "receivers that raise, or start work of their own",
        f"{NOTICES}test_a_receiver_that_raises_undoes_nothing_and_stops_nobody",
        f"{NOTICES}test_a_receiver_may_roll_its_own_work_back_and_start_another_payment",
    ),
    "108": _row(
        "a caller's own transaction",
        f"{OPERATIONS}test_inside_a_transaction_it_is_sent_after_the_commit",
        f"{OPERATIONS}test_a_callers_rollback_takes_the_intent_with_it",
        f"{DOORS}test_the_doors_work_on_a_site_with_atomic_requests",
    ),
    "109": _row(
        "a fork after the first query",
        f"{PROOF}rows.py::test_workers_forked_after_a_query_have_connections_of_their_own",
        "test_http.py::test_a_forked_child_opens_its_own_connections",
    ),
    "110": _row(
        "one poisoned message among others",
        f"{ATTACKS}test_one_poisoned_message_does_not_stop_the_others",
    ),
    "111": _row(
        "a secret rotated in a burst",
        "providers/test_eximbay.py::TestContract::test_the_older_of_two_secrets_still_works",
    ),
    "112": _row(
        "SECRET_KEY rotated",
        f"{DOORS}test_links_outlive_a_new_secret_key_with_the_old_one_as_fallback",
        f"{DOORS}test_without_the_fallback_old_links_are_gone_and_the_inquiry_still_settles",
    ),
}

_GUARD = f"{PROOF}guards.py::test_the_guard_holds"
_TWIN = f"{PROOF}guards.py::test_twin_without_the_guard_there_is_damage"

GUARDS: Mapping[str, Row] = {
    "G1": _row("the signature of a message", _GUARD, _TWIN),
    "G2": _row(
        "account, order, amount and currency are compared",
        _GUARD,
        _TWIN,
        f"{FUZZ}test_without_the_check_some_of_these_messages_would_pass",
    ),
    "G3": _row("a transaction of the provider pays one payment", _GUARD, _TWIN),
    "G4": _row("a message is in the inbox once", _GUARD, _TWIN),
    "G5": _row("a fact is counted once", _GUARD, _TWIN),
    "G6": _row("strangers make us ask so often and no more", _GUARD, _TWIN),
    "G7": _row(
        "what is unknown is reserved",
        _GUARD,
        _TWIN,
        f"{PROOF}races.py::test_twin_without_the_reservation_who_is_overtaken_gives_it_a_second_time",
    ),
    "G8": _row("one call on an authorization at a time", _GUARD, _TWIN),
    "G9": _row("the lease: who claims a call sends it", _GUARD, _TWIN),
    "G10": _row(
        "no second try where the provider does not know the key", _GUARD, _TWIN
    ),
    "G11": _row("what is unknown is asked about", _GUARD, _TWIN),
    "G12": _row("the caller's key", _GUARD, _TWIN),
    "G13": _row("no call inside a transaction", _GUARD, _TWIN),
    "G14": _row("never more than is left", _GUARD, _TWIN),
    "G15": _row(
        "the intent is committed before the call",
        f"{PROOF}crashes.py::test_kill_9_at_any_step_of_a_move",
        f"{PROOF}crashes.py::test_twin_without_the_intent_a_kill_doubles_the_money",
    ),
    "G16": _row(
        "the payment's lock",
        f"{MOVES}test_of_sixteen_refunds_of_sixty_out_of_a_hundred_one_is_sent",
        f"{MOVES}test_twin_without_the_lock_more_is_sent_than_was_taken",
        f"{RACES}test_twin_without_the_lock_the_money_is_forgotten_where_rows_are_locked_singly",
        f"{FLOWS}at_once.py::test_a_failure_that_waited_for_the_money_does_not_forget_it",
    ),
    "G17": _row(
        "the plan's lock, and the unique attempt behind it",
        f"{FLOWS}plan_races.py::test_a_retry_and_the_buyer_in_person_are_not_both_let_through",
        f"{FLOWS}plan_races.py::test_without_the_lock_the_unique_attempt_is_the_second_guard",
        f"{FLOWS}plan_races.py::test_twin_without_either_the_buyer_is_charged_twice",
    ),
    "G18": _row(
        "the key of a charge, and the look at its method",
        f"{FLOWS}token_races.py::test_a_deletion_before_the_claim_stops_the_charge",
        f"{FLOWS}token_races.py::test_twin_without_the_key_each_is_meant",
        f"{FLOWS}token_races.py::test_twin_where_the_claim_does_not_look_at_the_method_it_is_charged",
    ),
    "G19": _row(
        "the claim on what is due",
        f"{FLOWS}reconcile_shared.py::test_a_row_that_somebody_has_locked_is_passed_by",
        f"{FLOWS}reconcile_shared.py::test_without_the_claim_both_processes_ask_about_all",
        f"{FLOWS}endpoints.py::test_twin_without_the_claim_events_are_sent_several_times",
    ),
    "G20": _row(
        "an idempotency key of the API",
        "api/test_idempotency.py::test_of_equal_requests_at_once_one_is_carried_out",
        "api/test_idempotency.py::test_without_the_claim_they_would_all_pass",
        "api/test_idempotency.py::test_without_the_key_for_the_flows_a_crash_would_double",
    ),
    "G21": _row(
        "the look at the other attempts of an order",
        f"{FLOWS}attempts.py::test_late_money_for_an_order_that_was_paid_again_is_held",
        f"{FLOWS}attempts.py::test_without_the_look_at_the_others_nobody_would_notice",
    ),
    "G22": _row(
        "card numbers are masked",
        CANARIES,
        f"{PROOF}canaries.py::test_twin_without_the_mask_card_numbers_are_found",
    ),
    "G23": _row(
        "the address of an endpoint",
        "test_outgoing.py::test_no_trick_reaches_our_own_net",
        "test_outgoing.py::test_twin_without_the_look_at_the_address_tricks_arrive",
    ),
    "G24": _row("one worker opens a payment", _GUARD, _TWIN),
}
"""What stands in the way, and the tests that it does and that it would be missed."""


def tables(rows: Mapping[str, Row]) -> str:
    """Return the rows as a table for the docs."""
    lines = ["| | What | Test |", "|---|---|---|"]
    for number, row in rows.items():
        names = "<br>".join(f"`{test.partition('::')[2]}`" for test in row.tests)
        lines.append(f"| {number} | {row.title} | {names or '—'} |")
    return "".join(f"{line}\n" for line in lines)
