"""Thinking is counted apart from text; stories that may hold some are checked again, so that they get their flag."""

from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import Q

MARKS = ("think", "thought", "reasoning", "<unused9", "<|channel|>", "assistantfinal")


def check_again(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Lets the check of the next minutes look at the stories in whose text a tag of thinking may stand."""
    found = Q()
    for mark in MARKS:
        found |= Q(text__icontains=mark) | Q(edited_text__icontains=mark)
    story = apps.get_model("stories", "Story")
    story._base_manager.filter(found, checked_at__isnull=False).update(checked_at=None)


class Migration(migrations.Migration):
    dependencies = [
        ("stories", "0015_declined"),
    ]

    operations = [
        migrations.AddField(
            model_name="attempt",
            name="first_thought_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="开始思考时间"),
        ),
        migrations.AddField(
            model_name="languagemodel",
            name="opens_in_thinking",
            field=models.BooleanField(
                blank=True,
                help_text="模型的回答不写思考的开头标签，只写结尾的标签。这样的回答等思考结束才给读者看。空白：按名称判断，直到它的回答说明了。",
                null=True,
                verbose_name="回答从思考里开始",
            ),
        ),
        migrations.AlterField(
            model_name="flag",
            name="kind",
            field=models.CharField(
                choices=[
                    ("length", "字数不符"),
                    ("ingredient", "缺少配料"),
                    ("cast", "缺少奥特曼或怪兽"),
                    ("repeated", "重复的段落或句子"),
                    ("unfinished", "结尾没写完"),
                    ("not_chinese", "不是中文"),
                    ("leftover", "残留的提示或标记"),
                    ("thinking", "残留的思考过程"),
                    ("truncated", "被截断"),
                    ("duplicate", "与别篇近似"),
                ],
                max_length=12,
                verbose_name="标记",
            ),
        ),
        migrations.RunPython(check_again, migrations.RunPython.noop),
    ]
