import uuid

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

import django_multipay.models.payment


class Migration(migrations.Migration):
    dependencies = [
        ("multipay", "0013_attempts"),
    ]

    operations = [
        migrations.AlterField(
            model_name="batch",
            name="created_at",
            field=models.DateTimeField(auto_now_add=True, verbose_name="created at"),
        ),
        migrations.AlterField(
            model_name="batch",
            name="uuid",
            field=models.UUIDField(
                default=uuid.uuid4,
                editable=False,
                unique=True,
                verbose_name="public id",
            ),
        ),
        migrations.AlterField(
            model_name="endpoint",
            name="created_at",
            field=models.DateTimeField(auto_now_add=True, verbose_name="created at"),
        ),
        migrations.AlterField(
            model_name="endpointdelivery",
            name="created_at",
            field=models.DateTimeField(auto_now_add=True, verbose_name="created at"),
        ),
        migrations.AlterField(
            model_name="endpointdelivery",
            name="delivered_at",
            field=models.DateTimeField(null=True, verbose_name="delivered at"),
        ),
        migrations.AlterField(
            model_name="endpointdelivery",
            name="due_at",
            field=models.DateTimeField(
                default=django.utils.timezone.now, verbose_name="not before"
            ),
        ),
        migrations.AlterField(
            model_name="endpointdelivery",
            name="endpoint",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="deliveries",
                to="multipay.endpoint",
                verbose_name="endpoint",
            ),
        ),
        migrations.AlterField(
            model_name="endpointdelivery",
            name="notice",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="endpoint_deliveries",
                to="multipay.notice",
                verbose_name="notice",
            ),
        ),
        migrations.AlterField(
            model_name="notice",
            name="attempts",
            field=models.PositiveSmallIntegerField(default=0, verbose_name="attempts"),
        ),
        migrations.AlterField(
            model_name="notice",
            name="created_at",
            field=models.DateTimeField(auto_now_add=True, verbose_name="created at"),
        ),
        migrations.AlterField(
            model_name="notice",
            name="delivered_at",
            field=models.DateTimeField(null=True, verbose_name="delivered at"),
        ),
        migrations.AlterField(
            model_name="notice",
            name="due_at",
            field=models.DateTimeField(
                default=django.utils.timezone.now, verbose_name="not before"
            ),
        ),
        migrations.AlterField(
            model_name="notice",
            name="error",
            field=models.CharField(blank=True, max_length=255, verbose_name="error"),
        ),
        migrations.AlterField(
            model_name="notice",
            name="payment",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="notices",
                to="multipay.payment",
                verbose_name="payment",
            ),
        ),
        migrations.AlterField(
            model_name="notice",
            name="plan",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="notices",
                to="multipay.recurringplan",
                verbose_name="recurring plan",
            ),
        ),
        migrations.AlterField(
            model_name="notice",
            name="refund",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="notices",
                to="multipay.refund",
                verbose_name="refund",
            ),
        ),
        migrations.AlterField(
            model_name="notice",
            name="signals",
            field=models.JSONField(default=list, verbose_name="signals"),
        ),
        migrations.AlterField(
            model_name="notice",
            name="state",
            field=models.CharField(
                choices=[("waiting", "waiting"), ("delivered", "delivered")],
                default="waiting",
                max_length=10,
                verbose_name="state",
            ),
        ),
        migrations.AlterField(
            model_name="notice",
            name="token",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="notices",
                to="multipay.token",
                verbose_name="saved method",
            ),
        ),
        migrations.AlterField(
            model_name="notice",
            name="transaction",
            field=models.OneToOneField(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="notice",
                to="multipay.transaction",
                verbose_name="transaction",
            ),
        ),
        migrations.AlterField(
            model_name="notice",
            name="uuid",
            field=models.UUIDField(
                default=uuid.uuid4,
                editable=False,
                unique=True,
                verbose_name="public id",
            ),
        ),
        migrations.AlterField(
            model_name="operation",
            name="actor",
            field=models.CharField(
                blank=True, max_length=150, verbose_name="asked for by"
            ),
        ),
        migrations.AlterField(
            model_name="operation",
            name="approved_by",
            field=models.CharField(
                blank=True, max_length=150, verbose_name="approved by"
            ),
        ),
        migrations.AlterField(
            model_name="operation",
            name="at_period_end",
            field=models.BooleanField(
                default=False, verbose_name="at the end of the period"
            ),
        ),
        migrations.AlterField(
            model_name="operation",
            name="attempts",
            field=models.PositiveSmallIntegerField(default=0, verbose_name="attempts"),
        ),
        migrations.AlterField(
            model_name="operation",
            name="created_at",
            field=models.DateTimeField(auto_now_add=True, verbose_name="created at"),
        ),
        migrations.AlterField(
            model_name="operation",
            name="error",
            field=models.CharField(blank=True, max_length=255, verbose_name="error"),
        ),
        migrations.AlterField(
            model_name="operation",
            name="kind",
            field=models.CharField(
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
                verbose_name="kind",
            ),
        ),
        migrations.AlterField(
            model_name="operation",
            name="lease_until",
            field=models.DateTimeField(null=True, verbose_name="leased until"),
        ),
        migrations.AlterField(
            model_name="operation",
            name="needs_approval",
            field=models.BooleanField(default=False, verbose_name="needs approval"),
        ),
        migrations.AlterField(
            model_name="operation",
            name="open_slot",
            field=models.CharField(
                max_length=64, null=True, unique=True, verbose_name="open slot"
            ),
        ),
        migrations.AlterField(
            model_name="operation",
            name="payment",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="operations",
                to="multipay.payment",
                verbose_name="payment",
            ),
        ),
        migrations.AlterField(
            model_name="operation",
            name="plan",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="operations",
                to="multipay.recurringplan",
                verbose_name="recurring plan",
            ),
        ),
        migrations.AlterField(
            model_name="operation",
            name="refund",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="operations",
                to="multipay.refund",
                verbose_name="refund",
            ),
        ),
        migrations.AlterField(
            model_name="operation",
            name="retry_at",
            field=models.DateTimeField(
                default=django.utils.timezone.now, verbose_name="not before"
            ),
        ),
        migrations.AlterField(
            model_name="operation",
            name="state",
            field=models.CharField(
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
                verbose_name="state",
            ),
        ),
        migrations.AlterField(
            model_name="operation",
            name="token",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="operations",
                to="multipay.token",
                verbose_name="saved method",
            ),
        ),
        migrations.AlterField(
            model_name="operation",
            name="updated_at",
            field=models.DateTimeField(auto_now=True, verbose_name="updated at"),
        ),
        migrations.AlterField(
            model_name="payment",
            name="uuid",
            field=models.UUIDField(
                default=uuid.uuid4,
                editable=False,
                unique=True,
                verbose_name="public id",
            ),
        ),
        migrations.AlterField(
            model_name="recurringplan",
            name="created_at",
            field=models.DateTimeField(auto_now_add=True, verbose_name="created at"),
        ),
        migrations.AlterField(
            model_name="recurringplan",
            name="interval_months",
            field=models.PositiveSmallIntegerField(
                default=1, verbose_name="months between charges"
            ),
        ),
        migrations.AlterField(
            model_name="recurringplan",
            name="managed_by",
            field=models.CharField(
                choices=[("provider", "the provider"), ("app", "this site")],
                max_length=10,
                verbose_name="charged by",
            ),
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
                verbose_name="status",
            ),
        ),
        migrations.AlterField(
            model_name="refund",
            name="created_at",
            field=models.DateTimeField(auto_now_add=True, verbose_name="created at"),
        ),
        migrations.AlterField(
            model_name="refund",
            name="error",
            field=models.CharField(
                blank=True, editable=False, max_length=255, verbose_name="error"
            ),
        ),
        migrations.AlterField(
            model_name="refund",
            name="is_external",
            field=models.BooleanField(
                default=False, editable=False, verbose_name="made at the provider"
            ),
        ),
        migrations.AlterField(
            model_name="refund",
            name="merchant_reference",
            field=models.CharField(
                default=django_multipay.models.payment.new_merchant_reference,
                editable=False,
                max_length=30,
                unique=True,
                verbose_name="our reference",
            ),
        ),
        migrations.AlterField(
            model_name="refund",
            name="payment",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="refunds",
                to="multipay.payment",
                verbose_name="payment",
            ),
        ),
        migrations.AlterField(
            model_name="refund",
            name="provider_reference",
            field=models.CharField(
                blank=True,
                editable=False,
                max_length=128,
                verbose_name="provider's reference",
            ),
        ),
        migrations.AlterField(
            model_name="refund",
            name="reason",
            field=models.CharField(blank=True, max_length=255, verbose_name="reason"),
        ),
        migrations.AlterField(
            model_name="refund",
            name="requested_by",
            field=models.CharField(
                blank=True, max_length=150, verbose_name="asked for by"
            ),
        ),
        migrations.AlterField(
            model_name="refund",
            name="status",
            field=models.CharField(
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
                verbose_name="status",
            ),
        ),
        migrations.AlterField(
            model_name="refund",
            name="sync_at",
            field=models.DateTimeField(
                editable=False, null=True, verbose_name="next check"
            ),
        ),
        migrations.AlterField(
            model_name="refund",
            name="sync_attempts",
            field=models.PositiveSmallIntegerField(
                default=0, editable=False, verbose_name="checks"
            ),
        ),
        migrations.AlterField(
            model_name="refund",
            name="updated_at",
            field=models.DateTimeField(auto_now=True, verbose_name="updated at"),
        ),
        migrations.AlterField(
            model_name="refund",
            name="uuid",
            field=models.UUIDField(
                default=uuid.uuid4,
                editable=False,
                unique=True,
                verbose_name="public id",
            ),
        ),
        migrations.AlterField(
            model_name="token",
            name="brand",
            field=models.CharField(blank=True, max_length=32, verbose_name="brand"),
        ),
        migrations.AlterField(
            model_name="token",
            name="created_at",
            field=models.DateTimeField(auto_now_add=True, verbose_name="created at"),
        ),
        migrations.AlterField(
            model_name="token",
            name="created_by_payment",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="created_tokens",
                to="multipay.payment",
                verbose_name="saved by",
            ),
        ),
        migrations.AlterField(
            model_name="token",
            name="ended_at",
            field=models.DateTimeField(
                blank=True, editable=False, null=True, verbose_name="ended at"
            ),
        ),
        migrations.AlterField(
            model_name="token",
            name="expires_on",
            field=models.DateField(blank=True, null=True, verbose_name="expires on"),
        ),
        migrations.AlterField(
            model_name="token",
            name="expiry_told_at",
            field=models.DateTimeField(
                blank=True,
                editable=False,
                null=True,
                verbose_name="shop told of the expiry at",
            ),
        ),
        migrations.AlterField(
            model_name="token",
            name="last4",
            field=models.CharField(
                blank=True, max_length=4, verbose_name="last digits"
            ),
        ),
        migrations.AlterField(
            model_name="token",
            name="status",
            field=models.CharField(
                choices=[
                    ("active", "active"),
                    ("dead", "no longer accepted"),
                    ("deleted", "deleted"),
                ],
                default="active",
                max_length=10,
                verbose_name="status",
            ),
        ),
        migrations.AlterField(
            model_name="token",
            name="updated_at",
            field=models.DateTimeField(auto_now=True, verbose_name="updated at"),
        ),
        migrations.AlterField(
            model_name="token",
            name="uuid",
            field=models.UUIDField(
                default=uuid.uuid4,
                editable=False,
                unique=True,
                verbose_name="public id",
            ),
        ),
        migrations.AlterField(
            model_name="webhookdelivery",
            name="applied_at",
            field=models.DateTimeField(null=True, verbose_name="applied at"),
        ),
        migrations.AlterField(
            model_name="webhookdelivery",
            name="attempts",
            field=models.PositiveSmallIntegerField(default=0, verbose_name="attempts"),
        ),
        migrations.AlterField(
            model_name="webhookdelivery",
            name="body",
            field=models.TextField(blank=True, editable=False, verbose_name="body"),
        ),
        migrations.AlterField(
            model_name="webhookdelivery",
            name="error",
            field=models.CharField(blank=True, max_length=255, verbose_name="error"),
        ),
        migrations.AlterField(
            model_name="webhookdelivery",
            name="headers",
            field=models.JSONField(
                default=dict, editable=False, verbose_name="headers"
            ),
        ),
        migrations.AlterField(
            model_name="webhookdelivery",
            name="payment",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="deliveries",
                to="multipay.payment",
                verbose_name="payment",
            ),
        ),
        migrations.AlterField(
            model_name="webhookdelivery",
            name="received_at",
            field=models.DateTimeField(auto_now_add=True, verbose_name="received at"),
        ),
        migrations.AlterField(
            model_name="webhookdelivery",
            name="rematch_at",
            field=models.DateTimeField(
                null=True, verbose_name="next search for its payment"
            ),
        ),
        migrations.AlterField(
            model_name="webhookdelivery",
            name="retry_at",
            field=models.DateTimeField(
                default=django.utils.timezone.now, verbose_name="not before"
            ),
        ),
        migrations.AlterField(
            model_name="webhookdelivery",
            name="source",
            field=models.CharField(
                editable=False, max_length=12, verbose_name="came by"
            ),
        ),
        migrations.AlterField(
            model_name="webhookdelivery",
            name="uuid",
            field=models.UUIDField(
                default=uuid.uuid4,
                editable=False,
                unique=True,
                verbose_name="public id",
            ),
        ),
        migrations.AlterField(
            model_name="webhookdelivery",
            name="verdict",
            field=models.CharField(
                choices=[
                    ("stored", "stored, not applied yet"),
                    ("applied", "applied"),
                    ("ignored", "nothing new"),
                    ("held", "held for staff"),
                ],
                default="stored",
                max_length=10,
                verbose_name="verdict",
            ),
        ),
    ]
