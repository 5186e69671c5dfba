"""Addresses of the shop."""

from __future__ import annotations

from django.urls import path

from shop import box_views, headless, views

app_name = "shop"

urlpatterns = [
    path("", views.catalog, name="catalog"),
    path("coffee/<slug:slug>/", views.product, name="product"),
    path("cart/", views.cart, name="cart"),
    path("cart/<slug:slug>/", views.change_cart, name="change_cart"),
    path("currency/", views.choose_currency, name="choose_currency"),
    path("checkout/", views.checkout, name="checkout"),
    path("orders/", views.orders, name="orders"),
    path("orders/<str:reference>/", views.order, name="order"),
    path("orders/<str:reference>/pay/", views.pay, name="pay"),
    path("headless/", headless.page, name="headless"),
    path("headless/order/", headless.order, name="headless_order"),
    path("cards/", box_views.cards, name="cards"),
    path("coffee-box/", box_views.coffee_box, name="coffee_box"),
    path("subscriptions/", box_views.subscriptions, name="subscriptions"),
    path("subscriptions/<str:reference>/", box_views.subscription, name="subscription"),
    path(
        "subscriptions/<str:reference>/<slug:wish>/",
        box_views.change_subscription,
        name="change_subscription",
    ),
]
