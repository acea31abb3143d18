"""The columns of sentences: the same text columns, read otherwise. The database has nothing to do."""

from django.db import migrations

import sentences.fields


class Migration(migrations.Migration):
    dependencies = [
        ("stories", "0011_imported_files"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    model_name="attempt",
                    name="doubt",
                    field=sentences.fields.SentenceField(blank=True, verbose_name="账单存疑"),
                ),
                migrations.AlterField(
                    model_name="attempt",
                    name="error",
                    field=sentences.fields.SentenceField(blank=True, verbose_name="出错说明"),
                ),
                migrations.AlterField(
                    model_name="batchorder",
                    name="error",
                    field=sentences.fields.SentenceField(blank=True, verbose_name="出错说明"),
                ),
                migrations.AlterField(
                    model_name="importedfile",
                    name="error",
                    field=sentences.fields.SentenceField(blank=True, verbose_name="出错说明"),
                ),
                migrations.AlterField(
                    model_name="run",
                    name="pause_reason",
                    field=sentences.fields.SentenceField(blank=True, verbose_name="暂停原因"),
                ),
                migrations.AlterField(
                    model_name="story",
                    name="error",
                    field=sentences.fields.SentenceField(blank=True, verbose_name="出错说明"),
                ),
            ],
        ),
    ]
