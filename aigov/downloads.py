"""Answers that are files, sent while they are made."""

from collections.abc import AsyncIterator, Generator
from contextlib import closing

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse
from django.utils.http import content_disposition_header
from django.utils.translation import get_language, override

CONTENT_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "pdf": "application/pdf",
}


def download(request: HttpRequest, chunks: Generator[bytes], *, filename: str) -> StreamingHttpResponse:
    """The file `chunks` as an attachment of that name; its kind is the name's ending.

    Chunks are made in the request's own thread, and so with its connection to the database: under ASGI,
    Django would else make all of them before it sends the first.
    """
    spoken = _in_language(chunks, get_language())
    return StreamingHttpResponse(
        _each_in_thread(spoken) if isinstance(request, ASGIRequest) else spoken,
        content_type=CONTENT_TYPES[filename.rpartition(".")[2]],
        headers={
            "Content-Disposition": content_disposition_header(True, filename) or "attachment",
            "Cache-Control": "no-store",
        },
    )


def _in_language(chunks: Generator[bytes], language: str | None) -> Generator[bytes]:
    """Each chunk is made in the language of the request, which is over by then for Django."""
    with closing(chunks):
        while True:
            with override(language):
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk


async def _each_in_thread(chunks: Generator[bytes]) -> AsyncIterator[bytes]:
    try:
        while (chunk := await _following(chunks)) is not None:
            yield chunk
    finally:
        await sync_to_async(chunks.close)()


@sync_to_async
def _following(chunks: Generator[bytes]) -> bytes | None:
    return next(chunks, None)
