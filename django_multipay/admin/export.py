"""The payments of a period as CSV that a spreadsheet can open without harm.

UTF-8 with a byte-order mark, lines and quotes as in RFC 4180. Names of columns and
the words in them are never translated, so that programs can rely on them. Rows are
fetched, written and sent piece by piece.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.urls import reverse
from django.utils import timezone

from django_multipay import money
from django_multipay.admin.access import BUYER, may
from django_multipay.admin.overview import Period, PeriodForm
from django_multipay.models import Payment

CHUNK = 1000
"""Rows fetched at a time: by their keys, because not every driver streams a result."""

PIECE = 64 * 1024
"""Characters after which a piece of the file is sent."""

BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"
"""Without it a spreadsheet takes UTF-8 for an old code page."""

COLUMNS: Mapping[str, str] = {
    "order": "order_id",
    "payment": "uuid",
    "merchant_reference": "merchant_reference",
    "provider_reference": "provider_reference",
    "transaction_reference": "transaction_reference",
    "provider": "provider",
    "method": "method",
    "status": "status",
    "currency": "currency",
    "amount": "amount_minor",
    "captured": "captured_minor",
    "refunded": "refunded_minor",
    "created_at": "created_at",
    "paid_at": "paid_at",
    "decline": "decline_code",
    "review": "review_reason",
}
"""What the export tells of a payment: column and field. Amounts in major units."""

BUYER_COLUMNS: Mapping[str, str] = {
    "customer": "customer_id",
    "buyer_name": "buyer_name",
    "buyer_email": "buyer_email",
    "buyer_phone": "buyer_phone",
    "buyer_country": "buyer_country",
}
"""Added for those who may see buyers' data."""

FORMULA_SIGNS = frozenset("=+-@\N{MINUS SIGN}")
"""A cell that begins with one of these is calculated, not shown (OWASP)."""


def export_view(request: HttpRequest, admin_site: AdminSite) -> HttpResponse:
    """Answer with the CSV file; 403 for those who may not see payments.

    Parameters (GET) as for the overview; without ``currency`` all are exported. If
    they are not valid, the overview is where the person learns why.
    """
    if not admin_site.get_model_admin(Payment).has_view_permission(request):
        raise PermissionDenied
    form = PeriodForm(request.GET)
    if not form.is_valid():
        overview = reverse(
            "admin:multipay_payment_overview", current_app=admin_site.name
        )
        return HttpResponseRedirect(f"{overview}?{request.GET.urlencode()}")
    period, currency = form.chosen, form.cleaned_data["currency"]
    columns = {**COLUMNS, **(BUYER_COLUMNS if may(request, BUYER) else {})}
    name = "-".join(
        filter(None, ["payments", str(period.first), str(period.last), currency])
    )
    return StreamingHttpResponse(  # type: ignore[return-value]
        _pieces(columns, _payments(period, currency)),
        content_type="text/csv; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="{name}.csv"',
            "X-Content-Type-Options": "nosniff",
        },
    )


def written(cell: object) -> str:
    """Return what stands in the file: our own numbers plainly, a text made harmless."""
    if cell is None:
        return ""
    if isinstance(cell, Decimal):
        return f"{cell:f}"
    if isinstance(cell, datetime):
        return timezone.localtime(cell).isoformat(sep=" ", timespec="seconds")
    return harmless(str(cell))


def harmless(text: str) -> str:
    """Return ``text`` as a spreadsheet may show it: never a formula, on one line.

    An apostrophe stands before whatever would be calculated, also after a semicolon,
    at which many countries' spreadsheets split a line whatever the quotes say.
    """
    parts = [f"'{part}" if _is_formula(part) else part for part in text.split(";")]
    return _one_line(";".join(parts))


def _is_formula(text: str) -> bool:
    if text[:1] in {"\t", "\r", "\n"}:
        return True
    # Full-width and small signs count as the ASCII ones; blanks, controls and
    # characters of no width are skipped, as a spreadsheet may skip them; so are
    # quotes, which mean nothing to one that splits at semicolons.
    for character in unicodedata.normalize("NFKC", text):
        if character != '"' and unicodedata.category(character)[0] not in "CZ":
            return character in FORMULA_SIGNS
    return False


def _one_line(text: str) -> str:
    text = re.sub(r"\r\n|[\t-\r\x1c-\x1e\x85\u2028\u2029]", " ", text)
    return re.sub(r"[\x00-\x1f\x7f]", "", text)


def _payments(period: Period, currency: str) -> QuerySet[Payment]:
    payments = Payment.objects.filter(period.holds("created_at"))
    payments = payments.order_by("created_at", "id")
    return payments.filter(currency=currency) if currency else payments


def _pieces(columns: Mapping[str, str], payments: QuerySet[Payment]) -> Iterator[bytes]:
    """Yield the file, one row for each of ``payments``."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    text.write(BYTE_ORDER_MARK)
    writer.writerow(columns)
    for row in _rows(payments, set(columns.values())):
        writer.writerow([written(_value(row, name)) for name in columns.values()])
        if text.tell() >= PIECE:
            yield text.getvalue().encode(errors="replace")
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode(errors="replace")


def _rows(payments: QuerySet[Payment], names: set[str]) -> Iterator[dict[str, Any]]:
    """Yield the columns ``names`` of ``payments``, which are in order, in chunks."""
    values = payments.values(*names, "id")
    chunk = list(values[:CHUNK])
    yield from chunk
    while len(chunk) == CHUNK:
        moment, key = chunk[-1]["created_at"], chunk[-1]["id"]
        # The first condition is for the index.
        later = values.filter(created_at__gte=moment).exclude(
            created_at=moment, id__lte=key
        )
        chunk = list(later[:CHUNK])
        yield from chunk


def _value(row: Mapping[str, Any], name: str) -> object:
    if name.endswith("_minor"):
        return money.from_minor(row[name], row["currency"]).amount
    return row[name]
