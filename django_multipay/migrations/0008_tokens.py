import hashlib
from typing import Any

import django.db.models.deletion
from django.db import migrations, models

import django_multipay.models.fields
from django_multipay import crypto


def give_identities(apps: Any, schema_editor: Any) -> None:
    """Let every saved method be found by what outlives its token."""
    tokens = apps.get_model("multipay", "Token").objects
    for token in tokens.using(schema_editor.connection.alias).iterator(500):
        plain = str(token.provider_token).encode()
        token.identity = hashlib.sha256(plain).hexdigest()
        token.token_digest = crypto.keyed_digest(token.identity)
        token.save(update_fields=["identity", "token_digest"])


class Migration(migrations.Migration):
    dependencies = [
        ("multipay", "0007_lists"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="token",
            options={
                "ordering": ["-id"],
                "permissions": [
                    ("end_token", "Can delete saved methods at the provider")
                ],
                "verbose_name": "saved method",
                "verbose_name_plural": "saved methods",
            },
        ),
        migrations.AddField(
            model_name="notice",
            name="plan",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="notices",
                to="multipay.recurringplan",
            ),
        ),
        migrations.AddField(
            model_name="notice",
            name="token",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="notices",
                to="multipay.token",
            ),
        ),
        migrations.AlterField(
            model_name="notice",
            name="payment",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="notices",
                to="multipay.payment",
            ),
        ),
        migrations.AddField(
            model_name="payment",
            name="initiator",
            field=models.CharField(
                choices=[
                    ("buyer", "the buyer"),
                    ("merchant", "the shop, without the buyer"),
                ],
                default="buyer",
                max_length=10,
                verbose_name="made by",
            ),
        ),
        migrations.AddField(
            model_name="token",
            name="ended_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name="token",
            name="expiry_told_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name="token",
            name="identity",
            field=django_multipay.models.fields.EncryptedJSONField(
                blank=True, default=None, editable=False
            ),
        ),
        migrations.AlterField(
            model_name="token",
            name="provider_token",
            field=django_multipay.models.fields.EncryptedJSONField(
                blank=True, default=None, editable=False
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
            ),
        ),
        migrations.AddIndex(
            model_name="token",
            index=models.Index(fields=["expires_on"], name="multipay_token_expiry"),
        ),
        migrations.RunPython(give_identities, migrations.RunPython.noop, elidable=True),
    ]
