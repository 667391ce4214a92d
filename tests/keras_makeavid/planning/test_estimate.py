import pytest

from keras_makeavid.planning.estimate import collective_bytes

GROUP = "replica_groups={{0,1,2,3}}"


@pytest.mark.parametrize(
    ("line", "kind", "count"),
    [
        (f"%a = f32[100]{{0}} all-reduce(%b), {GROUP}", "all-reduce", 600),
        (f"%a = (f32[100], bf16[8]) all-reduce(%b, %c), {GROUP}", "all-reduce", 624),
        (f"%a = f32[100] all-gather(%b), {GROUP}", "all-gather", 300),
        (f"%a = (f32[25], f32[100]) all-gather-start(%b), {GROUP}", "all-gather", 300),
        (f"%a = f32[25] reduce-scatter(%b), {GROUP}", "reduce-scatter", 300),
        ("%a = f32[8] all-reduce(%b), replica_groups=[1,2]<=[2]", "all-reduce", 32),
        (
            "%a = f32[8] all-reduce(%b), replica_groups=mesh['x'=4,'y'=2] {'x'}",
            "all-reduce",
            48,
        ),
        (
            "%a = f32[8] all-reduce(%b), replica_groups=mesh['x'=4] {'x':(1)2}",
            "all-reduce",
            32,
        ),
        ("%a = f32[8] collective-permute(%b)", "collective-permute", 32),
    ],
)
def test_each_kind_sends_what_a_ring_sends(line, kind, count):
    assert collective_bytes(f"  {line}\n") == {kind: count}


def test_what_is_done_is_not_counted_twice():
    start = f"  %a = f32[4] all-reduce-start(%b), {GROUP}\n"
    done = "  %c = f32[4] all-reduce-done(%a)\n"
    assert collective_bytes(start + done) == {"all-reduce": 24}


def test_a_group_that_is_not_told_is_all_devices():
    text = (
        "HloModule a, num_partitions=2\n  %a = f32[8] all-reduce(%b), replica_groups={}"
    )
    assert collective_bytes(text) == {"all-reduce": 32}
