"""The label of an end reason: the model may also have declined. The database has nothing to do."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("stories", "0012_sentences"),
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
                    ("content_filter", "模型拒绝，或被内容过滤"),
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
    ]
