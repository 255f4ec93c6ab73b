"""Addresses that people have typed in lead to the public internet, or nowhere."""

import asyncio
import socket
from ipaddress import ip_address
from typing import Any

import pytest

from aigov.web import outbound
from aigov.web.outbound import AddressRefused, NotReached, checked, is_allowed, post

PRIVATE = (
    *("127.0.0.1", "127.1.2.3", "10.0.0.1", "172.16.5.4", "192.168.1.1", "100.64.0.1", "0.0.0.0"),
    *("::1", "fc00::1", "fd12::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::a00:1"),
    *("2002:a00:1::", "2001:0:a00:1:0:0:f5ff:fffe", "198.18.0.1", "240.0.0.1", "255.255.255.255"),
)
NEVER = (
    *("169.254.169.254", "169.254.0.1", "fe80::1", "fd00:ec2::254", "100.100.100.200", "192.0.0.192"),
    *("::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "224.0.0.1", "ff02::1", "::", "0.0.0.0"),
)
PUBLIC = ("8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808")


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_is_never_asked_for_strangers(address: str) -> None:
    assert not is_allowed(ip_address(address), trusted=False)


@pytest.mark.parametrize("address", NEVER)
def test_metadata_and_neighbours_are_not_asked_for_anybody(address: str) -> None:
    assert not is_allowed(ip_address(address), trusted=True)
    assert not is_allowed(ip_address(address), trusted=False)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_asked(address: str) -> None:
    assert is_allowed(ip_address(address), trusted=False)


def test_the_operators_own_hosts_may_be_private() -> None:
    assert all(
        is_allowed(ip_address(address), trusted=True) for address in ("127.0.0.1", "10.0.0.1", "fd12::1")
    )


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "https://", "ftp://example.com", "http://example.com/hook", "file:///etc/passwd"),
        *(
            "https://user@example.com",
            "https://u:p@example.com",
            "https://example.com:99999/",
            "https://[::1",
        ),
        *(
            "https://exa mple.com",
            "https://example.com/\n",
            "https://exämple.com/",
            f"https://e.com/{'x' * 2000}",
        ),
    ],
)
def test_what_is_no_public_web_address_is_refused_by_its_words(url: str) -> None:
    with pytest.raises(AddressRefused):
        checked(url)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "https://127.0.0.1/",
            "https://localhost/",
            "https://[::1]:8443/x",
            "https://169.254.169.254/latest",
        ),
        *("https://2130706433/", "https://0x7f.1/", "https://127.1/", "https://0/", "https://LOCALHOST./"),
    ],
)
def test_what_leads_into_our_network_is_refused_without_a_connection(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unwanted(*args: Any) -> int:
        raise AssertionError("it was asked")

    monkeypatch.setattr(outbound, "_post", unwanted)
    with pytest.raises((AddressRefused, NotReached)):
        post(url, body=b"{}", headers={})


def test_one_private_address_among_public_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that has both would be asked at the one or the other by chance."""

    async def both(self: Any, host: str, port: int, **more: Any) -> list[Any]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("8.8.8.8", "10.0.0.1")
        ]

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", both)
    with pytest.raises(AddressRefused, match="not on the public internet"):
        post("https://example.com/", body=b"{}", headers={})


def test_plain_http_is_for_the_operators_own_hosts_alone(settings: Any) -> None:
    settings.OUTBOUND_TRUSTED_HOSTS = frozenset({"chat.internal"})
    assert checked("http://chat.internal:8080/x").port == 8080
    with pytest.raises(AddressRefused):
        checked("http://other.internal/x")


def test_even_an_operators_host_does_not_lead_to_metadata(settings: Any) -> None:
    settings.OUTBOUND_TRUSTED_HOSTS = frozenset({"169.254.169.254"})
    with pytest.raises(AddressRefused):
        post("http://169.254.169.254/latest/meta-data", body=b"", headers={})
