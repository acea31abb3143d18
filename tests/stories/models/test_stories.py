"""What a story says of itself."""

import pytest

from tests.factories import make_story


@pytest.mark.django_db
def test_an_ordered_story_has_its_model() -> None:
    story = make_story()
    assert story.model == story.language_model


@pytest.mark.django_db
def test_a_story_without_a_model_says_so() -> None:
    story = make_story(language_model=None)
    with pytest.raises(LookupError, match=f"story {story.pk} has no language model"):
        _ = story.model
