from django.db import migrations, models

import providers.models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Price",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "provider",
                    models.CharField(
                        choices=[("openai", "OpenAI"), ("anthropic", "Anthropic")],
                        max_length=32,
                        verbose_name="provider",
                    ),
                ),
                ("model", models.CharField(max_length=200, verbose_name="model")),
                (
                    "service_tier",
                    models.CharField(default="standard", max_length=64, verbose_name="service tier"),
                ),
                ("valid_from", models.DateTimeField(verbose_name="valid from")),
                (
                    "currency",
                    models.CharField(default="USD", editable=False, max_length=3, verbose_name="currency"),
                ),
                (
                    "bands",
                    models.JSONField(
                        help_text="US dollars per million tokens. A band applies to the whole of a longer request.",
                        validators=[providers.models.validate_bands],
                        verbose_name="rates",
                    ),
                ),
                (
                    "source",
                    models.CharField(
                        choices=[
                            ("genai-prices", "public list (genai-prices)"),
                            ("contract", "contract"),
                            ("by hand", "by hand"),
                        ],
                        default="by hand",
                        max_length=32,
                        verbose_name="source",
                    ),
                ),
                (
                    "source_version",
                    models.CharField(blank=True, max_length=100, verbose_name="version of the source"),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="added")),
            ],
            options={
                "verbose_name": "price",
                "verbose_name_plural": "prices",
                "indexes": [
                    models.Index(
                        fields=["provider", "model", "service_tier", "-valid_from"], name="price_lookup"
                    )
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("provider__in", ["openai", "anthropic"])),
                        name="price_provider_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("source__in", ["genai-prices", "contract", "by hand"])),
                        name="price_source_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("currency", "USD")), name="price_currency_usd"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("model", ""), _negated=True),
                            models.Q(("service_tier", ""), _negated=True),
                        ),
                        name="price_model_named",
                    ),
                ],
            },
        ),
    ]
