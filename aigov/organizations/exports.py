"""Lists as files: short ones at once, long ones in the background.

A long one is an `Export`: its reader asks for it, the worker makes it, one at a time and the oldest first,
and a day later it is gone. The worker opens the list as that person, at the moment when it makes the file;
so it has what they may see then.
"""

import logging
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from django.apps import apps
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.http import HttpRequest, QueryDict
from django.utils.translation import get_language, gettext, override

from aigov import clock
from aigov.errors import BadRequest
from aigov.organizations.lists import ListTable, list_table
from aigov.organizations.models import Export, ExportChunk, ExportState, User
from aigov.spreadsheets import Row, csv_rows, file_chunks, xlsx_file

log = logging.getLogger(__name__)

FORMATS = ("csv", "xlsx")
#: What is longer is made in the background.
DIRECT_ROWS_MAX = 50_000
#: What one person may have asked for at a time.
OPEN_EXPORTS_MAX = 3
KEPT_FOR = timedelta(days=1)
#: One that says nothing for so long has lost its worker.
SILENT_FOR_MAX = timedelta(minutes=10)
ROWS_A_STEP = 5_000
CHUNK_BYTES = 1024 * 1024
EXPORTS_A_RUN = 20


def chunks(table: ListTable, file_format: str) -> Generator[bytes]:
    """The table as a file of that format."""
    if file_format == "csv":
        return csv_rows(table.columns, table.rows)
    return file_chunks(xlsx_file(table.columns, table.rows, title=table.title))


def start_export(*, user: User, list_name: str, query: str, file_format: str, rows_total: int) -> Export:
    """Asks for a list as a file, in the language in force.

    Raises:
        BadRequest: the person waits for too many files already.
    """
    waiting = user.exports.filter(state__in=[ExportState.WAITING, ExportState.RUNNING]).count()
    if waiting >= OPEN_EXPORTS_MAX:
        raise BadRequest(
            gettext("You are waiting for other files already. Please try again when they are ready.")
        )
    now = clock.now()
    return Export.objects.create(
        user=user,
        list_name=list_name,
        query=query,
        file_format=file_format,
        language=get_language() or "en",
        rows_total=rows_total,
        created_at=now,
        changed_at=now,
    )


def make_exports() -> int:
    """Makes the files that are waited for, one after the other; does nothing while another worker does."""
    _give_up_silent()
    for made in range(EXPORTS_A_RUN):
        export = _claim_next()
        if export is None:
            return made
        _make(export)
    return EXPORTS_A_RUN


def forget_exports() -> int:
    """Deletes the files that were asked for more than a day ago."""
    deleted, _ = Export.objects.filter(created_at__lt=clock.now() - KEPT_FOR).delete()
    return deleted


def content(export: Export) -> Generator[bytes]:
    """The file of an export that is ready."""
    numbers = list(export.chunks.order_by("number").values_list("number", flat=True))
    return (bytes(export.chunks.get(number=number).content) for number in numbers)


def _claim_next() -> Export | None:
    """The oldest that waits, now running; None: there is none, or another one is running."""
    waiting = Export.objects.filter(state=ExportState.WAITING).order_by("created_at").values("pk")[:1]
    with suppress(IntegrityError), transaction.atomic():
        if Export.objects.filter(pk__in=waiting, state=ExportState.WAITING).update(
            state=ExportState.RUNNING, changed_at=clock.now()
        ):
            return Export.objects.select_related("user").get(state=ExportState.RUNNING)
    return None


def _give_up_silent() -> None:
    silent = Export.objects.filter(state=ExportState.RUNNING, changed_at__lt=clock.now() - SILENT_FOR_MAX)
    for export_id in silent.values_list("pk", flat=True):
        _end(export_id, ExportState.FAILED)


def _make(export: Export) -> None:
    try:
        with override(export.language):
            table = _table_of(export)
            rows = _told(export.pk, table.rows)
            counted = ListTable(table.title, table.count, table.columns, rows)
            _keep(export.pk, chunks(counted, export.file_format))
            Export.objects.filter(pk=export.pk).update(filename=table.filename(export.file_format))
    except Exception:
        # Whatever it was: the reader is told, and the next export has its turn.
        log.exception("the export %s of %s failed", export.pk, export.list_name)
        _end(export.pk, ExportState.FAILED)
    else:
        _end(export.pk, ExportState.DONE)


def _table_of(export: Export) -> ListTable:
    """The list as its reader sees it now."""
    page = admin.site.get_model_admin(apps.get_model(export.list_name))
    request = HttpRequest()
    request.method, request.GET, request.user = "GET", QueryDict(export.query), export.user
    if not export.user.is_active or not page.has_view_permission(request):
        raise PermissionDenied
    return list_table(page, request)


def _told(export_id: UUID, rows: Iterable[Row]) -> Iterator[Row]:
    """The rows; how many are done stands on the export."""
    done = 0
    for done, row in enumerate(rows, start=1):
        yield row
        if done % ROWS_A_STEP == 0:
            _note(export_id, done)
    _note(export_id, done)


def _note(export_id: UUID, rows_done: int) -> None:
    running = Export.objects.filter(pk=export_id, state=ExportState.RUNNING)
    if not running.update(rows_done=rows_done, changed_at=clock.now()):
        raise RuntimeError("the export was given up meanwhile")


def _keep(export_id: UUID, parts: Iterable[bytes]) -> None:
    number, gathered = 0, bytearray()
    for part in parts:
        gathered += part
        if len(gathered) >= CHUNK_BYTES:
            ExportChunk.objects.create(export_id=export_id, number=number, content=bytes(gathered))
            number, gathered = number + 1, bytearray()
    ExportChunk.objects.create(export_id=export_id, number=number, content=bytes(gathered))


def _end(export_id: UUID, state: ExportState) -> None:
    """Ends an export that is running; one that failed keeps nothing of its file."""
    running = Export.objects.filter(pk=export_id, state=ExportState.RUNNING)
    running.update(state=state, changed_at=clock.now())
    if state == ExportState.FAILED:
        ExportChunk.objects.filter(export_id=export_id).delete()
