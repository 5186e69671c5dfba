from django.db import migrations, models

import django_multipay.models.fields


class Migration(migrations.Migration):
    dependencies = [
        ("multipay", "0011_endpoints"),
    ]

    operations = [
        migrations.CreateModel(
            name="IdempotencyKey",
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
                    "digest",
                    models.CharField(editable=False, max_length=64, unique=True),
                ),
                ("fingerprint", models.CharField(editable=False, max_length=64)),
                ("lease_token", models.CharField(editable=False, max_length=32)),
                ("lease_until", models.DateTimeField(editable=False, null=True)),
                (
                    "answer_status",
                    models.PositiveSmallIntegerField(editable=False, null=True),
                ),
                (
                    "answer_body",
                    django_multipay.models.fields.EncryptedJSONField(
                        blank=True, default=None, editable=False
                    ),
                ),
                (
                    "answer_location",
                    models.CharField(blank=True, editable=False, max_length=255),
                ),
                ("expires_at", models.DateTimeField(editable=False)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "verbose_name": "idempotency key",
                "verbose_name_plural": "idempotency keys",
                "indexes": [
                    models.Index(
                        fields=["expires_at"], name="multipay_idempotency_expiry"
                    )
                ],
            },
        ),
        migrations.AlterField(
            model_name="transaction",
            name="source",
            field=models.CharField(
                choices=[
                    ("start", "start of the checkout"),
                    ("return", "buyer's return"),
                    ("webhook", "webhook"),
                    ("sync", "inquiry at the provider"),
                    ("operation", "answer to our call"),
                    ("staff", "staff"),
                    ("site", "this site"),
                ],
                max_length=12,
            ),
        ),
    ]
