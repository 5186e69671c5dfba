from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("multipay", "0014_labels"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="accounthealth",
            options={
                "ordering": ["provider"],
                "verbose_name": "account state",
                "verbose_name_plural": "account states",
            },
        ),
    ]
