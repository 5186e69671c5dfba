"""Facts cannot be changed, not even by SQL.

PostgreSQL refuses UPDATE and DELETE. SQLite and MariaDB refuse UPDATE; there a DELETE
trigger would also stop Django's own ``flush``, which empties tables by DELETE.
"""

from __future__ import annotations

import logging

from django.db import OperationalError, migrations

logger = logging.getLogger("django_multipay.migrations")

CREATE = {
    "postgresql": [
        """
        CREATE FUNCTION multipay_refuse_change() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'multipay_transaction is append-only'; END $$
        """,
        """
        CREATE TRIGGER multipay_transaction_append_only
        BEFORE UPDATE OR DELETE ON multipay_transaction
        FOR EACH ROW EXECUTE FUNCTION multipay_refuse_change()
        """,
    ],
    "sqlite": [
        """
        CREATE TRIGGER multipay_transaction_append_only
        BEFORE UPDATE ON multipay_transaction
        BEGIN SELECT RAISE(ABORT, 'multipay_transaction is append-only'); END
        """,
    ],
    "mysql": [
        """
        CREATE TRIGGER multipay_transaction_append_only
        BEFORE UPDATE ON multipay_transaction
        FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'multipay_transaction is append-only'
        """,
    ],
}

DROP = {
    "postgresql": [
        "DROP TRIGGER multipay_transaction_append_only ON multipay_transaction",
        "DROP FUNCTION multipay_refuse_change()",
    ],
    "sqlite": ["DROP TRIGGER multipay_transaction_append_only"],
    "mysql": ["DROP TRIGGER multipay_transaction_append_only"],
}

# 1142: no TRIGGER privilege; 1419: binary logging on and no SUPER privilege.
MARIADB_REFUSALS = {1142, 1419}


def create(apps, schema_editor):
    for statement in CREATE.get(schema_editor.connection.vendor, ()):
        try:
            schema_editor.execute(statement)
        except OperationalError as error:
            if error.args[0] not in MARIADB_REFUSALS:
                raise
            logger.warning("no trigger (%s); the model layer guards", error.args[1])


def drop(apps, schema_editor):
    for statement in DROP.get(schema_editor.connection.vendor, ()):
        schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("multipay", "0001_initial")]

    # MariaDB takes no DDL inside a transaction.
    operations = [migrations.RunPython(create, drop, atomic=False)]
