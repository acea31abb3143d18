"""`__in` on whole numbers, as Django's other lookups on them: what no column can hold is no row's value.

`=`, `<` and `>` know the range of the column; `__in` hands a number of fifty digits to the database, and that is
an OverflowError on SQLite and a DataError on PostgreSQL, from any form, list or command.
"""

from typing import Any

from django.db.models import IntegerField
from django.db.models.lookups import In


@IntegerField.register_lookup
class IntegerIn(In):
    # Any: django-stubs' generics; values of any type may come here.
    def process_rhs(self, compiler: Any, connection: Any) -> Any:
        if self.rhs_is_direct_value():
            low, high = connection.ops.integer_field_range(self.lhs.output_field.get_internal_type())
            self.rhs = [value for value in self.rhs if not _is_beyond(value, low, high)]
        return super().process_rhs(compiler, connection)


# Any: django-stubs' generics; values of any type may come here.
def _is_beyond(value: Any, low: int | None, high: int | None) -> bool:
    if not isinstance(value, int) or low is None or high is None:
        return False
    return not low <= value <= high
