"""What stands behind the doors in `providers/eximbay.py`.

Written from the "Payment" reference (developer.eximbay.com, read 2026-11-21) and from
public notes about the parts it leaves out; docs/sandbox.md lists every assumption.
Amounts are decimal strings in major units; dates are Korean time.
"""
