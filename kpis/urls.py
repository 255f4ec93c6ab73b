"""The addresses of the dashboards."""

from django.urls import path

from kpis import views
from kpis.exports import focus_file

app_name = "kpis"
urlpatterns = [
    path("", views.home, name="home"),
    path("definitions/", views.definitions_page, name="definitions"),
    path("export/focus.csv", focus_file, name="focus"),
    path("<slug:name>/", views.page, name="page"),
    path("<slug:name>/<slug:figure>.<str:kind>", views.export, name="export"),
]
