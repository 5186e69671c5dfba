"""How we speak to the shop's other systems: signed, and never to a private address.

Whoever may enter an address could otherwise make this site look into its own network.
So the address is looked at twice: as it is written, when it is entered and before each
attempt, and, which is what counts, the IP address that is really connected to. The name
is resolved once and that very address is used, so a name that changes its answer
gains nothing. Nothing follows redirects or reads proxy variables (see ``http``).
"""

from __future__ import annotations

import functools
import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from django_multipay.conf import conf
from django_multipay.exceptions import InvalidOperation, ProviderError
from django_multipay.http import HttpClient, Limits, error_for_status
from django_multipay.messages import HttpRequest
from django_multipay.signatures import standard_webhook_signature, unix_time

LIMITS = Limits(
    connect=timedelta(seconds=5),
    read=timedelta(seconds=15),
    total=timedelta(seconds=20),
    body_bytes=64 * 1024,
)
"""An answer needs only its status."""

MAX_URL_LENGTH = 500

_FORBIDDEN = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # carriers' NAT, and the metadata of one cloud
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # one cloud's inner services, whatever the registry says
            "169.254.0.0/16",  # link-local, and the metadata of most clouds
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)
"""By the registry of special-purpose addresses (IANA, 2026); a table of our own,
because Python's knowledge differs between its releases."""

_FORBIDDEN_IPV6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # protocol assignments, Teredo among them
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: an IPv4 address inside, which may be private
            "3fff::/20",  # documentation
        ),
    )
)
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
"""All other IPv6 is loopback, local, multicast, mapped, or not assigned."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""How an IPv6 network reaches IPv4: the address inside is the one that counts."""

_PLAIN = re.compile(r"[!#-&(-;=?-\[\]_a-z~]+")
"""Printable ASCII without quotes, brackets that no URL has, and the backslash."""
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]*")
"""A name with a dot in it, whose end is no number: 0x7f.1 and 2130706433 are none."""
_ANY_HOST = re.compile(r"[a-z0-9.-]+")


class ForbiddenAddress(ValueError):
    """The host's address is not one of the public internet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of one attempt; ``error`` is empty when the receiver took it.

    ``status`` is None when no answer came; ``retry_after``: seconds, an hour at most.
    """

    status: int | None
    error: str = ""
    retry_after: int | None = None


def check_url(url: str) -> None:
    """Raise `InvalidOperation` unless ``url`` may be an endpoint's address.

    It must be https on one of the allowed ports, without a user part and a fragment,
    in plain ASCII (a name with other letters in its ``xn--`` form). Numbers that some
    readers take for an IP address are refused, as is every address that is not public.
    With ``ALLOW_PRIVATE``, http, every port and every address will do.
    """
    problem = _problem_of(url)
    if problem:
        raise InvalidOperation(f"the address {problem}", "url")


def _problem_of(url: str) -> str:
    if len(url) > MAX_URL_LENGTH:
        return f"is longer than {MAX_URL_LENGTH} characters"
    if not _PLAIN.fullmatch(url):
        return "has a character that does not belong there, such as a blank"
    try:
        parts = urlsplit(url)
        port = 443 if parts.port is None else parts.port
    except ValueError:
        return "cannot be read"
    is_free = conf.endpoints_allow_private
    host = parts.hostname or ""
    if parts.scheme not in ({"https", "http"} if is_free else {"https"}):
        return "does not begin with https://"
    if "@" in parts.netloc or parts.netloc.endswith(":"):
        return "has a user name, or a colon without a port"
    if "#" in url:
        return "has a fragment"
    if not is_free and port not in conf.endpoint_ports:
        return f"has another port than {', '.join(map(str, conf.endpoint_ports))}"
    if "[" in parts.netloc or re.fullmatch(r"[0-9.]*", host):
        is_good = _is_address(host) and (is_free or is_public(host))
    else:
        is_good = bool((_ANY_HOST if is_free else _HOST).fullmatch(host))
    return "" if is_good and len(host) <= 253 else "names no host of the internet"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def is_public(address: str) -> bool:
    """Say whether ``address``, an IP address as text, is one of the public internet."""
    ip = ipaddress.ip_address(address)
    if ip in _NAT64:
        ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in network for network in _FORBIDDEN)
    # What has a zone is local, whatever its number.
    return (
        ip in _GLOBAL_IPV6
        and ip.scope_id is None
        and not any(ip in network for network in _FORBIDDEN_IPV6)
    )


def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of ``host``; `ForbiddenAddress` if one is not public.

    All of them must be: a host that is half inside is nobody's endpoint.
    """
    found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    if conf.endpoints_allow_private:
        return addresses
    if port not in conf.endpoint_ports or not all(map(is_public, addresses)):
        # Without the address: whoever enters names should not learn what they are.
        raise ForbiddenAddress("the host has an address that is not public")
    return addresses


@functools.cache
def _client() -> HttpClient:
    # Connections that were looked at are kept, like those to a provider.
    return HttpClient("endpoints", LIMITS, resolve=resolve)


def send_event(
    url: str, *, event_id: str, body: bytes, secrets: Sequence[str], moment: datetime
) -> Receipt:
    """Send one event once, signed with every one of ``secrets``; never raises.

    ``event_id`` is the same for every attempt, ``moment`` is that of this one. Only an
    answer with a 2xx status means that the receiver took it.
    """
    try:
        check_url(url)
    except InvalidOperation as error:
        return Receipt(status=None, error=str(error))
    request = HttpRequest(
        operation="event",
        method="POST",
        url=url,
        headers={
            "Content-Type": "application/json",
            "webhook-id": event_id,
            "webhook-timestamp": str(unix_time(moment)),
            "webhook-signature": " ".join(
                standard_webhook_signature(secret, event_id, moment, body)
                for secret in secrets
            ),
        },
        body=body,
        # The path may hold what lets one in.
        has_secret_path=True,
    )
    try:
        response = _client().send(request)
    except ProviderError as error:
        return _without_answer(error)
    if response.status // 100 == 2:
        return Receipt(status=response.status)
    said = error_for_status(request, response, "")
    return Receipt(
        status=response.status,
        error=f"the endpoint answered {response.status}",
        retry_after=said.retry_after,
    )


def _without_answer(error: ProviderError) -> Receipt:
    """Return what an attempt came to that has no answer, or one nobody could read."""
    status = error.http_status or None
    if status and status // 100 == 2:
        # It was taken; what else the receiver had to say does not matter.
        return Receipt(status=status)
    if status:
        return Receipt(status=status, error=f"the endpoint answered {status}")
    cause = error.__cause__
    text = str(cause) if isinstance(cause, ForbiddenAddress) else error.message
    return Receipt(status=None, error=text)
