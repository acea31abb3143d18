"""What of the trainings waits for a person, for the admin's first page."""

from django import template

from finetuning.models import Job

register = template.Library()


@register.inclusion_tag("admin/finetuning/_dashboard.html", takes_context=True)
def job_dashboard(context: template.Context) -> dict[str, object]:
    """`asking`: how many jobs a person must decide on."""
    return {"asking": Job.objects.asking().count(), "perms": context.get("perms")}
