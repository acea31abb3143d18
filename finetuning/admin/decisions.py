"""The decisions that a job's page offers, each with what it means, in words."""

from collections.abc import Callable
from dataclasses import dataclass

from django.contrib.auth.models import User
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from finetuning import training
from finetuning.models import Job


@dataclass(frozen=True)
class JobDecision:
    """`act` is the domain's function, told who decides and what they wrote; `done` is said after it."""

    name: str
    title: object
    meaning: object
    done: object
    act: Callable[[Job, User, str], object]
    asks_model: bool = False


DECISIONS = {
    one.name: one
    for one in (
        JobDecision(
            "cancel",
            gettext_lazy("取消任务"),
            gettext_lazy(
                "还没有下单的任务立即结束，不花钱。已经在训练的会请对方取消，已训练的部分仍要付钱。"
            ),
            gettext_lazy("已取消，或已要求对方取消。"),
            lambda job, by, _model: training.cancel_job(job, by=by),
        ),
        JobDecision(
            "look",
            gettext_lazy("再查一次"),
            gettext_lazy("再到对方那里找一次带着本任务标识的文件或任务。不会新建任何东西。"),
            gettext_lazy("正在查找。"),
            lambda job, _by, _model: training.look_again(job),
        ),
        JobDecision(
            "resend",
            gettext_lazy("重新发送"),
            gettext_lazy(
                "请先在对方的页面上确认文件或任务没有建成。如果其实建成了，重新发送会多出一个，并且要多付一次钱。"
            ),
            gettext_lazy("已重新发送。"),
            lambda job, by, _model: training.send_again(job, by=by),
        ),
        JobDecision(
            "abandon",
            gettext_lazy("放弃任务"),
            gettext_lazy("不再查找，任务记为已取消。如果可能已经下单，预留的费用记为已花费。"),
            gettext_lazy("任务已放弃。"),
            lambda job, by, _model: training.abandon_job(job, by=by),
        ),
        JobDecision(
            "succeed",
            gettext_lazy("记为成功"),
            gettext_lazy(
                "请先在对方的页面上确认训练已经完成。任务记为成功，这里写的模型会记下来，可以启用；费用按对方报的词元数，没有报就按预留结算。"
            ),
            gettext_lazy("已记为成功，正在取结果。"),
            lambda job, by, model: training.call_succeeded(job, model=model, by=by),
            asks_model=True,
        ),
        JobDecision(
            "fail",
            gettext_lazy("记为失败"),
            gettext_lazy(
                "任务记为失败，不再查询。如果已经训练过，预留的费用记为已花费，看到账单后可以更正。"
            ),
            gettext_lazy("已记为失败。"),
            lambda job, by, _model: training.call_failed(job, by=by),
        ),
        JobDecision(
            "wait",
            gettext_lazy("继续等"),
            gettext_lazy("继续查询。对方换一个说法，或者一天以后还是这样，会再来问。"),
            gettext_lazy("继续等。"),
            lambda job, by, _model: training.wait_longer(job, by=by),
        ),
    )
}


def decide(job: Job, decision: JobDecision, *, by: User, model: str = "") -> str:
    """Takes the decision; the sentence of what was done. Raises `BadJob`."""
    decision.act(job, by, model)
    return _("任务 %(job)s：%(done)s") % {"job": job, "done": decision.done}
