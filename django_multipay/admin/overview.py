"""The overview: what came in, what went back, what waits for a person.

Every sum is made by the database, grouped by day and provider, over a bounded period
of an indexed column; the number of queries is fixed. Sums of different currencies are
never added. Charts are SVG of the template's: widths in percent of the chart, so that
the letters keep their size on a telephone; no script and no inline style.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db.models import (
    Case,
    Count,
    F,
    IntegerField,
    Model,
    Q,
    QuerySet,
    Sum,
    Value,
    When,
)
from django.db.models.expressions import Combinable
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_multipay import money
from django_multipay.enums import (
    DeclineCode,
    EndpointStatus,
    EndpointTrouble,
    NoticeState,
    OperationState,
    PaymentStatus,
    ReviewReason,
    TransactionKind,
    Verdict,
)
from django_multipay.models import (
    AccountHealth,
    Endpoint,
    Notice,
    Operation,
    Payment,
    Transaction,
    WebhookDelivery,
)
from django_multipay.states import PAID_STATUSES, UNSUCCESSFUL_STATUSES

PERIODS: Mapping[str, Any] = {
    "7d": gettext_lazy("Last 7 days"),
    "30d": gettext_lazy("Last 30 days"),
    "90d": gettext_lazy("Last 90 days"),
    "this_month": gettext_lazy("This month"),
    "last_month": gettext_lazy("Last month"),
}
"""Values of ``?period=``; ``?start=`` and ``?end=`` choose days of one's own."""

DEFAULT_PERIOD = "30d"
MAX_DAYS = 366

SUMS: Mapping[str, tuple[str, int]] = {
    TransactionKind.CAPTURE: ("taken", 1),
    TransactionKind.CAPTURE_REVERSAL: ("taken", -1),
    TransactionKind.REFUND: ("refunded", 1),
    TransactionKind.CHARGEBACK: ("charged_back", 1),
    TransactionKind.CHARGEBACK_REVERSAL: ("charged_back", -1),
}
"""The facts that moved money, and the sum that each of them changes."""

TIMED = 10_000
"""The latest payments of the period whose time to paid is looked at."""

PATIENCE = timedelta(minutes=15)
"""How long a notice may wait before somebody should ask why."""

NOTHING = "\N{EN DASH}"
"""Stands where there is nothing to compute a figure from."""

PLOT_TOP, PLOT_HEIGHT = 10, 160
"""Where a chart's plot begins and how high it is, in pixels."""


@dataclass(frozen=True, slots=True)
class Period:
    """Whole days from ``first`` to ``last``, in the active time zone."""

    first: date
    last: date
    name: str = ""
    """Its key in `PERIODS`; empty for days of one's own."""

    @property
    def days(self) -> list[date]:
        """Every day of it, the oldest first."""
        count = (self.last - self.first).days + 1
        return [self.first + timedelta(days=number) for number in range(count)]

    @property
    def midnights(self) -> list[datetime]:
        """The beginning of each day, and the end of the last one."""
        zone = timezone.get_current_timezone()
        return [
            datetime.combine(day, time.min, tzinfo=zone)
            for day in (*self.days, self.last + timedelta(days=1))
        ]

    def holds(self, column: str) -> Q:
        """Return the condition that the moment in ``column`` is within it."""
        first, *_, end = self.midnights
        return Q((f"{column}__gte", first), (f"{column}__lt", end))

    @property
    def query(self) -> dict[str, str]:
        """The GET parameters that choose it."""
        if self.name:
            return {"period": self.name}
        return {"start": self.first.isoformat(), "end": self.last.isoformat()}

    @classmethod
    def named(cls, name: str) -> Period:
        """Return the period that a key of `PERIODS` means today."""
        today = timezone.localdate()
        first_of_month = today.replace(day=1)
        if name == "this_month":
            return cls(first_of_month, today, name)
        if name == "last_month":
            last = first_of_month - timedelta(days=1)
            return cls(last.replace(day=1), last, name)
        return cls(today - timedelta(days=int(name.removesuffix("d")) - 1), today, name)


_LIMITS = [
    MinValueValidator(date(2000, 1, 1)),
    MaxValueValidator(date(2099, 12, 31)),
]


class PeriodForm(forms.Form):
    """Reads the GET parameters of the overview and of the export."""

    period = forms.ChoiceField(
        label=gettext_lazy("Period"), choices=[*PERIODS.items()], required=False
    )
    start = forms.DateField(
        label=gettext_lazy("From"),
        input_formats=["%Y-%m-%d"],
        required=False,
        validators=_LIMITS,
    )
    end = forms.DateField(
        label=gettext_lazy("To"),
        input_formats=["%Y-%m-%d"],
        required=False,
        validators=_LIMITS,
    )
    currency = forms.RegexField(
        r"\A[A-Z0-9]{1,8}\Z", label=gettext_lazy("Currency"), required=False
    )

    def clean(self) -> dict[str, Any]:
        """Refuse half a period, one that runs backward, and one without end."""
        data = super().clean() or {}
        start, end = data.get("start"), data.get("end")
        if self.errors or not (start or end):
            return data
        if not (start and end):
            raise ValidationError(_("Choose both days, From and To."))
        if start > end:
            raise ValidationError(_("From must not be later than To."))
        if (end - start).days >= MAX_DAYS:
            raise ValidationError(
                _("A period has at most %(days)s days.") % {"days": MAX_DAYS}
            )
        return data

    @property
    def chosen(self) -> Period:
        """The period that was asked for, or the default if it was not valid."""
        data = self.cleaned_data if self.is_valid() else {}
        if data.get("start"):
            return Period(data["start"], data["end"])
        return Period.named(data.get("period") or DEFAULT_PERIOD)

    @property
    def complaints(self) -> list[str]:
        """What is wrong with the parameters, each named, for people to read."""
        return [
            f"{self.fields[name].label}: {text}" if name in self.fields else text
            for name, errors in self.errors.get_json_data().items()
            for text in (str(error["message"]) for error in errors)
        ]


@dataclass(slots=True)
class Figures:
    """What happened on one day, at one provider, or in all; amounts in minor units."""

    created: int = 0
    paid: int = 0
    unsuccessful: int = 0
    taken: int = 0
    refunded: int = 0
    charged_back: int = 0
    waits: list[timedelta] = field(default_factory=list)
    """From the start of the checkout to paid, one for each payment looked at."""

    @property
    def net(self) -> int:
        """What is left of what was taken."""
        return self.taken - self.refunded - self.charged_back

    @property
    def decided(self) -> int:
        """Payments that came to an end, good or bad."""
        return self.paid + self.unsuccessful

    @property
    def success(self) -> str:
        """The share of `decided` that was paid, as people read it."""
        return _share(self.paid, self.decided)

    def wait(self, tenths: int) -> str:
        """Return the time in which so many tenths of the payments were paid."""
        ordered = sorted(self.waits)
        # The nearest rank: a time that really happened, also for two payments.
        rank = -(-tenths * len(ordered) // 10)
        return _spoken(ordered[rank - 1]) if ordered else NOTHING


@dataclass(slots=True)
class Book:
    """The figures of one currency in a period, ready to be shown."""

    days: defaultdict[int, Figures] = field(
        default_factory=lambda: defaultdict(Figures)
    )
    providers: defaultdict[str, Figures] = field(
        default_factory=lambda: defaultdict(Figures)
    )
    total: Figures = field(default_factory=Figures)
    declines: Counter[str] = field(default_factory=Counter)

    def of(self, day: int, provider: str) -> tuple[Figures, ...]:
        """Return the figures which something at ``provider`` on ``day`` changes."""
        return self.days[day], self.providers[provider], self.total


def overview_view(request: HttpRequest, admin_site: AdminSite) -> HttpResponse:
    """Answer with the overview; 403 for those who may not see payments.

    Parameters (GET): ``period`` or ``start`` and ``end``, and ``currency``. What is
    not valid is explained on the page, which then shows the default.
    """
    if not admin_site.get_model_admin(Payment).has_view_permission(request):
        raise PermissionDenied
    form = PeriodForm(request.GET)
    period = form.chosen
    complaints = form.complaints
    books = _books(period)
    currencies = sorted(books, key=lambda code: (-books[code].total.created, code))
    default = currencies[0] if currencies else ""
    wanted = form.cleaned_data.get("currency") or default
    currency = wanted if wanted in books else default
    if wanted != currency:
        complaints.append(
            _("Nothing of this period is in the currency “%(code)s”.")
            % {"code": wanted}
        )
    book = books[currency]
    _add_waits(book, period, currency)
    request.current_app = admin_site.name
    return TemplateResponse(
        request,
        "admin/multipay/overview.html",
        {
            **admin_site.each_context(request),
            "title": _("Overview of payments"),
            "opts": Payment._meta,
            "complaints": complaints,
            "period": period,
            "zone": timezone.get_current_timezone_name(),
            "period_links": _period_links(period, currency),
            "currency": currency,
            "currency_links": [
                (code, _link(period, code), code == currency)
                for code in sorted(currencies)
            ],
            "is_sample": len(book.total.waits) == TIMED,
            "sample": number_format(TIMED, force_grouping=True),
            "attention": _attention(request, admin_site),
            **(_shown(book, period, currency) if currency else {}),
            "declines": _declines(book),
            "deposits": _deposits(),
            "exports": [
                (code, _link(period, code))
                for code in (currency, "")[: len(currencies)]
            ],
        },
    )


# Figures ----------------------------------------------------------------------------


def _books(period: Period) -> defaultdict[str, Book]:
    """Return the figures of every currency that occurs: two queries."""
    books: defaultdict[str, Book] = defaultdict(Book)
    facts = (
        _within(period, Transaction.objects.filter(kind__in=SUMS))
        .values_list("day", "payment__provider", "currency", "kind")
        .annotate(sum=Sum("amount_minor"))
    )
    for day, provider, currency, kind, minor in facts:
        name, sign = SUMS[kind]
        for figures in books[currency].of(day, provider):
            setattr(figures, name, getattr(figures, name) + sign * minor)
    payments = (
        _within(period, Payment.objects.all())
        .values_list("day", "provider", "currency", "status", "decline_code")
        .annotate(count=Count("pk"))
    )
    for day, provider, currency, status, code, count in payments:
        for figures in books[currency].of(day, provider):
            figures.created += count
            figures.paid += count * (status in PAID_STATUSES)
            figures.unsuccessful += count * (status in UNSUCCESSFUL_STATUSES)
        if status == PaymentStatus.FAILED:
            books[currency].declines[code] += count
    return books


def _within(period: Period, rows: QuerySet[Any]) -> Any:
    """Return the rows created in ``period`` with the number of their ``day``.

    The days are told apart by their midnights, which are known here: MariaDB without
    its tables of time zones makes every local date NULL, and hours in UTC do not add
    up to days where a zone is off by half an hour.
    """
    midnights = period.midnights
    day = _day_number(midnights, 0, len(midnights) - 2)
    return rows.order_by().filter(period.holds("created_at")).annotate(day=day)


def _day_number(midnights: Sequence[datetime], first: int, last: int) -> Combinable:
    """Return which day from ``first`` to ``last`` it is, found by halving."""
    if first == last:
        return Value(first, output_field=IntegerField())
    middle = (first + last + 1) // 2
    return Case(
        When(
            created_at__lt=midnights[middle],
            then=_day_number(midnights, first, middle - 1),
        ),
        default=_day_number(midnights, middle, last),
        output_field=IntegerField(),
    )


def _add_waits(book: Book, period: Period, currency: str) -> None:
    """Note how long the latest payments took from their start to paid: one query."""
    timed = (
        Payment.objects.filter(
            period.holds("created_at"),
            currency=currency,
            started_at__isnull=False,
            paid_at__isnull=False,
        )
        .order_by("-created_at")
        .annotate(wait=F("paid_at") - F("started_at"))
        .values_list("provider", "wait")[:TIMED]
    )
    for provider, wait in timed:
        for figures in (book.providers[provider], book.total):
            figures.waits.append(wait)


def _declines(book: Book) -> list[dict[str, Any]]:
    """Return why payments of the period failed, the most frequent reason first."""
    labels = dict(DeclineCode.choices)
    return [
        {
            "reason": labels.get(code, code) or _("No reason given."),
            "count": count,
            "share": _share(count, book.declines.total()),
        }
        for code, count in book.declines.most_common()
    ]


def _deposits() -> list[dict[str, Any]]:
    """Return what buyers were told to deposit and have not yet: one query.

    One line for each provider and currency, whenever the payments were created.
    """
    is_overdue = Q(expires_at__lt=timezone.now())
    waiting = (
        Payment.objects.filter(status=PaymentStatus.AWAITING_FUNDS)
        .order_by("provider", "currency")
        .values("provider", "currency")
        .annotate(
            count=Count("pk"),
            minor=Sum("amount_minor"),
            overdue_count=Count("pk", filter=is_overdue),
            overdue_minor=Sum("amount_minor", filter=is_overdue, default=0),
        )
    )
    return [
        {
            **row,
            "provider": _provider(row["provider"]),
            "amount": _amount(row["minor"], row["currency"]),
            "overdue": _amount(row["overdue_minor"], row["currency"]),
        }
        for row in waiting
    ]


# What needs a person ----------------------------------------------------------------


def _attention(request: HttpRequest, admin_site: AdminSite) -> list[dict[str, Any]]:
    """Return what waits for a person, in every currency and of any age: six queries.

    Each has a ``label``, a ``count`` and the ``url`` of its list; the URL is empty for
    those who may not see the list. A list knows only the filters beside it, so it may
    also show what was approved a moment ago, or what has not waited for long.
    """
    labels = dict(ReviewReason.choices)
    reviews = (
        Payment.objects.filter(review_reason__gt="")
        .order_by("review_reason")
        .values_list("review_reason")
        .annotate(count=Count("pk"))
    )
    operations = Operation.objects.filter(
        state__in=(OperationState.REQUESTED, OperationState.UNKNOWN)
    ).aggregate(
        unapproved=Count(
            "pk",
            filter=Q(
                state=OperationState.REQUESTED, needs_approval=True, approved_by=""
            ),
        ),
        unknown=Count("pk", filter=Q(state=OperationState.UNKNOWN)),
    )
    held = WebhookDelivery.objects.filter(verdict=Verdict.HELD).count()
    late = Notice.objects.filter(
        state=NoticeState.WAITING, created_at__lt=timezone.now() - PATIENCE
    ).count()
    deaf = (
        Endpoint.objects.filter(status=EndpointStatus.DISABLED)
        .exclude(disabled_reason=EndpointTrouble.STAFF)
        .count()
    )
    unwell = AccountHealth.objects.filter(
        Q(is_refused=True) | Q(paused_until__gt=timezone.now())
    ).count()
    # Not inside the braces below, where xgettext does not look.
    to_review = _("Payments to review")
    found: list[tuple[str, int, type[Model], Mapping[str, str | int]]] = [
        (
            f"{to_review}: {labels.get(reason, reason)}",
            count,
            Payment,
            {"review": reason},
        )
        for reason, count in reviews
    ]
    found += [
        (
            _("Waiting for a second person's approval"),
            operations["unapproved"],
            Operation,
            {"state__exact": OperationState.REQUESTED, "needs_approval__exact": 1},
        ),
        (
            _("Calls whose outcome is unknown"),
            operations["unknown"],
            Operation,
            {"state__exact": OperationState.UNKNOWN},
        ),
        (
            _("Messages of providers held for staff"),
            held,
            WebhookDelivery,
            {"verdict__exact": Verdict.HELD},
        ),
        (
            _("Facts of which the shop has not heard for long"),
            late,
            Notice,
            {"state__exact": NoticeState.WAITING},
        ),
        (
            _("Endpoints that were disabled because nothing was taken"),
            deaf,
            Endpoint,
            {"status__exact": EndpointStatus.DISABLED},
        ),
        (
            _("Accounts that do not answer, or refuse our credentials"),
            unwell,
            AccountHealth,
            {},
        ),
    ]
    return [
        {
            "label": label,
            "count": count,
            "url": _changelist(request, admin_site, model, query),
        }
        for label, count, model, query in found
        if count
    ]


def _changelist(
    request: HttpRequest,
    admin_site: AdminSite,
    model: type[Model],
    query: Mapping[str, str | int],
) -> str:
    """Return the URL of the list of ``model`` narrowed by ``query``, or nothing."""
    if not (
        admin_site.is_registered(model)
        and admin_site.get_model_admin(model).has_view_permission(request)
    ):
        return ""
    options = model._meta
    url = reverse(
        f"admin:{options.app_label}_{options.model_name}_changelist",
        current_app=admin_site.name,
    )
    return f"{url}?{urlencode(query)}"


# Charts -----------------------------------------------------------------------------


def _charts(book: Book, period: Period, currency: str) -> list[dict[str, Any]]:
    """Return what the template draws, one bar for each day of ``period``."""
    days = [(day, book.days[number]) for number, day in enumerate(period.days)]
    return [_money_chart(days, book.total, currency), _success_chart(days, book.total)]


def _money_chart(
    days: Sequence[tuple[date, Figures]], total: Figures, currency: str
) -> dict[str, Any]:
    """Takings stand on the zero line; what went back hangs below it."""
    parts = [
        [
            ("taken", figures.taken),
            ("refunded", -figures.refunded),
            ("charged-back", -figures.charged_back),
        ]
        for _day, figures in days
    ]
    highest = max(sum(minor for _name, minor in day if minor > 0) for day in parts)
    lowest = min(sum(minor for _name, minor in day if minor < 0) for day in parts)
    step = _step(max(highest, -lowest, 1))
    top, bottom = -(-highest // step) * step, lowest // step * step
    names = {
        "taken": _("Taken"),
        "refunded": _("Refunded"),
        "charged-back": _("Charged back"),
    }
    sums = {
        "taken": _amount(total.taken, currency),
        "refunded": _amount(total.refunded, currency),
        "charged-back": _amount(total.charged_back, currency),
    }
    return {
        "id": "takings",
        "title": _("Takings and refunds by day, %(code)s") % {"code": currency},
        "description": _summary(days, [(names[name], sums[name]) for name in names]),
        "legend": [*names.items()],
        "lines": [
            (_pixels(minor, top, bottom), _amount(minor, currency))
            for minor in range(bottom, max(top, bottom + step) + 1, step)
        ],
        "zero": _pixels(0, top, bottom),
        "bars": [
            {
                **_place(number, len(days)),
                "text": _summary(
                    [(day, figures)],
                    [
                        (names["taken"], _amount(figures.taken, currency)),
                        (names["refunded"], _amount(figures.refunded, currency)),
                        (
                            names["charged-back"],
                            _amount(figures.charged_back, currency),
                        ),
                    ],
                ),
                "parts": _stack(parts[number], top, bottom),
            }
            for number, (day, figures) in enumerate(days)
        ],
        "marks": _marks(days),
    }


def _success_chart(
    days: Sequence[tuple[date, Figures]], total: Figures
) -> dict[str, Any]:
    """A full bar is every payment decided; a day without any has none."""
    names = {"paid": _("Paid"), "unsuccessful": _("Failed, canceled or expired")}
    return {
        "id": "success",
        "title": _("Success rate by day"),
        "description": _summary(days, [(_("Success rate"), total.success)]),
        "legend": [*names.items()],
        "lines": [
            (_pixels(part, 4, 0), _("%(number)s%%") % {"number": 25 * part})
            for part in range(5)
        ],
        "zero": _pixels(0, 4, 0),
        "bars": [
            {
                **_place(number, len(days)),
                "text": _summary(
                    [(day, figures)],
                    [
                        (_("Success rate"), figures.success),
                        (names["paid"], str(figures.paid)),
                        (names["unsuccessful"], str(figures.unsuccessful)),
                    ],
                ),
                "parts": _stack(
                    [("paid", figures.paid), ("unsuccessful", figures.unsuccessful)],
                    figures.decided,
                    0,
                ),
            }
            for number, (day, figures) in enumerate(days)
        ],
        "marks": _marks(days),
    }


def _step(highest: int) -> int:
    """Return the least 1, 2 or 5 with zeros that reaches ``highest`` in four steps."""
    power = int("1" + "0" * (len(str(-(-highest // 4))) - 1))
    return next(
        factor * power for factor in (1, 2, 5, 10) if 4 * factor * power >= highest
    )


def _pixels(value: int, top: int, bottom: int) -> int:
    """Return how far from the chart's upper edge ``value`` is."""
    return PLOT_TOP + PLOT_HEIGHT * (top - value) // (top - bottom or 1)


def _stack(
    parts: Sequence[tuple[str, int]], top: int, bottom: int
) -> list[dict[str, Any]]:
    """Return the rectangles of a bar: gains upward from zero, losses downward."""
    above = below = 0
    rectangles = []
    for name, value in parts:
        if value > 0:
            start, above = above, above + value
            upper, lower = _pixels(above, top, bottom), _pixels(start, top, bottom)
        else:
            start, below = below, below + value
            upper, lower = _pixels(start, top, bottom), _pixels(below, top, bottom)
        if value:
            # A little money is a thin line, not nothing.
            rectangles.append(
                {"name": name, "y": upper, "height": max(lower - upper, 1)}
            )
    return rectangles


def _place(number: int, count: int) -> dict[str, str]:
    """Return where a day's column is, and its bar within, in percent of the width."""
    column = Decimal(100) / count
    bar = column * Decimal("0.76")
    return {
        "column_x": f"{column * number:.3f}%",
        "column_width": f"{column:.3f}%",
        "x": f"{column * number + (column - bar) / 2:.3f}%",
        "width": f"{bar:.3f}%",
    }


def _marks(days: Sequence[tuple[date, Figures]]) -> list[dict[str, str]]:
    """Return the days named below a chart: the first, the middle and the last."""
    places = {0: "start", len(days) // 2: "middle", len(days) - 1: "end"}
    if len(days) < 3:
        places = dict.fromkeys(range(len(days)), "middle")
    column = Decimal(100) / len(days)
    return [
        {
            "x": {"start": "0%", "end": "100%"}.get(
                anchor, f"{column * number + column / 2:.3f}%"
            ),
            "anchor": anchor,
            "text": date_format(days[number][0], "MONTH_DAY_FORMAT"),
        }
        for number, anchor in places.items()
    ]


def _summary(
    days: Sequence[tuple[date, Figures]], said: Iterable[tuple[str, str]]
) -> str:
    """Return in one sentence what a picture of ``days`` shows."""
    first, last = (
        date_format(day, "SHORT_DATE_FORMAT") for day in (days[0][0], days[-1][0])
    )
    when = first if first == last else f"{first} \N{EN DASH} {last}"
    return f"{when}: " + ", ".join(f"{name} {value}" for name, value in said)


# Words and links --------------------------------------------------------------------


def _link(period: Period, currency: str) -> str:
    chosen = {"currency": currency} if currency else {}
    return "?" + urlencode({**period.query, **chosen})


def _period_links(period: Period, currency: str) -> list[tuple[Any, str, bool]]:
    """Return label and URL of each named period, and whether it is the one shown."""
    return [
        (label, _link(Period.named(name), currency), name == period.name)
        for name, label in PERIODS.items()
    ]


def _shown(book: Book, period: Period, currency: str) -> dict[str, Any]:
    """Return what the page shows where there is any figure."""
    return {
        "tiles": _tiles(book.total, currency),
        "charts": _charts(book, period, currency),
        "providers": [
            _row(_provider(name), figures, currency)
            for name, figures in sorted(book.providers.items())
        ],
        "days": [
            _row(date_format(day, "SHORT_DATE_FORMAT"), book.days[number], currency)
            for number, day in reversed([*enumerate(period.days)])
        ],
    }


def _amount(minor: int, currency: str) -> str:
    return money.display(money.from_minor(minor, currency))


def _provider(alias: str) -> str:
    return alias or _("not chosen yet")


def _share(part: int, whole: int) -> str:
    """Return ``part`` of ``whole`` in percent; a dash if there is no whole."""
    if not whole:
        return NOTHING
    percent = (Decimal(100 * part) / whole).quantize(Decimal("0.1"))
    return _("%(number)s%%") % {"number": number_format(percent)}


def _spoken(wait: timedelta) -> str:
    """Return a time as people say it, in its two largest units."""
    seconds = int(wait.total_seconds())
    days, hours, minutes = seconds // 86400, seconds // 3600, seconds // 60
    if days:
        return _("%(days)s d %(hours)s h") % {"days": days, "hours": hours % 24}
    if hours:
        return _("%(hours)s h %(minutes)s min") % {
            "hours": hours,
            "minutes": minutes % 60,
        }
    if minutes:
        return _("%(minutes)s min %(seconds)s s") % {
            "minutes": minutes,
            "seconds": seconds % 60,
        }
    return _("%(seconds)s s") % {"seconds": seconds}


def _tiles(total: Figures, currency: str) -> list[dict[str, str]]:
    """Return the figures that stand above all others."""
    return [
        {
            "label": _("Net takings"),
            "value": _amount(total.net, currency),
            "note": _("%(amount)s taken") % {"amount": _amount(total.taken, currency)},
        },
        {
            "label": _("Refunded"),
            "value": _amount(total.refunded, currency),
            "note": _("%(amount)s charged back")
            % {"amount": _amount(total.charged_back, currency)},
        },
        {
            "label": _("Success rate"),
            "value": total.success,
            "note": _("%(paid)s paid of %(count)s decided")
            % {
                "paid": number_format(total.paid, force_grouping=True),
                "count": number_format(total.decided, force_grouping=True),
            },
        },
        {
            "label": _("Time to paid, median"),
            "value": total.wait(5),
            "note": _("nine of ten within %(time)s") % {"time": total.wait(9)},
        },
    ]


def _row(label: str, figures: Figures, currency: str) -> dict[str, Any]:
    """Return one line of a table."""
    return {
        "label": label,
        "created": figures.created,
        "paid": figures.paid,
        "success": figures.success,
        "taken": _amount(figures.taken, currency),
        "refunded": _amount(figures.refunded, currency),
        "charged_back": _amount(figures.charged_back, currency),
        "net": _amount(figures.net, currency),
        "median": figures.wait(5),
        "p90": figures.wait(9),
    }
