import uuid

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

import django_multipay.models.fields
import django_multipay.models.operation
import django_multipay.models.payment


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Payment",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
                (
                    "uuid",
                    models.UUIDField(default=uuid.uuid4, editable=False, unique=True),
                ),
                (
                    "provider",
                    models.CharField(
                        blank=True, max_length=64, verbose_name="provider"
                    ),
                ),
                (
                    "order_id",
                    models.CharField(
                        db_index=True, max_length=64, verbose_name="order"
                    ),
                ),
                (
                    "merchant_reference",
                    models.CharField(
                        default=django_multipay.models.payment.new_merchant_reference,
                        editable=False,
                        max_length=30,
                        unique=True,
                        verbose_name="our reference",
                    ),
                ),
                (
                    "provider_reference",
                    models.CharField(
                        editable=False,
                        max_length=128,
                        null=True,
                        verbose_name="provider's reference",
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("created", "created"),
                            ("pending", "pending"),
                            ("awaiting_funds", "awaiting deposit"),
                            ("in_review", "in review"),
                            ("authenticated", "authenticated, not charged"),
                            ("authorized", "authorized"),
                            ("paid", "paid"),
                            ("partially_refunded", "partially refunded"),
                            ("refunded", "refunded"),
                            ("failed", "failed"),
                            ("canceled", "canceled"),
                            ("expired", "expired"),
                        ],
                        default="created",
                        editable=False,
                        max_length=20,
                        verbose_name="status",
                    ),
                ),
                ("amount_minor", models.BigIntegerField(editable=False)),
                ("authorized_minor", models.BigIntegerField(default=0, editable=False)),
                ("captured_minor", models.BigIntegerField(default=0, editable=False)),
                ("refunded_minor", models.BigIntegerField(default=0, editable=False)),
                ("currency", models.CharField(editable=False, max_length=8)),
                (
                    "capture_mode",
                    models.CharField(
                        choices=[("automatic", "automatic"), ("manual", "manual")],
                        default="automatic",
                        max_length=10,
                    ),
                ),
                (
                    "method",
                    models.CharField(blank=True, max_length=64, verbose_name="method"),
                ),
                (
                    "description",
                    models.CharField(
                        blank=True, max_length=255, verbose_name="description"
                    ),
                ),
                ("items", models.JSONField(blank=True, default=list)),
                (
                    "buyer_name",
                    models.CharField(blank=True, max_length=150, verbose_name="buyer"),
                ),
                (
                    "buyer_email",
                    models.EmailField(
                        blank=True, max_length=254, verbose_name="e-mail"
                    ),
                ),
                (
                    "buyer_phone",
                    models.CharField(blank=True, max_length=40, verbose_name="phone"),
                ),
                (
                    "buyer_country",
                    models.CharField(blank=True, max_length=2, verbose_name="country"),
                ),
                (
                    "customer_id",
                    models.CharField(
                        blank=True, max_length=64, verbose_name="customer"
                    ),
                ),
                ("locale", models.CharField(blank=True, max_length=16)),
                ("success_url", models.CharField(blank=True, max_length=500)),
                ("failure_url", models.CharField(blank=True, max_length=500)),
                ("metadata", models.JSONField(blank=True, default=dict)),
                ("details", models.JSONField(blank=True, default=dict, editable=False)),
                (
                    "next_action",
                    models.JSONField(blank=True, editable=False, null=True),
                ),
                (
                    "decline_code",
                    models.CharField(
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
                            (
                                "suspected_fraud",
                                "The payment was refused by a risk check.",
                            ),
                            (
                                "not_supported",
                                "This card or method is not accepted here.",
                            ),
                            ("contact_issuer", "Please contact your bank."),
                            ("canceled_by_buyer", "The payment was canceled."),
                            (
                                "temporary",
                                "The provider had a problem. Please try again.",
                            ),
                        ],
                        editable=False,
                        max_length=32,
                    ),
                ),
                (
                    "review_reason",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("account_mismatch", "another merchant account was named"),
                            ("reference_mismatch", "another order was named"),
                            ("amount_mismatch", "the amount differs from ours"),
                            ("currency_mismatch", "the currency differs from ours"),
                            ("mode_mismatch", "test and live mode were mixed"),
                            (
                                "field_missing",
                                "the message lacks a field we must compare",
                            ),
                            ("overpaid", "more money arrived than was asked for"),
                            ("underpaid", "less money arrived than was asked for"),
                            (
                                "contradiction",
                                "the provider reported success and failure",
                            ),
                            (
                                "risk_review",
                                "the provider's risk check wants a decision",
                            ),
                            ("chargeback", "the buyer's bank took the money back"),
                        ],
                        editable=False,
                        max_length=32,
                    ),
                ),
                ("save_token", models.BooleanField(default=False)),
                (
                    "checkout_data",
                    django_multipay.models.fields.EncryptedJSONField(
                        blank=True, default=None, editable=False
                    ),
                ),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                ("paid_at", models.DateTimeField(editable=False, null=True)),
                ("started_at", models.DateTimeField(editable=False, null=True)),
                ("sync_at", models.DateTimeField(editable=False, null=True)),
                (
                    "sync_attempts",
                    models.PositiveSmallIntegerField(default=0, editable=False),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("updated_at", models.DateTimeField(auto_now=True)),
                ("plan_due_on", models.DateField(editable=False, null=True)),
            ],
            options={
                "verbose_name": "payment",
                "verbose_name_plural": "payments",
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="RecurringPlan",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
                (
                    "uuid",
                    models.UUIDField(default=uuid.uuid4, editable=False, unique=True),
                ),
                ("provider", models.CharField(max_length=64, verbose_name="provider")),
                (
                    "customer_id",
                    models.CharField(
                        db_index=True, max_length=64, verbose_name="customer"
                    ),
                ),
                (
                    "provider_reference",
                    models.CharField(editable=False, max_length=128, null=True),
                ),
                ("amount_minor", models.BigIntegerField(editable=False)),
                ("currency", models.CharField(editable=False, max_length=8)),
                ("interval_months", models.PositiveSmallIntegerField(default=1)),
                ("start_on", models.DateField()),
                ("next_on", models.DateField(blank=True, null=True)),
                ("ends_on", models.DateField(blank=True, null=True)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("pending", "pending"),
                            ("active", "active"),
                            ("past_due", "past due"),
                            ("canceled", "canceled"),
                            ("ended", "ended"),
                        ],
                        default="pending",
                        max_length=10,
                    ),
                ),
                (
                    "managed_by",
                    models.CharField(
                        choices=[("provider", "the provider"), ("app", "this site")],
                        max_length=10,
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("updated_at", models.DateTimeField(auto_now=True)),
                (
                    "first_payment",
                    models.OneToOneField(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="registered_plan",
                        to="multipay.payment",
                    ),
                ),
            ],
            options={
                "verbose_name": "recurring plan",
                "verbose_name_plural": "recurring plans",
                "ordering": ["-id"],
            },
        ),
        migrations.AddField(
            model_name="payment",
            name="plan",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="payments",
                to="multipay.recurringplan",
            ),
        ),
        migrations.CreateModel(
            name="Refund",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
                (
                    "uuid",
                    models.UUIDField(default=uuid.uuid4, editable=False, unique=True),
                ),
                (
                    "merchant_reference",
                    models.CharField(
                        default=django_multipay.models.payment.new_merchant_reference,
                        editable=False,
                        max_length=30,
                        unique=True,
                    ),
                ),
                (
                    "provider_reference",
                    models.CharField(blank=True, editable=False, max_length=128),
                ),
                ("amount_minor", models.BigIntegerField(editable=False)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("requested", "requested"),
                            ("pending", "pending"),
                            ("succeeded", "succeeded"),
                            ("failed", "failed"),
                            ("unknown", "outcome unknown"),
                        ],
                        default="requested",
                        editable=False,
                        max_length=12,
                    ),
                ),
                ("reason", models.CharField(blank=True, max_length=255)),
                ("requested_by", models.CharField(blank=True, max_length=150)),
                (
                    "account",
                    django_multipay.models.fields.EncryptedJSONField(
                        blank=True, default=None, editable=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("updated_at", models.DateTimeField(auto_now=True)),
                (
                    "payment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="refunds",
                        to="multipay.payment",
                    ),
                ),
            ],
            options={
                "verbose_name": "refund",
                "verbose_name_plural": "refunds",
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="Token",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
                (
                    "uuid",
                    models.UUIDField(default=uuid.uuid4, editable=False, unique=True),
                ),
                ("provider", models.CharField(max_length=64, verbose_name="provider")),
                (
                    "customer_id",
                    models.CharField(
                        db_index=True, max_length=64, verbose_name="customer"
                    ),
                ),
                (
                    "provider_token",
                    django_multipay.models.fields.EncryptedJSONField(editable=False),
                ),
                ("token_digest", models.CharField(editable=False, max_length=64)),
                (
                    "fingerprint",
                    models.CharField(blank=True, editable=False, max_length=64),
                ),
                ("brand", models.CharField(blank=True, max_length=32)),
                ("last4", models.CharField(blank=True, max_length=4)),
                ("expires_on", models.DateField(blank=True, null=True)),
                (
                    "status",
                    models.CharField(
                        choices=[("active", "active"), ("deleted", "deleted")],
                        default="active",
                        max_length=10,
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("updated_at", models.DateTimeField(auto_now=True)),
                (
                    "created_by_payment",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="created_tokens",
                        to="multipay.payment",
                    ),
                ),
            ],
            options={
                "verbose_name": "saved method",
                "verbose_name_plural": "saved methods",
                "ordering": ["-id"],
            },
        ),
        migrations.AddField(
            model_name="recurringplan",
            name="token",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="plans",
                to="multipay.token",
            ),
        ),
        migrations.AddField(
            model_name="payment",
            name="token",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="payments",
                to="multipay.token",
            ),
        ),
        migrations.CreateModel(
            name="Operation",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
                (
                    "key",
                    models.CharField(
                        default=django_multipay.models.operation.new_key,
                        editable=False,
                        max_length=32,
                        unique=True,
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("checkout", "start of the checkout"),
                            ("confirm", "confirmation"),
                            ("capture", "capture"),
                            ("void", "void"),
                            ("refund", "refund"),
                            ("settle", "settlement"),
                            ("charge", "charge of a saved method"),
                            ("delete_token", "deletion of a saved method"),
                            ("change_plan", "change of a plan"),
                            ("cancel_plan", "cancellation of a plan"),
                        ],
                        max_length=16,
                    ),
                ),
                ("amount_minor", models.BigIntegerField(default=0, editable=False)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("requested", "requested"),
                            ("in_flight", "in flight"),
                            ("succeeded", "succeeded"),
                            ("refused", "refused"),
                            ("unknown", "outcome unknown"),
                            ("abandoned", "abandoned by staff"),
                        ],
                        default="requested",
                        max_length=10,
                    ),
                ),
                ("open_slot", models.CharField(max_length=64, null=True, unique=True)),
                ("client_key", models.CharField(max_length=64, null=True, unique=True)),
                ("client_fingerprint", models.CharField(blank=True, max_length=64)),
                ("lease_until", models.DateTimeField(null=True)),
                ("lease_token", models.CharField(blank=True, max_length=32)),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                ("actor", models.CharField(blank=True, max_length=150)),
                ("error", models.CharField(blank=True, max_length=255)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("updated_at", models.DateTimeField(auto_now=True)),
                (
                    "payment",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="operations",
                        to="multipay.payment",
                    ),
                ),
                (
                    "plan",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="operations",
                        to="multipay.recurringplan",
                    ),
                ),
                (
                    "refund",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="operations",
                        to="multipay.refund",
                    ),
                ),
                (
                    "token",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="operations",
                        to="multipay.token",
                    ),
                ),
            ],
            options={
                "verbose_name": "operation",
                "verbose_name_plural": "operations",
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="Transaction",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("registration", "registered, waiting for the deposit"),
                            ("authentication", "buyer authenticated"),
                            ("authorization", "authorization"),
                            ("capture", "capture"),
                            ("capture_reversal", "capture taken back"),
                            ("refund", "refund"),
                            ("void", "void"),
                            ("chargeback", "chargeback"),
                            ("chargeback_reversal", "chargeback won"),
                            ("failure", "failure"),
                            ("cancellation", "canceled by the buyer"),
                            ("expiry", "expiry"),
                            ("review_hold", "held for risk review"),
                            ("review_release", "risk review passed"),
                            ("discrepancy", "does not fit our record"),
                        ],
                        max_length=24,
                    ),
                ),
                ("amount_minor", models.BigIntegerField(default=0, editable=False)),
                ("currency", models.CharField(editable=False, max_length=8)),
                ("provider_reference", models.CharField(blank=True, max_length=128)),
                (
                    "source",
                    models.CharField(
                        choices=[
                            ("start", "start of the checkout"),
                            ("return", "buyer's return"),
                            ("webhook", "webhook"),
                            ("sync", "inquiry at the provider"),
                            ("operation", "answer to our call"),
                            ("staff", "staff"),
                        ],
                        max_length=12,
                    ),
                ),
                ("reason", models.CharField(blank=True, max_length=32)),
                ("detail", models.CharField(blank=True, max_length=255)),
                ("occurred_at", models.DateTimeField(null=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "payment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="transactions",
                        to="multipay.payment",
                    ),
                ),
            ],
            options={
                "verbose_name": "transaction",
                "verbose_name_plural": "transactions",
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="Notice",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
                (
                    "uuid",
                    models.UUIDField(default=uuid.uuid4, editable=False, unique=True),
                ),
                ("signals", models.JSONField(default=list)),
                (
                    "state",
                    models.CharField(
                        choices=[("waiting", "waiting"), ("delivered", "delivered")],
                        default="waiting",
                        max_length=10,
                    ),
                ),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                ("due_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("error", models.CharField(blank=True, max_length=255)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("delivered_at", models.DateTimeField(null=True)),
                (
                    "payment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="notices",
                        to="multipay.payment",
                    ),
                ),
                (
                    "transaction",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="notice",
                        to="multipay.transaction",
                    ),
                ),
            ],
            options={
                "verbose_name": "notice",
                "verbose_name_plural": "notices",
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="WebhookDelivery",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
                (
                    "uuid",
                    models.UUIDField(default=uuid.uuid4, editable=False, unique=True),
                ),
                ("provider", models.CharField(max_length=64, verbose_name="provider")),
                ("digest", models.CharField(editable=False, max_length=64)),
                ("source", models.CharField(editable=False, max_length=12)),
                (
                    "verdict",
                    models.CharField(
                        choices=[
                            ("stored", "stored, not applied yet"),
                            ("applied", "applied"),
                            ("ignored", "nothing new"),
                            ("held", "held for staff"),
                        ],
                        default="stored",
                        max_length=10,
                    ),
                ),
                ("headers", models.JSONField(default=dict, editable=False)),
                ("body", models.TextField(blank=True, editable=False)),
                (
                    "payload",
                    django_multipay.models.fields.EncryptedJSONField(
                        blank=True, default=None, editable=False
                    ),
                ),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                ("error", models.CharField(blank=True, max_length=255)),
                ("received_at", models.DateTimeField(auto_now_add=True)),
                ("retry_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("applied_at", models.DateTimeField(null=True)),
                (
                    "payment",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="deliveries",
                        to="multipay.payment",
                    ),
                ),
            ],
            options={
                "verbose_name": "webhook delivery",
                "verbose_name_plural": "webhook deliveries",
                "ordering": ["-id"],
            },
        ),
        migrations.AddConstraint(
            model_name="refund",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("amount_minor__gt", 0), ("amount_minor__lte", 1000000000000000)
                ),
                name="multipay_refund_amount",
            ),
        ),
        migrations.AddConstraint(
            model_name="refund",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "status__in",
                        ["requested", "pending", "succeeded", "failed", "unknown"],
                    )
                ),
                name="multipay_refund_known_status",
            ),
        ),
        migrations.AddConstraint(
            model_name="token",
            constraint=models.UniqueConstraint(
                fields=("provider", "token_digest"), name="multipay_token_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="recurringplan",
            constraint=models.UniqueConstraint(
                fields=("provider", "provider_reference"),
                name="multipay_plan_provider_reference",
            ),
        ),
        migrations.AddConstraint(
            model_name="recurringplan",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("amount_minor__gt", 0), ("amount_minor__lte", 1000000000000000)
                ),
                name="multipay_plan_amount",
            ),
        ),
        migrations.AddConstraint(
            model_name="recurringplan",
            constraint=models.CheckConstraint(
                condition=models.Q(("interval_months__gte", 1)),
                name="multipay_plan_interval",
            ),
        ),
        migrations.AddIndex(
            model_name="payment",
            index=models.Index(fields=["sync_at"], name="multipay_payment_sync"),
        ),
        migrations.AddIndex(
            model_name="payment",
            index=models.Index(
                fields=["status", "-id"], name="multipay_payment_status"
            ),
        ),
        migrations.AddIndex(
            model_name="payment",
            index=models.Index(
                fields=["customer_id"], name="multipay_payment_customer"
            ),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.UniqueConstraint(
                fields=("provider", "provider_reference"),
                name="multipay_payment_provider_reference",
            ),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.UniqueConstraint(
                fields=("plan", "plan_due_on"), name="multipay_payment_plan_due"
            ),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("amount_minor__gt", 0), ("amount_minor__lte", 1000000000000000)
                ),
                name="multipay_payment_amount",
            ),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("authorized_minor__gte", 0),
                    ("captured_minor__gte", 0),
                    ("refunded_minor__gte", 0),
                ),
                name="multipay_payment_sums",
            ),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "status__in",
                        [
                            "created",
                            "pending",
                            "awaiting_funds",
                            "in_review",
                            "authenticated",
                            "authorized",
                            "paid",
                            "partially_refunded",
                            "refunded",
                            "failed",
                            "canceled",
                            "expired",
                        ],
                    )
                ),
                name="multipay_payment_known_status",
            ),
        ),
        migrations.AddIndex(
            model_name="operation",
            index=models.Index(
                fields=["state", "lease_until"], name="multipay_operation_open"
            ),
        ),
        migrations.AddIndex(
            model_name="transaction",
            index=models.Index(
                fields=["provider_reference"], name="multipay_transaction_reference"
            ),
        ),
        migrations.AddConstraint(
            model_name="transaction",
            constraint=models.UniqueConstraint(
                fields=("payment", "kind", "provider_reference"),
                name="multipay_transaction_once",
            ),
        ),
        migrations.AddConstraint(
            model_name="transaction",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("amount_minor__gte", 0), ("amount_minor__lte", 1000000000000000)
                ),
                name="multipay_transaction_amount",
            ),
        ),
        migrations.AddIndex(
            model_name="notice",
            index=models.Index(fields=["state", "due_at"], name="multipay_notice_due"),
        ),
        migrations.AddIndex(
            model_name="webhookdelivery",
            index=models.Index(
                fields=["verdict", "retry_at"], name="multipay_delivery_verdict"
            ),
        ),
        migrations.AddConstraint(
            model_name="webhookdelivery",
            constraint=models.UniqueConstraint(
                fields=("provider", "digest"), name="multipay_delivery_once"
            ),
        ),
    ]
