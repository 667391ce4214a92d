import pytest

from keras_makeavid.planning.liveness import memory_of_schedule

KIB = 1024
HEAD = "ENTRY %main (a: f32[256]) -> f32[256] {\n  %a = f32[256]{0} parameter(0)\n"


def temporaries(*lines):
    return memory_of_schedule(HEAD + "".join(f"  {x}\n" for x in lines) + "}\n")[1]


def test_arguments_are_counted_with_their_tiles_filled():
    text = "ENTRY %m (a: bf16[40,64]) -> bf16[40,64] {\n"
    text += "  %a = bf16[40,64]{1,0:T(8,128)(2,1)} parameter(0)\n}\n"
    assert memory_of_schedule(text) == (2 * 40 * 128, 0)


def test_what_is_read_no_more_makes_room():
    assert (
        temporaries(
            "%b = f32[256]{0} fusion(%a), kind=kLoop",
            "%c = f32[256]{0} fusion(%b), kind=kLoop",
            "%d = f32[256]{0} fusion(%c), kind=kLoop",
            "ROOT %e = f32[256]{0} fusion(%d), kind=kLoop",
        )
        == 2 * KIB
    )


def test_what_is_read_later_stays_and_another_name_is_no_copy():
    assert (
        temporaries(
            "%b = f32[256]{0} fusion(%a), kind=kLoop",
            "%same = f32[16,16]{1,0} bitcast(%b)",
            "%c = f32[256]{0} fusion(%a), kind=kLoop",
            "%d = f32[256]{0} fusion(%c), kind=kLoop",
            "ROOT %e = f32[256]{0} fusion(%d, %same), kind=kLoop",
        )
        == 3 * KIB
    )


def test_each_part_of_a_tuple_ends_by_itself():
    assert (
        temporaries(
            "%b = (f32[256]{0}, f32[256]{0}) fusion(%a), kind=kLoop",
            "%c = f32[256]{0} get-tuple-element(%b), index=0",
            "%d = f32[256]{0} get-tuple-element(%b), index=1",
            "%e = f32[256]{0} fusion(%c), kind=kLoop",
            "%f = f32[256]{0} fusion(%e), kind=kLoop",
            "ROOT %g = f32[256]{0} fusion(%d, %f), kind=kLoop",
        )
        == 3 * KIB
    )


@pytest.mark.parametrize(("space", "kib"), [("", 1), ("S(1)", 0)])
def test_faster_memory_is_not_counted(space, kib):
    made = f"%b = (f32[256]{{0:T(256){space}}}, f32[256]{{0}}, u32[]) copy-start(%a)"
    done = f"%c = f32[256]{{0:T(256){space}}} copy-done(%b)"
    root = "ROOT %d = f32[256]{0} fusion(%c), kind=kLoop"
    assert temporaries(made, done, root) == kib * KIB


def test_what_is_written_over_an_operand_takes_no_more():
    assert (
        temporaries(
            "%b = f32[256]{0} fusion(%a), kind=kLoop",
            "%c = f32[256]{0} fusion(%b), output_to_operand_aliasing={{}: (0, {})}",
            "ROOT %d = f32[256]{0} fusion(%c), kind=kLoop",
        )
        == KIB
    )
