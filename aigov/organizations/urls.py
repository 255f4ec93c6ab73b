"""One's own exports, below `/admin/exports/`."""

from django.contrib import admin
from django.urls import path

from aigov.organizations.export_pages import export_file, exports_page

urlpatterns = [
    path("", admin.site.admin_view(exports_page), name="exports"),
    path("<uuid:export_id>/file/", admin.site.admin_view(export_file), name="export-file"),
]
