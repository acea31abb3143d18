"""Orders at a provider's Batch API: looked at, and decided where their creation is unknown."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from stories.admin.base import CONTROL, ReadOnlyAdmin, check_permission
from stories.generation import batches
from stories.models import BatchOrder
from stories.operations.task_queue import enqueue
from stories.tasks import advance_batch


@admin.register(BatchOrder)
class BatchOrderAdmin(ReadOnlyAdmin):
    list_display = ("__str__", "run", "state", "remote_status", "remote_id", "error", "created_at")
    list_filter = ("state",)
    list_select_related = ("run",)
    fields = (
        *("run", "state", "remote_status", "remote_id", "input_file_id"),
        *("error", "created_at", "finished_at"),
    )
    actions = ("send_again", "give_up")

    def has_control_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(CONTROL)

    @admin.action(description=_("对方那里没有这份订单：重新下单"), permissions=["control"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[BatchOrder]) -> None:
        for order in queryset:
            with self.errors_as_messages(request):
                batches.send_again(order, by=check_permission(request, CONTROL))
                enqueue(advance_batch, order.pk)
                messages.success(request, gettext("订单 %(order)s 重新下单。") % {"order": order})

    @admin.action(description=_("放弃结果不明的订单，逐篇核对账单"), permissions=["control"])
    def give_up(self, request: HttpRequest, queryset: QuerySet[BatchOrder]) -> None:
        for order in queryset:
            with self.errors_as_messages(request):
                batches.give_up(order, by=check_permission(request, CONTROL))
                messages.success(request, gettext("放弃了订单 %(order)s。") % {"order": order})
