"""The next step of a direct payment: redirect, form, QR code and wallet link."""

import base64
import io
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import segno

from django_multipay.sandbox.clink.codes import ACTION_OF_METHOD
from django_multipay.sandbox.clink.ledger import Order, Session

PNG, SVG = "png", "svg"
PICTURE_SCALE, PICTURE_BORDER = 8, 4


def qr_picture(content: str, kind: str) -> bytes:
    """A QR code that a phone can read, as PNG or SVG."""
    picture = io.BytesIO()
    segno.make_qr(content).save(
        picture, kind=kind, scale=PICTURE_SCALE, border=PICTURE_BORDER
    )
    return picture.getvalue()


def qr_data_url(content: str) -> str:
    return f"data:image/png;base64,{_base64(qr_picture(content, PNG))}"


def authorize_address(session: Session, order: Order) -> str:
    """Where a browser decides about a direct payment."""
    return f"{session.origin}/clink/authorize/{order.order_id}"


def phone_address(session: Session, order: Order) -> str:
    """What the QR code holds: the page a phone opens."""
    return f"{session.origin}/clink/phone/{order.qr_code}"


def picture_address(session: Session, order: Order, kind: str) -> str:
    return f"{session.origin}/clink/qr/{order.qr_code}.{kind}"


def make_action(
    session: Session, order: Order, settings: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """The `action` of an answer; the order keeps what its pages must know."""
    shape = settings["action_shape"]
    if shape == "by_method":
        shape = ACTION_OF_METHOD[order.method]
    action: dict[str, Any] = {
        "redirectUrl": authorize_address(session, order),
        "method": "GET",
        "type": order.method,
        "paymentMethodType": order.method,
        "postData": None,
        "walletHandleRedirectOrDisplayQrCode": None,
    }
    if shape == "post_form":
        order.form_token = secrets.token_urlsafe(24)
        action["redirectUrl"] = f"{session.origin}/clink/challenge/{order.order_id}"
        action["method"] = "POST"
        action["postData"] = {
            "orderId": order.order_id,
            "challengeToken": order.form_token,
        }
    elif shape == "qr":
        lifetime = int(settings["qr_lifetime_seconds"])
        order.qr_code = secrets.token_urlsafe(12)
        order.qr_expires = now + timedelta(seconds=lifetime)
        action["redirectUrl"] = _instructions_address(session, order)
        action["walletHandleRedirectOrDisplayQrCode"] = _wallet(
            session, order, settings, lifetime
        )
    return action


def _wallet(
    session: Session, order: Order, settings: Mapping[str, Any], lifetime: int
) -> dict[str, Any]:
    phone = phone_address(session, order)
    pictures: dict[str, str | None] = dict.fromkeys(
        ("imageUrlPng", "imageUrlSvg", "imageDataUrl")
    )
    match settings["qr_picture"]:
        case "url":
            pictures["imageUrlPng"] = picture_address(session, order, PNG)
            pictures["imageUrlSvg"] = picture_address(session, order, SVG)
        case "base64":
            pictures["imageUrlPng"] = _base64(qr_picture(phone, PNG))
            pictures["imageUrlSvg"] = _base64(qr_picture(phone, SVG))
        case _:
            pictures["imageDataUrl"] = qr_data_url(phone)
    is_app = settings["deep_link"] == "app"
    expires = order.qr_expires
    return {
        **pictures,
        "hostedInstructionsUrl": _instructions_address(session, order),
        "mobileAuthUrl": f"clinksandbox://pay/{order.qr_code}" if is_app else phone,
        "fallbackUrl": authorize_address(session, order),
        "packageName": "com.example.clinksandbox",
        "expiresAt": int(expires.timestamp()) if expires else None,
        "expiresSecond": lifetime,
    }


def _instructions_address(session: Session, order: Order) -> str:
    return f"{session.origin}/clink/instructions/{order.order_id}"


def _base64(picture: bytes) -> str:
    return base64.b64encode(picture).decode()
