from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("multipay", "0009_plans"),
    ]

    operations = [
        migrations.CreateModel(
            name="AccountHealth",
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
                    "provider",
                    models.CharField(
                        max_length=64, unique=True, verbose_name="provider"
                    ),
                ),
                (
                    "is_refused",
                    models.BooleanField(
                        default=False, verbose_name="credentials refused"
                    ),
                ),
                (
                    "failures",
                    models.PositiveIntegerField(
                        default=0, verbose_name="failures in a row"
                    ),
                ),
                (
                    "failure",
                    models.CharField(
                        blank=True, max_length=64, verbose_name="last failure"
                    ),
                ),
                (
                    "paused_until",
                    models.DateTimeField(null=True, verbose_name="not called before"),
                ),
                (
                    "succeeded_at",
                    models.DateTimeField(null=True, verbose_name="last answer"),
                ),
                (
                    "failed_at",
                    models.DateTimeField(null=True, verbose_name="last failure at"),
                ),
                (
                    "updated_at",
                    models.DateTimeField(auto_now=True, verbose_name="seen"),
                ),
            ],
            options={
                "verbose_name": "health of an account",
                "verbose_name_plural": "health of accounts",
                "ordering": ["provider"],
            },
        ),
        migrations.AddField(
            model_name="payment",
            name="erased_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="webhookdelivery",
            name="rematch_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddIndex(
            model_name="webhookdelivery",
            index=models.Index(fields=["rematch_at"], name="multipay_delivery_rematch"),
        ),
    ]
