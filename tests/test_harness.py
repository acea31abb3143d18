"""The suite's own parts do what the other tests rely on."""

from django.conf import settings
from django.db import connection

from stories.models import Story
from tests.factories import make_approved_story, make_job, make_run, make_story


def test_factories_make_rows_that_pass_the_constraints(db):
    run = make_run()
    for state in Story.State:
        make_story(run=run, state=state)
    make_approved_story()
    make_job()

    assert Story.objects.count() == 7
    assert [story.slot for story in run.stories.order_by("slot")] == [0, 1, 2, 3, 4, 5]


def test_people_are_who_they_are(alice, tom, reader):
    assert [person.is_staff for person in (alice, tom, reader)] == [True, True, False]
    assert alice.has_perm("stories.review_story") and not alice.has_perm("stories.promote_languagemodel")
    assert tom.has_perm("finetuning.start_job") and tom.has_perm("stories.promote_languagemodel")
    assert not reader.get_all_permissions()


def test_the_sqlite_test_database_is_a_file(db):
    name = str(connection.settings_dict["NAME"])
    assert connection.vendor != "sqlite" or name.startswith(str(settings.DATA_DIR))
