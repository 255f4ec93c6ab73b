from django.apps import AppConfig


class RegistryConfig(AppConfig):
    name = "aigov.registry"
    label = "registry"
