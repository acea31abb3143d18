"""Reports that hold nothing: when a story was reported last, from how many addresses, and what undo goes back to."""

from typing import Any

from django.conf import settings
from django.db import migrations, models
from django.db.models import Exists, F, Max, OuterRef, Q, Subquery


def fill(apps: Any, schema_editor: Any) -> None:
    """Until now each report held its story, and a rejection after one kept it held."""
    story, review = apps.get_model("stories", "Story"), apps.get_model("stories", "Review")
    reports = apps.get_model("stories", "Reaction").objects.filter(kind="reported")
    last = reports.filter(story=OuterRef("pk")).values("story").annotate(at=Max("created_at")).values("at")
    story.objects.filter(pk__in=reports.values("story")).update(reported_at=Subquery(last))
    settled = reports.filter(settled_by__isnull=False)
    led_to = Exists(settled.filter(settled_by=OuterRef("pk")))
    after_rejection = Q(verdict_before="rejected") & Exists(settled.filter(story=OuterRef("story")))
    review.objects.filter(led_to | after_rejection).update(held_before=F("created_at"))


class Migration(migrations.Migration):
    dependencies = [
        ("stories", "0008_money"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="reaction",
            name="address_hash",
            field=models.CharField(blank=True, editable=False, max_length=64),
        ),
        migrations.AddField(
            model_name="review",
            name="held_before",
            field=models.DateTimeField(blank=True, editable=False, null=True, verbose_name="之前因举报收起"),
        ),
        migrations.AddField(
            model_name="story",
            name="reported_at",
            field=models.DateTimeField(blank=True, editable=False, null=True, verbose_name="举报时间"),
        ),
        migrations.AlterField(
            model_name="review",
            name="decision",
            field=models.CharField(
                choices=[
                    ("approved", "采纳"),
                    ("rejected", "拒绝"),
                    ("edited", "编辑"),
                    ("restored", "驳回举报"),
                    ("undone", "撤销"),
                ],
                max_length=10,
                verbose_name="决定",
            ),
        ),
        migrations.AddIndex(
            model_name="story",
            index=models.Index(
                condition=Q(reported_at__isnull=False), fields=["reported_at"], name="story_reported"
            ),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
