"""The end of a training that worked: results, language model and bill.

The figures are staged first; then one short transaction says "succeeded", names the model and settles.
"""

import logging
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from finetuning.errors import UnreadableResults
from finetuning.models import Dataset, Job
from finetuning.results import parse_results
from finetuning.training import remote
from finetuning.training.bills import Bill, bill_for
from finetuning.training.figures import keep_steps
from finetuning.training.remote import RemoteJob
from finetuning.training.states import end, hand_back, pace
from llm.errors import LLMError
from sentences import Words, sentence_of
from sentences import sentence as _
from stories.language_models import add_model
from stories.models import LanguageModel, PromptStyle

logger = logging.getLogger(__name__)
MAX_REST_WAIT = timedelta(minutes=10)
"""How long a finished training waits for its last events, its results file or its model's name."""


def finish_job(job: Job, seen: RemoteJob, *, known: dict[str, object]) -> None:
    """Publishes a training that the provider calls succeeded. A missing part is waited for, up to `MAX_REST_WAIT`."""
    waited = has_waited(job)
    if not seen.model:
        _finish_without_model(job, waited=waited, known=known)
        return
    try:
        note, result_file_id = _stage_results(job, seen)
    except LLMError as error:
        if not waited:
            wait_for_rest(job, sentence_of(error), known=known)
            return
        note, result_file_id = _("结果文件取不到：%(error)s") % {"error": error}, ""
    _publish(job, seen, known=known | {"error": note, "result_file_id": result_file_id})


def _publish(job: Job, seen: RemoteJob, *, known: dict[str, object]) -> None:
    with transaction.atomic():
        tuned = _add_tuned_model(job, seen.model)
        ended = end(
            job,
            state=Job.State.SUCCEEDED,
            bill=bill_for(job, seen.trained_tokens, odd=seen.odd_tokens),
            tuned_model=tuned,
            trained_tokens=seen.trained_tokens,
            unknown_since=None,
            **known,
        )
        if not ended:
            transaction.set_rollback(True)


def _add_tuned_model(job: Job, name: str) -> LanguageModel:
    """The row of the new model: asked the way its dataset was written, priced by the table."""
    parent, dataset = job.language_model, job.dataset
    is_chat = dataset.format == Dataset.Format.CHAT
    return add_model(
        name,
        endpoint=parent.endpoint,
        base=parent.base or parent.name,
        parent=parent,
        prompt_style=PromptStyle.CHAT if is_chat else PromptStyle.COMPLETION,
        stop=dataset.stop,
    )


def _stage_results(job: Job, seen: RemoteJob) -> tuple[Words, str]:
    """Writes the steps of the first results file that can be read; (what went wrong, id of that file)."""
    problem: Words = ""
    for file_id in seen.result_files:
        try:
            keep_steps(job, parse_results(remote.read_content(job, file_id)))
        except UnreadableResults as error:
            logger.warning("job %s: results file %s cannot be read: %s", job.pk, file_id, error)
            problem = sentence_of(error)
        else:
            return "", file_id[:100]
    return problem, ""


def _finish_without_model(job: Job, *, waited: bool, known: dict[str, object]) -> None:
    sentence = _("对方说训练成功，却没有给出模型的名称。")
    if waited:
        end(job, state=Job.State.FAILED, bill=Bill(job.reserved), error=sentence, **known)
    else:
        wait_for_rest(job, sentence, known=known)


def has_waited(job: Job) -> bool:
    """Whether we have waited `MAX_REST_WAIT` for the rest of a training that ended."""
    return job.unknown_since is not None and timezone.now() - job.unknown_since > MAX_REST_WAIT


def wait_for_rest(job: Job, sentence: Words, *, known: dict[str, object]) -> None:
    """Looks again soon for what a training that ended still lacks."""
    since = job.unknown_since or timezone.now()
    hand_back(job, state=Job.State.CREATED, after=pace(since), error=sentence, unknown_since=since, **known)
