"""The pages of the coffee box: subscribe to it, and look after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from uuid import uuid4

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from django_multipay import flows
from django_multipay.exceptions import (
    InvalidTransition,
    MultipayError,
    OutcomeUnknown,
    UnsupportedOperation,
)
from django_multipay.messages import Buyer
from django_multipay.models import RecurringPlan, Token
from shop.cart import Cart
from shop.coffee_box import BY_PROVIDERS, CURRENCIES, SHOP, SIZES
from shop.customers import customer_id, customer_of
from shop.forms import SubscribeForm
from shop.models import Subscription
from shop.subscriptions import OVER, change_size, payment_of_buyer, subscribe
from shop.ways import name_of, saved_methods


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def coffee_box(request: HttpRequest) -> HttpResponse:
    """Show the box, and begin a subscription to it."""
    currency = Cart(request.session).currency
    if currency not in CURRENCIES:
        currency = CURRENCIES[0]
    form = SubscribeForm(
        request.POST or None,
        initial={"form_key": uuid4()},
        currency=currency,
        customer_id=customer_id(request),
    )
    if request.method == "POST" and form.is_valid():
        return _subscribe(request, form, currency)
    return render(request, "shop/coffee_box.html", {"form": form})


def _subscribe(
    request: HttpRequest, form: SubscribeForm, currency: str
) -> HttpResponse:
    wish = form.cleaned_data
    own = subscribe(
        form_key=wish["form_key"],
        customer_id=customer_of(request),
        size=SIZES[wish["size"]],
        currency=currency,
        way=form.chosen_way,
        buyer=Buyer(name=wish["name"], email=wish["email"], country=wish["country"]),
    )
    plan = plan_of(own)
    if plan.first_payment is not None:
        return redirect(plan.first_payment.get_checkout_url())
    if plan.status == plan.Status.PENDING:
        # Once it runs, to charge would mean the next month, early.
        try:
            flows.charge_plan(plan)
        except MultipayError:
            messages.info(request, "We could not charge the card and will try again.")
    return redirect(own)


@never_cache
@require_GET
def cards(request: HttpRequest) -> HttpResponse:
    """Lead to the saved cards; the page there wants to know whose."""
    customer_of(request)
    return redirect("multipay:methods")


@never_cache
@require_GET
def subscriptions(request: HttpRequest) -> HttpResponse:
    """The visitor's subscriptions, the newest first."""
    own = Subscription.objects.filter(customer_id=customer_of(request))
    return render(
        request,
        "shop/subscriptions.html",
        {"subscriptions": own.select_related("plan")},
    )


@never_cache
@require_GET
def subscription(request: HttpRequest, reference: str) -> HttpResponse:
    """One subscription: what comes next, what was charged, what can be changed."""
    own = own_subscription(request, reference)
    plan = plan_of(own)
    is_over = plan.status in OVER
    is_ours = plan.managed_by == SHOP
    card = plan.token if is_ours else None
    if card is not None and card.status != Token.Status.ACTIVE:
        # Its owner deleted it: it is not charged any more.
        card = None
    boxes = set(own.boxes.values_list("payment_uuid", flat=True))
    charges = plan.payments.order_by("-plan_due_on", "-pk")
    return render(
        request,
        "shop/subscription.html",
        {
            "subscription": own,
            "plan": plan,
            "is_over": is_over,
            "is_ours": is_ours,
            "card": name_of(card) if card else "",
            "other_cards": _other_cards(plan) if is_ours and not is_over else [],
            "by": next(
                (way.by for way in BY_PROVIDERS if way.provider == plan.provider), ""
            ),
            "payment": payment_of_buyer(plan),
            "sizes": [(size, size.price(plan.currency)) for size in SIZES.values()],
            "can_change": not is_over and (is_ours or _can_change(plan)),
            "charges": [(charge, charge.uuid in boxes) for charge in charges],
        },
    )


def _other_cards(plan: RecurringPlan) -> list[tuple[str, str]]:
    return [
        (str(token.uuid), name_of(token))
        for token in saved_methods(plan.customer_id)
        if token.provider == plan.provider and token.pk != plan.token_id
    ]


def _can_change(plan: RecurringPlan) -> bool:
    return any(way.can_change for way in BY_PROVIDERS if way.provider == plan.provider)


# What a visitor may want --------------------------------------------------------------


def _resize(request: HttpRequest, own: Subscription) -> str:
    size = SIZES.get(request.POST.get("size", ""))
    if size is None:
        raise Http404
    change_size(own, size)
    return f"From now on: {size.name.lower()}."


def _use_card(request: HttpRequest, own: Subscription) -> str:
    chosen = request.POST.get("token", "")
    for token in saved_methods(own.customer_id):
        if str(token.uuid) == chosen:
            flows.change_plan(plan_of(own), token=token)
            return f"From now on we charge {name_of(token)}."
    raise Http404


def _pause(request: HttpRequest, own: Subscription) -> str:
    flows.pause_plan(plan_of(own))
    return "Paused. Nothing is charged until you resume."


def _resume(request: HttpRequest, own: Subscription) -> str:
    flows.resume_plan(plan_of(own))
    return "Good to have you back."


def _cancel(request: HttpRequest, own: Subscription) -> str:
    flows.cancel_plan(plan_of(own))
    return "Canceled. Nothing more is charged."


def _charge(request: HttpRequest, own: Subscription) -> str:
    plan = plan_of(own)
    if plan.status != plan.Status.PAST_DUE:
        # The second of two clicks: what was owed is paid.
        return "Nothing is owed."
    payment = flows.charge_plan(plan)
    if payment.status == payment.Status.PAID:
        return "Paid. The box is on its way."
    return "The card was refused again."


WISHES: Mapping[str, Callable[[HttpRequest, Subscription], str]] = {
    "size": _resize,
    "card": _use_card,
    "pause": _pause,
    "resume": _resume,
    "cancel": _cancel,
    "charge": _charge,
}


@require_POST
def change_subscription(
    request: HttpRequest, reference: str, wish: str
) -> HttpResponse:
    """Do what the visitor wants with a subscription, and say how it went."""
    own = own_subscription(request, reference)
    fulfill = WISHES.get(wish)
    if fulfill is None:
        raise Http404
    try:
        messages.success(request, fulfill(request, own))
    except OutcomeUnknown:
        messages.info(request, "We have asked for it and will know in a few minutes.")
    except UnsupportedOperation:
        messages.error(request, "That is not possible with this way of paying.")
    except InvalidTransition:
        messages.info(request, "That is not possible any more.")
    except MultipayError:
        messages.error(request, "That did not work just now. Please try again later.")
    return redirect(own)


def own_subscription(request: HttpRequest, reference: str) -> Subscription:
    """Return the visitor's own subscription; another's does not exist for them."""
    return get_object_or_404(
        Subscription.objects.select_related("plan__token", "plan__first_payment"),
        reference=reference,
        customer_id=customer_of(request),
    )


def plan_of(own: Subscription) -> RecurringPlan:
    """Return the plan that every subscription is saved with."""
    if own.plan is None:
        raise LookupError(f"subscription {own} has no plan")
    return own.plan
