"""One index for each search that is made, and none besides.

A text that is ``unique`` or has ``db_index`` gets two on PostgreSQL, the second for
searches by its beginning, and a foreign key has one of its own beside a constraint that
begins with it. Each row cost all of them. What is new comes first, so that nothing is
ever without its constraint.
"""

from importlib import import_module

import django.db.models.deletion
from django.db import migrations, models

import django_multipay.models.operation
import django_multipay.models.payment


def guard_facts(apps, schema_editor):
    """Make the trigger anew: SQLite makes a table anew whose column changes."""
    if schema_editor.connection.vendor == "sqlite":
        facts = import_module(
            "django_multipay.migrations.0002_transactions_are_append_only"
        )
        facts.create(apps, schema_editor)


class Migration(migrations.Migration):
    dependencies = [
        ("multipay", "0015_account_state"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="endpointdelivery",
            index=models.Index(
                fields=["-created_at", "-id"], name="multipay_endpoint_created"
            ),
        ),
        migrations.AddIndex(
            model_name="payment",
            index=models.Index(fields=["order_id"], name="multipay_payment_order"),
        ),
        migrations.AddIndex(
            model_name="recurringplan",
            index=models.Index(fields=["customer_id"], name="multipay_plan_customer"),
        ),
        migrations.AddIndex(
            model_name="recurringplan",
            index=models.Index(fields=["order_id"], name="multipay_plan_order"),
        ),
        migrations.AddIndex(
            model_name="refund",
            index=models.Index(
                fields=["-created_at", "-id"], name="multipay_refund_created"
            ),
        ),
        migrations.AddIndex(
            model_name="token",
            index=models.Index(
                fields=["status", "expiry_told_at", "expires_on"],
                name="multipay_token_expiring",
            ),
        ),
        migrations.AddIndex(
            model_name="token",
            index=models.Index(fields=["customer_id"], name="multipay_token_customer"),
        ),
        migrations.AddIndex(
            model_name="webhookdelivery",
            index=models.Index(
                fields=["-received_at", "-id"], name="multipay_delivery_received"
            ),
        ),
        migrations.AddConstraint(
            model_name="idempotencykey",
            constraint=models.UniqueConstraint(
                fields=("digest",), name="multipay_idempotency_digest"
            ),
        ),
        migrations.AddConstraint(
            model_name="operation",
            constraint=models.UniqueConstraint(
                fields=("key",), name="multipay_operation_key"
            ),
        ),
        migrations.AddConstraint(
            model_name="operation",
            constraint=models.UniqueConstraint(
                fields=("open_slot",), name="multipay_operation_slot"
            ),
        ),
        migrations.AddConstraint(
            model_name="operation",
            constraint=models.UniqueConstraint(
                fields=("client_key",), name="multipay_operation_client_key"
            ),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.UniqueConstraint(
                fields=("merchant_reference",),
                name="multipay_payment_merchant_reference",
            ),
        ),
        migrations.AddConstraint(
            model_name="refund",
            constraint=models.UniqueConstraint(
                fields=("merchant_reference",),
                name="multipay_refund_merchant_reference",
            ),
        ),
        migrations.AlterField(
            model_name="batchitem",
            name="batch",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="items",
                to="multipay.batch",
            ),
        ),
        migrations.AlterField(
            model_name="endpointdelivery",
            name="endpoint",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="deliveries",
                to="multipay.endpoint",
                verbose_name="endpoint",
            ),
        ),
        migrations.AlterField(
            model_name="idempotencykey",
            name="digest",
            field=models.CharField(editable=False, max_length=64),
        ),
        migrations.AlterField(
            model_name="notice",
            name="plan",
            field=models.ForeignKey(
                db_index=False,
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
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="notices",
                to="multipay.refund",
                verbose_name="refund",
            ),
        ),
        migrations.AlterField(
            model_name="notice",
            name="token",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="notices",
                to="multipay.token",
                verbose_name="saved method",
            ),
        ),
        migrations.AlterField(
            model_name="operation",
            name="client_key",
            field=models.CharField(max_length=64, null=True),
        ),
        migrations.AlterField(
            model_name="operation",
            name="key",
            field=models.CharField(
                default=django_multipay.models.operation.new_key,
                editable=False,
                max_length=32,
            ),
        ),
        migrations.AlterField(
            model_name="operation",
            name="open_slot",
            field=models.CharField(max_length=64, null=True, verbose_name="open slot"),
        ),
        migrations.AlterField(
            model_name="operation",
            name="token",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="operations",
                to="multipay.token",
                verbose_name="saved method",
            ),
        ),
        migrations.AlterField(
            model_name="payment",
            name="merchant_reference",
            field=models.CharField(
                default=django_multipay.models.payment.new_merchant_reference,
                editable=False,
                max_length=30,
                verbose_name="our reference",
            ),
        ),
        migrations.AlterField(
            model_name="payment",
            name="order_id",
            field=models.CharField(max_length=64, verbose_name="order"),
        ),
        migrations.AlterField(
            model_name="payment",
            name="plan",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="payments",
                to="multipay.recurringplan",
            ),
        ),
        migrations.AlterField(
            model_name="payment",
            name="token",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="payments",
                to="multipay.token",
            ),
        ),
        migrations.AlterField(
            model_name="recurringplan",
            name="customer_id",
            field=models.CharField(max_length=64, verbose_name="customer"),
        ),
        migrations.AlterField(
            model_name="recurringplan",
            name="order_id",
            field=models.CharField(blank=True, max_length=64, verbose_name="order"),
        ),
        migrations.AlterField(
            model_name="refund",
            name="merchant_reference",
            field=models.CharField(
                default=django_multipay.models.payment.new_merchant_reference,
                editable=False,
                max_length=30,
                verbose_name="our reference",
            ),
        ),
        migrations.AlterField(
            model_name="token",
            name="customer_id",
            field=models.CharField(max_length=64, verbose_name="customer"),
        ),
        migrations.RemoveIndex(
            model_name="token",
            name="multipay_token_expiry",
        ),
        migrations.RunPython(migrations.RunPython.noop, guard_facts),
        migrations.AlterField(
            model_name="transaction",
            name="payment",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="transactions",
                to="multipay.payment",
            ),
        ),
        migrations.RunPython(guard_facts, migrations.RunPython.noop),
    ]
