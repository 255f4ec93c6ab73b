"""Requests to addresses that people have typed in, kept away from our own network (SSRF).

A name is resolved once, every address it has is checked, and the connection goes to one of those that were
checked: what the name means a moment later does not matter. Only public addresses are asked, by https;
redirects are not followed, nothing of the answer is read but its status, and all of it takes `DEADLINE_S` at
most.

The operator can name hosts of their own network (`OUTBOUND_TRUSTED_HOSTS`), which may have private addresses
and plain http. Addresses that only the machine's own cloud answers (metadata) are never asked, named or not.
"""

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

import httpx2
from django.conf import settings
from django.utils.translation import gettext as _

DEADLINE_S = 10.0
CONNECT_TIMEOUT_S = 3.0
ADDRESSES_TRIED_MAX = 3
URL_CHARACTERS_MAX = 2_000

Address = IPv4Address | IPv6Address

#: AWS by IPv6, and Oracle; the usual 169.254.169.254 is link-local.
METADATA = frozenset(map(ip_address, ("fd00:ec2::254", "192.0.0.192", "100.100.100.200")))
NAT64 = IPv6Network("64:ff9b::/96")


class AddressRefused(Exception):
    """The address may not be asked; its text says why, for people."""


class NotReached(Exception):
    """There was no answer; its text says why, for people."""


@dataclass(frozen=True, slots=True)
class Target:
    """An address that may be asked, as far as its words tell."""

    url: SplitResult
    host: str
    port: int
    trusted: bool


def checked(url: str) -> Target:
    """Whether `url` may be asked, as far as its words tell; where its name leads is looked at later.

    Raises:
        AddressRefused: it is no address that may be asked.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        raise AddressRefused(_("This is no web address.")) from None
    trusted = host in settings.OUTBOUND_TRUSTED_HOSTS
    if not host or len(url) > URL_CHARACTERS_MAX or not url.isascii() or not url.isprintable() or " " in url:
        raise AddressRefused(_("This is no web address."))
    if parts.scheme != "https" and not (trusted and parts.scheme == "http"):
        raise AddressRefused(_("The address must begin with https://."))
    if parts.username is not None or parts.password is not None:
        raise AddressRefused(_("The address must not hold a user or password."))
    return Target(parts, host, port or (443 if parts.scheme == "https" else 80), trusted)


def is_allowed(address: Address, *, trusted: bool) -> bool:
    """Whether a connection may go to `address`; an IPv6 address that stands for an IPv4 one is that."""
    if isinstance(address, IPv6Address) and (inner := _embedded(address)) is not None:
        return is_allowed(inner, trusted=trusted)
    if address in METADATA or address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    return trusted or (address.is_global and not address.is_reserved)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def post(url: str, *, body: bytes, headers: Mapping[str, str]) -> int:
    """Sends `body` to `url` and gives the status of the answer, whatever it is.

    Raises:
        AddressRefused: the address may not be asked, and was not.
        NotReached: there was no answer in time.
    """
    target = checked(url)
    try:
        return asyncio.run(_post_in_time(target, body, headers))
    except TimeoutError as error:
        raise NotReached(_("There was no answer in time.")) from error


async def _post_in_time(target: Target, body: bytes, headers: Mapping[str, str]) -> int:
    async with asyncio.timeout(DEADLINE_S):
        addresses = await _resolved(target)
        for address in addresses[:-1]:
            try:
                return await _post(target, address, body, headers)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                continue  # a name may have addresses that cannot be reached from here, such as IPv6
        try:
            return await _post(target, addresses[-1], body, headers)
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            raise NotReached(_("There was no answer: %(why)s.") % {"why": type(error).__name__}) from error


async def _resolved(target: Target) -> list[Address]:
    """The addresses of the target's name, all of which may be asked."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NotReached(_("The name %(host)s is not known.") % {"host": target.host}) from error
    addresses = list(dict.fromkeys(ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))
    if not addresses or not all(is_allowed(address, trusted=target.trusted) for address in addresses):
        raise AddressRefused(_("%(host)s is not on the public internet.") % {"host": target.host})
    return addresses[:ADDRESSES_TRIED_MAX]


async def _post(target: Target, address: Address, body: bytes, headers: Mapping[str, str]) -> int:
    literal = f"[{address}]" if address.version == 6 else str(address)
    pinned = target.url._replace(netloc=f"{literal}:{target.port}", fragment="").geturl()
    # No proxy of the environment: it would resolve the name anew.
    async with httpx2.AsyncClient(
        trust_env=False,
        follow_redirects=False,
        timeout=httpx2.Timeout(DEADLINE_S, connect=CONNECT_TIMEOUT_S),
    ) as client:
        request = client.build_request(
            "POST",
            pinned,
            content=body,
            headers={**headers, "host": target.url.netloc, "accept-encoding": "identity"},
            extensions={"sni_hostname": target.host},
        )
        response = await client.send(request, stream=True)
        await response.aclose()
        return response.status_code
