"""Addresses of the shop."""

from __future__ import annotations

from django.urls import path

from shop import views

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
]
