from lib.training.order import images_of


def test_every_image_once_a_pass_across_the_ends_of_batches():
    positions = [position for i in range(7) for position in images_of(3, "m1", i, 3, 7)]
    passes = [positions[start : start + 7] for start in (0, 7, 14)]
    assert all(sorted(order) == list(range(7)) for order in passes)
    assert passes[0] != passes[1] != passes[2]


def test_pure_function_of_seed_stage_and_iteration():
    late = images_of(3, "m1", 50, 2, 31)
    assert [images_of(3, "m1", i, 2, 31) for i in range(51)][-1] == late
    assert any(images_of(3, "m1", i, 2, 31) != images_of(4, "m1", i, 2, 31) for i in range(5))
    assert any(images_of(3, "m1", i, 2, 31) != images_of(3, "m3", i, 2, 31) for i in range(5))


def test_a_batch_larger_than_the_set_repeats_it():
    assert sorted(images_of(0, "m1", 0, 4, 2)) == [0, 0, 1, 1]
