from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("multipay", "0008_tokens"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="recurringplan",
            options={
                "ordering": ["-id"],
                "permissions": [
                    ("manage_plan", "Can change, charge and cancel recurring plans")
                ],
                "verbose_name": "recurring plan",
                "verbose_name_plural": "recurring plans",
            },
        ),
        migrations.RemoveConstraint(
            model_name="payment",
            name="multipay_payment_plan_due",
        ),
        migrations.AddField(
            model_name="operation",
            name="at_period_end",
            field=models.BooleanField(default=False),
        ),
        migrations.AlterField(
            model_name="payment",
            name="decline_code",
            field=models.CharField(
                blank=True,
                choices=[
                    ("generic", "The payment was declined."),
                    ("insufficient_funds", "There are not enough funds."),
                    ("limit_exceeded", "A limit of the card was exceeded."),
                    ("expired_card", "The card has expired."),
                    ("incorrect_data", "The card data were not accepted."),
                    ("incorrect_cvc", "The security code was not accepted."),
                    (
                        "authentication_failed",
                        "The bank could not confirm that it was you.",
                    ),
                    ("lost_or_stolen", "The card cannot be used."),
                    ("suspected_fraud", "The payment was refused by a risk check."),
                    ("not_supported", "This card or method is not accepted here."),
                    ("contact_issuer", "Please contact your bank."),
                    ("canceled_by_buyer", "The payment was canceled."),
                    ("temporary", "The provider had a problem. Please try again."),
                    ("not_asked", "This way to pay is out of order at the moment."),
                ],
                editable=False,
                max_length=32,
            ),
        ),
        migrations.AddField(
            model_name="payment",
            name="plan_attempt",
            field=models.PositiveSmallIntegerField(default=0, editable=False),
        ),
        migrations.AddField(
            model_name="payment",
            name="plan_told",
            field=models.BooleanField(default=False, editable=False),
        ),
        migrations.AddField(
            model_name="recurringplan",
            name="attempts",
            field=models.PositiveSmallIntegerField(default=0, editable=False),
        ),
        migrations.AddField(
            model_name="recurringplan",
            name="buyer_country",
            field=models.CharField(blank=True, max_length=2, verbose_name="country"),
        ),
        migrations.AddField(
            model_name="recurringplan",
            name="buyer_email",
            field=models.EmailField(blank=True, max_length=254, verbose_name="e-mail"),
        ),
        migrations.AddField(
            model_name="recurringplan",
            name="buyer_name",
            field=models.CharField(blank=True, max_length=150, verbose_name="buyer"),
        ),
        migrations.AddField(
            model_name="recurringplan",
            name="buyer_phone",
            field=models.CharField(blank=True, max_length=40, verbose_name="phone"),
        ),
        migrations.AddField(
            model_name="recurringplan",
            name="buyer_until",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="recurringplan",
            name="canceled_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="recurringplan",
            name="decline_code",
            field=models.CharField(
                blank=True,
                choices=[
                    ("generic", "The payment was declined."),
                    ("insufficient_funds", "There are not enough funds."),
                    ("limit_exceeded", "A limit of the card was exceeded."),
                    ("expired_card", "The card has expired."),
                    ("incorrect_data", "The card data were not accepted."),
                    ("incorrect_cvc", "The security code was not accepted."),
                    (
                        "authentication_failed",
                        "The bank could not confirm that it was you.",
                    ),
                    ("lost_or_stolen", "The card cannot be used."),
                    ("suspected_fraud", "The payment was refused by a risk check."),
                    ("not_supported", "This card or method is not accepted here."),
                    ("contact_issuer", "Please contact your bank."),
                    ("canceled_by_buyer", "The payment was canceled."),
                    ("temporary", "The provider had a problem. Please try again."),
                    ("not_asked", "This way to pay is out of order at the moment."),
                ],
                editable=False,
                max_length=32,
            ),
        ),
        migrations.AddField(
            model_name="recurringplan",
            name="description",
            field=models.CharField(
                blank=True, max_length=255, verbose_name="description"
            ),
        ),
        migrations.AddField(
            model_name="recurringplan",
            name="failure_url",
            field=models.CharField(blank=True, max_length=500),
        ),
        migrations.AddField(
            model_name="recurringplan",
            name="is_ending",
            field=models.BooleanField(default=False, editable=False),
        ),
        migrations.AddField(
            model_name="recurringplan",
            name="last_error",
            field=models.CharField(blank=True, editable=False, max_length=255),
        ),
        migrations.AddField(
            model_name="recurringplan",
            name="locale",
            field=models.CharField(blank=True, max_length=16),
        ),
        migrations.AddField(
            model_name="recurringplan",
            name="needs_buyer",
            field=models.BooleanField(
                default=False, editable=False, verbose_name="needs the buyer"
            ),
        ),
        migrations.AddField(
            model_name="recurringplan",
            name="order_id",
            field=models.CharField(
                blank=True, db_index=True, max_length=64, verbose_name="order"
            ),
        ),
        migrations.AddField(
            model_name="recurringplan",
            name="past_due_since",
            field=models.DateField(
                editable=False, null=True, verbose_name="past due since"
            ),
        ),
        migrations.AddField(
            model_name="recurringplan",
            name="period",
            field=models.PositiveIntegerField(default=0, editable=False),
        ),
        migrations.AddField(
            model_name="recurringplan",
            name="success_url",
            field=models.CharField(blank=True, max_length=500),
        ),
        migrations.AddField(
            model_name="recurringplan",
            name="sync_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="recurringplan",
            name="tried_on",
            field=models.DateField(editable=False, null=True),
        ),
        migrations.AlterField(
            model_name="recurringplan",
            name="ends_on",
            field=models.DateField(blank=True, null=True, verbose_name="ends on"),
        ),
        migrations.AlterField(
            model_name="recurringplan",
            name="next_on",
            field=models.DateField(blank=True, null=True, verbose_name="next charge"),
        ),
        migrations.AlterField(
            model_name="recurringplan",
            name="start_on",
            field=models.DateField(verbose_name="first day"),
        ),
        migrations.AlterField(
            model_name="recurringplan",
            name="status",
            field=models.CharField(
                choices=[
                    ("pending", "pending"),
                    ("active", "active"),
                    ("past_due", "past due"),
                    ("paused", "paused"),
                    ("canceled", "canceled"),
                    ("ended", "ended"),
                ],
                default="pending",
                max_length=10,
            ),
        ),
        migrations.AddIndex(
            model_name="recurringplan",
            index=models.Index(fields=["status", "next_on"], name="multipay_plan_due"),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.UniqueConstraint(
                fields=("plan", "plan_due_on", "plan_attempt"),
                name="multipay_payment_plan_due",
            ),
        ),
    ]
