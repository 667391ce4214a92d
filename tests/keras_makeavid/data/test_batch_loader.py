import itertools

import numpy as np
import pytest

from keras_makeavid.data.loaders import BatchLoader


class Numbers(BatchLoader):
    def batch(self, step):
        return {"number": np.array(self.samples_of(step))}


def test_samples_are_numbered_through_all_epochs():
    loader = Numbers(batch_size=3, samples_per_epoch=7)
    assert loader.steps_per_epoch == 2
    assert list(loader.samples_of(4)) == [12, 13, 14]


def test_shards_share_each_batch():
    shards = [
        Numbers(batch_size=6, samples_per_epoch=6, shard_index=i, shard_count=3)
        for i in range(3)
    ]
    assert [list(shard.samples_of(1)) for shard in shards] == [[6, 7], [8, 9], [10, 11]]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_come_in_order_from_a_step_on(num_workers):
    loader = Numbers(batch_size=2, samples_per_epoch=8, num_workers=num_workers)
    batches = loader.batches(start_step=3)
    taken = [batch["number"].tolist() for batch in itertools.islice(batches, 3)]
    batches.close()
    assert taken == [[6, 7], [8, 9], [10, 11]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be from 1 to"),
        ({"batch_size": 9}, r"to the samples of an epoch \(8\).*9"),
        ({"shard_count": 2}, "multiple of shard_count=2. Received: 1"),
        ({"shard_index": 1}, "shard_index must be from 0 to 0.*1"),
        ({"num_workers": -1}, "num_workers.*-1"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Numbers(**{"batch_size": 1, "samples_per_epoch": 8, **arguments})


def test_a_first_step_below_zero_is_refused():
    with pytest.raises(ValueError, match="start_step must be at least 0. Received: -1"):
        next(Numbers(batch_size=1, samples_per_epoch=1).batches(-1))
