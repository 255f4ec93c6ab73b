"""Paths of the settings registry, below `/api/v1/settings/`."""

from django.urls import path

from aigov.registry.api import EffectiveSettings, SettingKeys, SettingOfKey

urlpatterns = [
    path("effective", EffectiveSettings.as_view(), name="settings-effective"),
    path("keys", SettingKeys.as_view(), name="settings-keys"),
    path("<str:key>", SettingOfKey.as_view(), name="setting"),
]
