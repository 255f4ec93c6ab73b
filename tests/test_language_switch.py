"""The language is chosen on any page, and kept in a cookie: before the login, in the admin and at /kpis/."""

import pytest
from django.test import Client
from django.urls import reverse

from aigov.organizations.create import OPERATOR
from aigov.organizations.models import Organization
from tests.admin_world import as_role, text_of

LOGIN, ADMIN, KPIS = "/admin/login/", "/admin/", "/kpis/overview/"


def choose(client: Client, language: str, page: str) -> str:
    """Chooses the language on `page`, and gives what is shown then."""
    before = text_of(client.get(page, follow=True))
    assert f'action="{reverse("set_language")}"' in before and "Deutsch" in before
    answer = client.post(
        reverse("set_language"), {"language": language}, headers={"Referer": f"http://testserver{page}"}
    )
    assert answer.url == f"http://testserver{page}"  # type: ignore[attr-defined]
    cookie = client.cookies["django_language"]
    assert cookie["httponly"] and cookie["samesite"] == "Lax"
    return text_of(client.get(page, follow=True))


def test_the_language_is_chosen_on_every_kind_of_page(organization: Organization) -> None:
    for client, page in (
        (Client(), LOGIN),
        (as_role("finance", organization), ADMIN),
        (as_role("finance", organization), KPIS),
    ):
        assert '<html lang="de"' in choose(client, "de", page), page
        assert '<html lang="en"' in choose(client, "en", page), page


def test_what_is_chosen_goes_before_the_browsers_language_and_leads_to_no_other_site() -> None:
    client = Client(headers={"Accept-Language": "de"})
    assert '<html lang="de"' in text_of(client.get(LOGIN))
    assert '<html lang="en"' in choose(client, "en", LOGIN)
    answer = client.post(reverse("set_language"), {"language": "de", "next": "https://example.com/"})
    assert answer.url == "/"  # type: ignore[attr-defined]
    client.post(reverse("set_language"), {"language": "xx"})
    assert '<html lang="de"' in text_of(client.get(LOGIN))


def test_no_other_site_chooses_it() -> None:
    client = Client(enforce_csrf_checks=True)
    assert client.post(reverse("set_language"), {"language": "de"}).status_code == 403


@pytest.mark.parametrize("page", ["/nothing", "/admin/nothing/", "/kpis/nothing/"])
def test_a_page_that_is_not_there_speaks_the_readers_language(page: str) -> None:
    answer = as_role(OPERATOR).get(page, headers={"accept-language": "de"})
    assert answer.status_code == 404
    assert '<html lang="de">' in answer.content.decode()
