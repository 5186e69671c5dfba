"""What stands behind the doors in `providers/clink.py`.

Written from Clink's page about `POST /payment` and the public copies of its other
pages (docs.clinkbill.com, read 2026-11-21); docs/sandbox.md lists every assumption.
Amounts are Decimals in major units; moments are aware datetimes.
"""
