"""What becomes of a provider's pieces before they are stored."""

from hypothesis import given
from hypothesis import strategies as st

from stories.generation.text_assembly import REPLACEMENT, TextAssembler


def gather(pieces: list[str], so_far: str = "") -> str:
    assembler = TextAssembler(so_far)
    taken = []
    for piece in pieces:
        assembler.add(piece)
        taken.append(assembler.take())
    assembler.finish()
    return "".join([*taken, assembler.take()])


def test_pieces_are_joined() -> None:
    assert gather(["从前", "，", "有座山。"]) == "从前，有座山。"


def test_space_in_front_of_a_beginning_is_dropped_and_kept_elsewhere() -> None:
    assert gather([" ", "\n\n", " 唐朝 的", " 夜 "]) == "唐朝 的 夜 "


def test_a_surrogate_pair_split_over_two_pieces_is_one_character() -> None:
    assert gather(["火\ud83d", "\ude00山"]) == "火😀山"


def test_lone_surrogates_and_nul_become_replacements() -> None:
    assert gather(["a\ud83d", "b\x00c", "\ude00d", "\ud83d"]) == "a?b?c?d?".replace("?", REPLACEMENT)


def test_a_continuation_that_repeats_the_end_is_trimmed() -> None:
    so_far = "他举起右手，一道光从掌心射出，怪兽退了三步。"
    rest = "奥特曼点了点头，天就亮了，城里的人都跑出来看这一片安静的海。"
    assert gather(list("怪兽退了三步。" + rest), so_far) == rest


def test_a_continuation_without_repetition_is_kept_whole() -> None:
    rest = "天亮了，城里的人都跑出来看这一片安静的海，谁也不说话。"
    assert gather([rest], "他举起右手，一道光从掌心射出。") == rest


def test_a_short_continuation_is_not_lost() -> None:
    assert gather(["完。"], "他走了。") == "完。"


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), st.lists(st.integers(1, 5))
)
def test_however_it_is_cut_the_text_is_the_same(text: str, sizes: list[int]) -> None:
    units = text.encode("utf-16-le", "surrogatepass")
    pieces, at = [], 0
    for size in [*sizes, len(units)]:
        pieces.append(units[at : at + 2 * size].decode("utf-16-le", "surrogatepass"))
        at += 2 * size
    assert gather(pieces) == text.lstrip()
