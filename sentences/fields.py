"""The column of a sentence: text in the database, a `Sentence` or a plain text on the object."""

from typing import TYPE_CHECKING

from django.db import models

from sentences import Sentence, Words, dump, load

if TYPE_CHECKING:
    TextField = models.TextField[Words, Words]
else:
    TextField = models.TextField


class SentenceField(TextField):
    """A text column; rows written before there were sentences hold their words as they were."""

    def from_db_value(self, value: str | None, _expression: object, _connection: object) -> Words | None:
        return value if value is None else load(value)

    def to_python(self, value: object) -> object:
        return value if isinstance(value, Sentence) else super().to_python(value)

    def get_prep_value(self, value: object) -> object:
        return super().get_prep_value(dump(value) if isinstance(value, Sentence) else value)

    def value_to_string(self, obj: models.Model) -> str:
        return dump(self.value_from_object(obj))
