"""One fine-tune job, from order to model.

plan             what is ordered, its price, and the order itself
hyperparameters  what may be asked for, what is sent, what identifies a job
steps            one step of a job: which module takes it
statuses         what a provider's words mean
upload           draft → uploading → uploaded | upload_unknown
creation         uploaded → creating → created | create_unknown
files            uploaded: whether the provider has processed our files
poll             created: the status, until the provider says that it ended, or a person does
events           the events and the figures that came with them
doubts           what of a training only a person can decide
completion       results, language model and bill, together
transitions      what a failed call makes of a job: a later try, a refusal, an unknown outcome
decisions        what a person may decide: cancel, look again, send again, give up, how it ended
bills            what a job costs, as far as its provider can be believed
corrections      what a job really cost, said by a person
figures          the figures of a job's steps, as rows
states           the compare-and-set that all of them use
remote           the calls to the provider
"""

from finetuning.training.corrections import correct_job
from finetuning.training.decisions import (
    abandon_job,
    call_failed,
    call_succeeded,
    cancel_job,
    look_again,
    send_again,
    wait_longer,
)
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
    "call_failed",
    "call_succeeded",
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
    "wait_longer",
]
