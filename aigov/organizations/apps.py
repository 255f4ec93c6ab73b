from django.apps import AppConfig


class OrganizationsConfig(AppConfig):
    name = "aigov.organizations"
    label = "organizations"
