from typing import Any

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


def take_back_approvals(apps: Any, schema_editor: Any) -> None:
    """A reader's story is in the library, and in datasets, only if its reader offered it; so far nobody could."""
    approved = apps.get_model("stories", "Story").objects.filter(origin="reader", verdict="approved")
    approved.filter(visibility="library").update(visibility="private")
    approved.update(verdict="unreviewed", reviewed_at=None)


class Migration(migrations.Migration):
    dependencies = [
        ("stories", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Reaction",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("who", models.CharField(max_length=80, verbose_name="读者")),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("liked", "喜欢"),
                            ("disliked", "不喜欢"),
                            ("finished", "读完了"),
                            ("reported", "举报"),
                        ],
                        max_length=10,
                        verbose_name="反应",
                    ),
                ),
                (
                    "cause",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("sexual", "低俗色情"),
                            ("violent", "血腥暴力"),
                            ("illegal", "违法有害"),
                            ("person", "冒犯或泄露他人"),
                            ("broken", "乱写一通，读不下去"),
                            ("other", "其他"),
                        ],
                        max_length=10,
                        verbose_name="缘由",
                    ),
                ),
                ("reason", models.CharField(blank=True, max_length=500, verbose_name="理由")),
                ("passage", models.CharField(blank=True, max_length=1000, verbose_name="所指的段落")),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="时间")),
            ],
            options={
                "verbose_name": "读者反应",
                "verbose_name_plural": "读者反应",
                "ordering": ["-pk"],
            },
        ),
        migrations.AddField(
            model_name="story",
            name="held_at",
            field=models.DateTimeField(blank=True, editable=False, null=True, verbose_name="因举报收起"),
        ),
        migrations.AddField(
            model_name="story",
            name="likes",
            field=models.PositiveIntegerField(default=0, editable=False, verbose_name="喜欢"),
        ),
        migrations.AddField(
            model_name="story",
            name="offered_at",
            field=models.DateTimeField(blank=True, editable=False, null=True, verbose_name="投稿时间"),
        ),
        migrations.AddField(
            model_name="story",
            name="offered_by",
            field=models.CharField(blank=True, editable=False, max_length=80, verbose_name="投稿人"),
        ),
        migrations.AlterField(
            model_name="review",
            name="decision",
            field=models.CharField(
                choices=[
                    ("approved", "采纳"),
                    ("rejected", "拒绝"),
                    ("edited", "编辑"),
                    ("restored", "恢复"),
                    ("undone", "撤销"),
                ],
                max_length=10,
                verbose_name="决定",
            ),
        ),
        migrations.AddIndex(
            model_name="story",
            index=models.Index(
                fields=["verdict", "visibility", "-likes", "-created_at", "-id"], name="story_best_liked"
            ),
        ),
        # There is no way back to what was approved without being offered.
        migrations.RunPython(take_back_approvals, migrations.RunPython.noop),
        migrations.AddConstraint(
            model_name="story",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("verdict", "approved"), _negated=True),
                    models.Q(("origin", "reader"), _negated=True),
                    ("offered_at__isnull", False),
                    _connector="OR",
                ),
                name="story_readers_is_offered_first",
            ),
        ),
        migrations.AddField(
            model_name="reaction",
            name="language_model",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                to="stories.languagemodel",
                verbose_name="模型",
            ),
        ),
        migrations.AddField(
            model_name="reaction",
            name="settled_by",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="settled_reports",
                to="stories.review",
                verbose_name="处理",
            ),
        ),
        migrations.AddField(
            model_name="reaction",
            name="story",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="reactions",
                to="stories.story",
                verbose_name="故事",
            ),
        ),
        migrations.AddIndex(
            model_name="reaction",
            index=models.Index(fields=["who"], name="reaction_reader"),
        ),
        migrations.AddConstraint(
            model_name="reaction",
            constraint=models.UniqueConstraint(fields=("story", "who", "kind"), name="reaction_once"),
        ),
        migrations.AddConstraint(
            model_name="reaction",
            constraint=models.UniqueConstraint(
                condition=models.Q(("kind__in", ["liked", "disliked"])),
                fields=("story", "who"),
                name="reaction_liked_or_disliked",
            ),
        ),
        migrations.AddConstraint(
            model_name="reaction",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind", "reported"), _negated=True),
                    models.Q(("cause", ""), _negated=True),
                    _connector="OR",
                ),
                name="reaction_report_has_cause",
            ),
        ),
    ]
