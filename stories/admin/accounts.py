"""The lists that came with Django and axes: accounts, groups, wrong passwords; no address breaks these either."""

import axes.admin
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib import admin
from django.contrib.auth import admin as auth_admin
from django.contrib.auth.models import Group, User

from stories.admin.base import ListTitle

for model in (User, Group, AccessAttempt, AccessFailureLog, AccessLog):
    admin.site.unregister(model)


@admin.register(User)
class UserAdmin(ListTitle, auth_admin.UserAdmin):  # type: ignore[type-arg]  # no generic when it runs
    pass


@admin.register(Group)
class GroupAdmin(ListTitle, auth_admin.GroupAdmin):
    pass


@admin.register(AccessAttempt)
class AccessAttemptAdmin(ListTitle, axes.admin.AccessAttemptAdmin):
    actions = ()  # of axes 8.3 there is one, and it reads a time that no request of the admin's has


@admin.register(AccessFailureLog)
class AccessFailureLogAdmin(ListTitle, axes.admin.AccessFailureLogAdmin):
    pass


@admin.register(AccessLog)
class AccessLogAdmin(ListTitle, axes.admin.AccessLogAdmin):
    pass
