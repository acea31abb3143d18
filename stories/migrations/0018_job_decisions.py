"""One more decision that leaves an audit entry: how a training ended. The database has nothing to do."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("stories", "0012_sentences"),
    ]

    operations = [
        migrations.AlterField(
            model_name="auditentry",
            name="action",
            field=models.CharField(
                choices=[
                    ("price_corrected", "更正费用"),
                    ("outcome_resolved", "核对结果不明的调用"),
                    ("model_promoted", "启用模型"),
                    ("model_repriced", "改动价格"),
                    ("batch_sent_again", "重新下单半价批量"),
                    ("batch_given_up", "放弃半价批量订单"),
                    ("job_cancelled", "取消微调任务"),
                    ("job_sent_again", "重新发送微调任务"),
                    ("job_abandoned", "放弃微调任务"),
                    ("job_decided", "决定微调任务的结果"),
                ],
                max_length=24,
                verbose_name="操作",
            ),
        ),
    ]
