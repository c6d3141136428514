"""Val and test carved by hashes: of images, or of groups (persons, videos) that stay on one side."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from stages.data.crops import IMAGE_HASH
from stages.data.faces import Faces
from stages.data.splits import assign_split, few_faces, shared_groups
from stages.system.errors import InputError


def faces_of(images: list[str], split: str = "train", groups: list | None = None) -> Faces:
    n = len(images)
    return Faces(
        face_id=[f"{split}/{i}" for i in range(n)], split=[split] * n, image=images, center=np.zeros((n, 2)),
        side=np.ones(n), landmarks=np.zeros((n, 1, 2)), visible=np.ones((n, 1), bool), subsets=[()] * n,
        extra={} if groups is None else {"group": groups},
    )  # fmt: skip


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


NAMES = [f"{i}.png" for i in range(2000)]
SUMS = {name: sha(name) for name in NAMES}


def test_without_groups_val_is_the_split_by_the_first_32_bits_of_each_images_checksum():
    moved = assign_split(faces_of(NAMES), SUMS, 0.2)
    assert moved.split == ["val" if int(SUMS[name][:8], 16) < 0.2 * 2**32 else "train" for name in NAMES]
    assert moved.split.count("val") == pytest.approx(400, abs=60)


def test_only_faces_of_the_source_move_and_the_given_table_is_left_as_it_is():
    faces = faces_of(NAMES, "test")
    assert assign_split(faces, SUMS, 1.0).split == ["test"] * 2000
    train = faces_of(NAMES)
    assert assign_split(train, SUMS, 1.0).split == ["val"] * 2000
    assert assign_split(train, SUMS, 0.0).split == ["train"] * 2000
    assert train.split == ["train"] * 2000


@pytest.mark.parametrize("groups", [None, [f"person {i // 2}" for i in range(2000)]])
def test_a_test_split_cut_by_the_same_hash_does_not_decide_what_val_is(groups):
    """Of the images left for train after test was cut, the usual share goes to val, and so it does of test's."""
    faces = faces_of(NAMES, groups=groups)
    cut = assign_split(faces, SUMS, 0.3, target="test")
    assert cut.split.count("test") == pytest.approx(600, abs=90)
    rest = assign_split(cut, SUMS, 0.2)
    assert rest.split.count("val") == pytest.approx(0.2 * cut.split.count("train"), abs=60)
    assert [split == "test" for split in rest.split] == [split == "test" for split in cut.split]
    val = assign_split(faces, SUMS, 0.2).split
    both = sum(a == "val" and b == "test" for a, b in zip(val, cut.split, strict=True))
    assert both == pytest.approx(0.06 * 2000, abs=50)


def test_faces_of_a_group_are_on_one_side_whatever_their_images():
    groups = [f"person {i % 100}" for i in range(2000)]
    split = assign_split(faces_of(NAMES, groups=groups), SUMS, 0.3).split
    sides = {group: {s for s, g in zip(split, groups, strict=True) if g == group} for group in groups}
    assert all(len(side) == 1 for side in sides.values())
    assert sum(side == {"val"} for side in sides.values()) == pytest.approx(30, abs=14)
    expected = {group: int(sha(group)[:8], 16) < 0.3 * 2**32 for group in sides}
    assert {group: side == {"val"} for group, side in sides.items()} == expected


def test_an_image_with_faces_of_two_groups_joins_them():
    """A chain of groups, each sharing an image with the next, is one; others are not touched."""
    chain = [f"c{i // 2}.png" for i in range(40)]  # two faces an image
    chained = [f"link {(i + 1) // 2}" for i in range(40)]
    images, groups = chain + NAMES[:200], chained + [f"alone {i}" for i in range(200)]
    sums = SUMS | {name: sha(name) for name in chain}
    for share in (0.02, 0.2, 0.5, 0.9):
        split = assign_split(faces_of(images, groups=groups), sums, share).split
        assert len(set(split[:40])) == 1
        alone = ["val" if int(sha(group)[:8], 16) < share * 2**32 else "train" for group in groups[40:]]
        assert split[40:] == alone
        order = np.random.default_rng(1).permutation(len(images))
        shuffled = assign_split(faces_of([images[i] for i in order], groups=[groups[i] for i in order]), sums, share)
        assert shuffled.split == [split[i] for i in order]


def test_joined_groups_are_chosen_no_more_often_than_others():
    sums = {f"{i}.png": sha(f"{i}") for i in range(1000)}
    images = [f"{i}.png" for i in range(1000) for _ in range(5)]
    groups = [f"{i} {j}" for i in range(1000) for j in range(5)]
    assert assign_split(faces_of(images, groups=groups), sums, 0.2).split.count("val") / 5 == pytest.approx(200, abs=45)


def test_a_copy_of_an_image_under_another_name_joins_groups_too():
    sums = {"a.png": sha("same"), "b.png": sha("same")}
    for i in range(50):
        faces = faces_of(["a.png", "b.png"], groups=[f"one {i}", f"two {i}"])
        assert len(set(assign_split(faces, sums, 0.5).split)) == 1


@pytest.mark.parametrize("absent", ["", None])
def test_a_face_of_no_group_goes_where_its_image_goes(absent):
    faces, plain = faces_of(NAMES, groups=[absent] * 2000), faces_of(NAMES)
    assert assign_split(faces, SUMS, 0.2).split == assign_split(plain, SUMS, 0.2).split
    both = faces_of(["0.png", "0.png"], groups=["person", absent])
    for share in np.linspace(0, 1, 11):
        assert len(set(assign_split(both, SUMS, share).split)) == 1


def test_test_faces_join_no_groups_of_train():
    train, names = faces_of(NAMES[:100], groups=[f"person {i}" for i in range(100)]), NAMES[:100]
    test = faces_of(["crowd.png"] * 100, "test", groups=[f"person {i}" for i in range(100)])
    merged = faces_of(names + test.image, groups=[*train.extra["group"], *test.extra["group"]])
    merged = replace(merged, split=["train"] * 100 + ["test"] * 100)
    split = assign_split(merged, SUMS | {"crowd.png": sha("crowd")}, 0.5).split
    assert split[:100] == assign_split(train, SUMS, 0.5).split
    assert shared_groups(merged, ("test",), ("train", "val")) == set(train.extra["group"])
    assert shared_groups(faces_of(NAMES), ("test",), ("train",)) == set()


def test_few_faces_are_part_of_more_whatever_their_order():
    faces = replace(faces_of(NAMES), extra={IMAGE_HASH: [SUMS[name] for name in NAMES]})
    shuffled = np.random.default_rng(1).permutation(2000)

    def chosen(of: Faces, n: int) -> set[str]:
        return {of.image[row] for row in few_faces(of, n, "toy")}

    assert len(chosen(faces, 25)) == 25
    assert chosen(faces, 25) < chosen(faces, 100)
    assert chosen(faces, 100) == chosen(faces.where(shuffled), 100)
    assert len(chosen(faces, 2000)) == 2000
    with pytest.raises(InputError, match="train.faces is 2001, .* toy has 2000 faces"):
        few_faces(faces, 2001, "toy")
