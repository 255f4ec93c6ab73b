"""Pages on the providers' bills, below `/admin/budgets/reconciliation/`."""

from django.contrib import admin
from django.urls import path

from budgets import bill_exports, bill_forms, bill_pages

_page = admin.site.admin_view

urlpatterns = [
    path("", _page(bill_pages.overview), name="reconciliation"),
    path("file/", _page(bill_forms.file_page), name="reconciliation-file"),
    path("file/<int:import_id>/", _page(bill_forms.confirm_page), name="reconciliation-confirm"),
    path(
        "<str:month>/export/<str:file_format>/",
        _page(bill_exports.overview_file),
        name="reconciliation-export",
    ),
    path("<str:month>/read/", _page(bill_forms.read_page), name="reconciliation-read"),
    path("<str:month>/of/<str:provider>/", _page(bill_pages.provider_page), name="reconciliation-provider"),
    path(
        "<str:month>/of/<str:provider>/export/<str:table>/<str:file_format>/",
        _page(bill_exports.table_file),
        name="reconciliation-table",
    ),
    path("<str:month>/of/<str:provider>/post/", _page(bill_forms.post_page), name="reconciliation-post"),
    path(
        "<str:month>/of/<str:provider>/accept/", _page(bill_forms.accept_page), name="reconciliation-accept"
    ),
]
