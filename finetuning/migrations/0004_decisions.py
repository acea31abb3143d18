"""What a person decides about a job whose provider does not say how it ended, and since when it says what it says."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("finetuning", "0003_sentences"),
    ]

    operations = [
        migrations.AddField(
            model_name="job",
            name="asked_at",
            field=models.DateTimeField(blank=True, editable=False, null=True, verbose_name="等人决定"),
        ),
        migrations.AddField(
            model_name="job",
            name="remote_model",
            field=models.CharField(blank=True, editable=False, max_length=200, verbose_name="对方给的模型名"),
        ),
        migrations.AddField(
            model_name="job",
            name="status_since",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name="job",
            name="verdict",
            field=models.CharField(
                blank=True,
                choices=[("succeeded", "记为成功"), ("failed", "记为失败"), ("waiting", "继续等")],
                editable=False,
                max_length=12,
                verbose_name="人的决定",
            ),
        ),
        migrations.AddField(
            model_name="job",
            name="waiting_since",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
    ]
