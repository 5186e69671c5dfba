from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("multipay", "0009_plans"),
    ]

    operations = []
