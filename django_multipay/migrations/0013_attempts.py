from typing import Any

import django.db.models.deletion
from django.db import migrations, models


def open_what_was_left_to_the_buyer(apps: Any, schema_editor: Any) -> None:
    """Let payments from before be chosen for, and end, as those made from now on."""
    rows = apps.get_model("multipay", "Payment").objects
    payments = rows.using(schema_editor.connection.alias)
    payments.exclude(expires_at=None).update(pay_until=models.F("expires_at"))
    unopened = payments.filter(status="created")
    unopened.filter(provider="").update(is_provider_open=True)
    unopened.filter(method="", token=None).update(is_method_open=True)


class Migration(migrations.Migration):
    dependencies = [
        ("multipay", "0012_idempotency"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="payment",
            options={
                "ordering": ["-id"],
                "permissions": [
                    ("refund_payment", "Can refund payments"),
                    ("capture_payment", "Can capture, confirm and settle payments"),
                    ("void_payment", "Can void payments"),
                    ("view_buyer_data", "Can see buyers' names, addresses and numbers"),
                    ("add_payment_link", "Can create payment links and send them"),
                ],
                "verbose_name": "payment",
                "verbose_name_plural": "payments",
            },
        ),
        migrations.AddField(
            model_name="payment",
            name="is_method_open",
            field=models.BooleanField(default=False, editable=False),
        ),
        migrations.AddField(
            model_name="payment",
            name="is_provider_open",
            field=models.BooleanField(default=False, editable=False),
        ),
        migrations.AddField(
            model_name="payment",
            name="pay_until",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="payment",
            name="retry_of",
            field=models.OneToOneField(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="retry",
                to="multipay.payment",
            ),
        ),
        migrations.AlterField(
            model_name="payment",
            name="review_reason",
            field=models.CharField(
                blank=True,
                choices=[
                    ("account_mismatch", "another merchant account was named"),
                    ("reference_mismatch", "another order was named"),
                    ("amount_mismatch", "the amount differs from ours"),
                    ("currency_mismatch", "the currency differs from ours"),
                    ("mode_mismatch", "test and live mode were mixed"),
                    ("field_missing", "the message lacks a field we must compare"),
                    ("overpaid", "more money arrived than was asked for"),
                    ("underpaid", "less money arrived than was asked for"),
                    ("contradiction", "the provider reported success and failure"),
                    ("risk_review", "the provider's risk check wants a decision"),
                    ("chargeback", "the buyer's bank took the money back"),
                    ("paid_twice", "another attempt of the same order was paid too"),
                ],
                editable=False,
                max_length=32,
            ),
        ),
        migrations.RunPython(
            open_what_was_left_to_the_buyer, migrations.RunPython.noop, elidable=True
        ),
    ]
