from typing import Any

from django.db import migrations, models
from django.db.models import F


def name_cancelled_runs(apps: Any, schema_editor: Any) -> None:
    """What a run's cancelling ended said that a reader stopped it; what was stopped before that keeps its reason."""
    apps.get_model("stories", "Story").objects.filter(
        state="cancelled",
        end_reason="stopped",
        run__state="cancelled",
        ended_at__gte=F("run__finished_at"),
    ).update(end_reason="cancelled")


def name_them_stopped(apps: Any, schema_editor: Any) -> None:
    apps.get_model("stories", "Story").objects.filter(end_reason="cancelled").update(end_reason="stopped")


class Migration(migrations.Migration):
    dependencies = [
        ("stories", "0009_reports"),
    ]

    operations = [
        migrations.AlterField(
            model_name="story",
            name="end_reason",
            field=models.CharField(
                blank=True,
                choices=[
                    ("stop", "写完了"),
                    ("length", "达到长度上限"),
                    ("content_filter", "被内容过滤截断"),
                    ("stopped", "被读者停止"),
                    ("cut", "连接中断"),
                    ("lost", "写作进程中断"),
                    ("refused", "被模型服务拒绝"),
                    ("quota", "额度或预算用完"),
                    ("empty", "模型没有写出文字"),
                    ("unknown", "结果不明"),
                    ("cancelled", "批次已取消"),
                ],
                max_length=16,
                verbose_name="结束原因",
            ),
        ),
        migrations.RunPython(name_cancelled_runs, name_them_stopped),
    ]
