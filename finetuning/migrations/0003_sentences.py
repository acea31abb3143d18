"""The columns of sentences: the same text columns, read otherwise. The database has nothing to do."""

from django.db import migrations

import sentences.fields


class Migration(migrations.Migration):
    dependencies = [
        ("finetuning", "0002_money"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    model_name="job",
                    name="doubt",
                    field=sentences.fields.SentenceField(blank=True, verbose_name="账单存疑"),
                ),
                migrations.AlterField(
                    model_name="job",
                    name="error",
                    field=sentences.fields.SentenceField(blank=True, verbose_name="出错说明"),
                ),
            ],
        ),
    ]
