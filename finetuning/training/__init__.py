"""One fine-tune job, from order to model.

planning     what is ordered, its price, and the order itself
advancing    one step of a job: which of the steps below is next
uploading    draft → uploading → uploaded | upload_unknown
creating     uploaded → creating → created | create_unknown
polling      created: status, events and figures, until the provider says it ended
finishing    results, language model and bill, together
deciding     what a person may decide: cancel, look again, send again, give up
corrections  what a job really cost, said by a person
claims       the compare-and-set all of them use
remote       the calls to the provider
"""

from finetuning.training.corrections import correct_job
from finetuning.training.decisions import abandon_job, cancel_job, look_again, send_again
from finetuning.training.hyperparameters import Hyperparameters, priced_epochs
from finetuning.training.plan import (
    check_order,
    estimate_price,
    find_job,
    find_unfinished,
    list_warnings,
    order_job,
    plan_job,
    reservation,
    start_job,
)
from finetuning.training.steps import advance_job

__all__ = [
    "Hyperparameters",
    "abandon_job",
    "advance_job",
    "cancel_job",
    "check_order",
    "correct_job",
    "estimate_price",
    "find_job",
    "find_unfinished",
    "list_warnings",
    "look_again",
    "order_job",
    "plan_job",
    "priced_epochs",
    "reservation",
    "send_again",
    "start_job",
]
