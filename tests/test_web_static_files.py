"""Static files, served by the real server and by Django's test client."""

import httpx2
import pytest
from django.test import Client

from tests.conftest import Server

STYLES = "/static/aigov/admin.css"


@pytest.fixture(params=["asynchronous", "synchronous"])
def get(request: pytest.FixtureRequest, server: Server):  # type: ignore[no-untyped-def]
    if request.param == "synchronous":
        yield lambda path, **headers: Client(headers=headers).get(path)
        return
    with httpx2.Client(base_url=server.url, timeout=30) as client:
        yield lambda path, **headers: client.get(path, headers=headers)


def test_a_file_is_sent_with_its_type_and_length(get) -> None:  # type: ignore[no-untyped-def]
    response = get(STYLES)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/css")
    assert int(response.headers["content-length"]) == len(response.content)
    assert b"--color-primary-600" in response.content


def test_a_known_file_is_not_sent_again(get) -> None:  # type: ignore[no-untyped-def]
    response = get(STYLES, **{"If-Modified-Since": get(STYLES).headers["last-modified"]})
    assert (response.status_code, response.content) == (304, b"")


def test_a_part_is_sent_where_a_part_is_asked_for(get) -> None:  # type: ignore[no-untyped-def]
    response = get(STYLES, Range="bytes=0-1")
    assert (response.status_code, response.content) == (206, b"/*")


def test_what_is_no_file_is_not_found(get) -> None:  # type: ignore[no-untyped-def]
    assert get("/static/aigov/none.css").status_code == 404
    assert get("/static/../aigov/settings.py").status_code == 404


def test_files_may_be_kept_by_nobody_elses_page(get) -> None:  # type: ignore[no-untyped-def]
    response = get(STYLES)
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in response.headers["content-security-policy"]
