"""Eximbay's side of the wire: Open API v1, browser SDK, hosted page, callbacks.

Written from the "Payment" reference (developer.eximbay.com, read 2026-11-21) and from
public notes about the parts it leaves out; docs/sandbox.md lists every assumption.
Amounts are decimal strings in major units; dates are Korean time.
"""

from django_multipay.sandbox.providers.eximbay.provider import EximbayProvider

__all__ = ["EximbayProvider"]
