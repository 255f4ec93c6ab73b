"""What the web keeps of requests: the answers of those that come with an `Idempotency-Key`."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Length
from django.db.models.lookups import LessThanOrEqual

from aigov.organizations.models import Organization

#: Of a kept answer, sealed.
SEALED_BYTES_MAX = 4 * 2**20


class IdempotentAnswer(models.Model):
    """A request that is being answered, or its answer; `aigov.web.idempotency` alone reads and writes it.

    It has no page: what is in it can be read by the client alone. `request_hash` tells the same request from
    another one under the same key. `owner` is the run that has the claim, until `claimed_until`. After
    `finished_at` a missing `answer` was too large to keep.
    """

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+")
    key_hash = models.BinaryField(max_length=32)
    request_hash = models.BinaryField(max_length=32)
    owner = models.UUIDField()
    claimed_until = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    answer = models.BinaryField(null=True)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "idempotent_answers"
        # Nobody is given them by a role.
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "key_hash"], name="idempotency_key_once_per_organization"
            ),
            models.CheckConstraint(
                condition=Q(answer__isnull=True) | Q(finished_at__isnull=False),
                name="idempotent_answer_is_finished",
            ),
            models.CheckConstraint(
                condition=LessThanOrEqual(Length("answer"), SEALED_BYTES_MAX),
                name="idempotent_answer_bounded",
            ),
        ]

    def __str__(self) -> str:
        return f"answer {self.pk}"
