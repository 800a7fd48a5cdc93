"""Picture evidence on hand-made images and features."""

import base64
import io
import itertools

import numpy as np
import pytest
from PIL import Image

from swinlet.errors import DataError
from swinlet.evaluation.detail import Crop, most_different, worth_choosing
from swinlet.report import evidence
from swinlet.report.evidence import FeaturePictures

GRAY_STEP = (65.481 + 128.553 + 24.966) / 255  # luma of one step of gray


def flat(value: int, height: int = 12, width: int = 16) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def row(*values: int) -> np.ndarray:
    return np.repeat(np.array(values, np.uint8)[None, :, None], 3, axis=2)


def with_square(left: int, top: int, side: int, value: int = 90) -> np.ndarray:
    image = flat(100)
    image[top : top + side, left : left + side] = value
    return image


def test_crop_of_an_image() -> None:
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    np.testing.assert_array_equal(Crop(left=4, top=1, side=3).of(image), image[1:4, 4:7])


@pytest.mark.parametrize(
    ("text", "name", "crop"),
    [
        ("baby:120,80,64", "baby", Crop(120, 80, 64)),
        ("Set5/baby.x4: 0 , 0 , 1 ", "Set5/baby.x4", Crop(0, 0, 1)),
        ("C:/a:1,2,3:4,5,6", "C:/a:1,2,3", Crop(4, 5, 6)),
    ],
)
def test_parse_crop(text: str, name: str, crop: Crop) -> None:
    assert evidence.parse_crop(text) == (name, crop)


@pytest.mark.parametrize(
    "text",
    ["", "baby", "baby:", ":1,2,3", "baby:1,2", "baby:1,2,3,4", "baby:-1,2,3", "baby:1,2,0", "baby:1.5,2,3",
     "baby:1,2,x", "baby:1,2,²", "baby:1,2," + "9" * 5000],
)  # fmt: skip
def test_parse_crop_refuses_nonsense(text: str) -> None:
    with pytest.raises(DataError, match=r"wanted is NAME:LEFT,TOP,SIDE, e\.g\. baby:120,80,64"):
        evidence.parse_crop(text)


def test_check_inside() -> None:
    for inside in (Crop(0, 0, 12), Crop(4, 0, 12), Crop(15, 11, 1)):
        assert evidence.check_inside(inside, height=12, width=16) is inside
    for outside in (Crop(5, 0, 12), Crop(0, 1, 12), Crop(0, 0, 13), Crop(16, 0, 1), Crop(-1, 0, 4), Crop(0, -1, 4)):
        with pytest.raises(DataError, match="does not fit into the image, which has 16x12 pixels"):
            evidence.check_inside(outside, height=12, width=16)


@pytest.mark.parametrize(("left", "top"), [(6, 5), (0, 0), (12, 0), (0, 8), (12, 8)])
@pytest.mark.parametrize("value", [90, 110])
def test_most_different_finds_the_square(left: int, top: int, value: int) -> None:
    images = [flat(100), with_square(left, top, 4, value), flat(100)]
    assert most_different(images, 4) == Crop(left, top, 4)


def test_most_different_compares_estimates_not_structure() -> None:
    # All have the strong square at the left; the weak one at the right is in one image only.
    images = [with_square(1, 1, 4, 255), with_square(1, 1, 4, 255)]
    images[1][7:10, 12:15] += 2
    assert most_different(images, 3) == Crop(12, 7, 3)


def test_most_different_takes_the_larger_sum_of_squares() -> None:
    # Against two equal images: 8 * 9 pixels^2 of 3 steps at the left, less than one pixel of 26 steps at the right.
    left, right = flat(100), flat(100)
    left[2:5, 2:5] += 3
    left[3, 3] -= 3
    right[8, 12] += 8
    assert most_different([flat(100), left, right], 3) == Crop(2, 2, 3)  # 8 * 9 > 64
    right[8, 12] += 1
    assert most_different([flat(100), left, right], 3) == Crop(11, 7, 3)  # 8 * 9 < 81


def test_most_different_is_the_same_in_any_order_of_the_images() -> None:
    images = [with_square(0, 0, 3, 110), with_square(9, 6, 3, 111), flat(100)]
    for order in itertools.permutations(images):
        assert most_different(order, 3) == Crop(9, 6, 3)


def half_blank() -> np.ndarray:
    """A blank wall at the left, texture at the right: 40x80."""
    picture = flat(120, 40, 80)
    picture[:, 40:] = np.random.default_rng(0).integers(60, 200, (40, 40, 1))
    return picture


@pytest.mark.parametrize("bad", ["gray", "noise"])
def test_differences_on_a_blank_wall_do_not_choose(bad: str) -> None:
    """A bad model differs most where the picture is blank, and there is nothing to see."""
    picture = half_blank()
    good = picture.copy()
    good[10:20, 55:65] ^= 4
    wrong = picture.copy()
    if bad == "gray":
        wrong[:, :40] = 255
    else:
        wrong[:, :40] = np.random.default_rng(1).integers(0, 255, (40, 40, 1))
    for images in ([picture, good, wrong], [good, wrong, picture]):
        assert most_different(images, 16).left + 16 <= 40  # without the picture
        assert most_different(images, 16, picture=picture).left + 16 > 44  # holds what can be seen
    for images in ([picture, good], [good]):
        assert most_different(images, 16, 2, picture).left >= 36


def test_blank_pictures_and_equal_estimates_have_a_detail_too() -> None:
    assert most_different([flat(100), flat(100)], 4, picture=flat(100)) == Crop(6, 4, 4)
    assert most_different([flat(100), with_square(3, 2, 4)], 4, picture=flat(100)) == Crop(6, 4, 4)
    assert most_different([flat(100)], 40, picture=flat(100)) == Crop(2, 0, 12)


def test_models_far_below_bicubic_do_not_choose() -> None:
    assert worth_choosing({"bicubic": 28.4, "a": 31.0, "b": 27.5, "gray": 10.8, "c": 27.3}, 28.4) == [
        "bicubic",
        "a",
        "b",
    ]
    assert worth_choosing({"gray": 10.8}, 28.4) == []


def test_most_different_leaves_the_shaved_border_out() -> None:
    image = with_square(0, 0, 3, 0)  # all but one pixel of it in the border
    image[6:8, 8:10] = 120
    assert most_different([flat(100), image], 2) == Crop(0, 0, 2)
    assert most_different([flat(100), image], 2, shave=3) == Crop(8, 6, 2)
    image = with_square(12, 8, 4)
    assert most_different([flat(100), image], 3, shave=2) == Crop(11, 7, 3)  # the last place inside


def test_most_different_reduces_the_side() -> None:
    assert most_different([flat(0), flat(9)], 64) == Crop(2, 0, 12)
    assert most_different([flat(0), flat(9)], 64, shave=4) == Crop(6, 4, 4)
    assert most_different([flat(0, 16, 12), flat(9, 16, 12)], 64, shave=4) == Crop(4, 6, 4)


def test_most_different_takes_the_middle_of_equal_places() -> None:
    assert most_different([flat(100), with_square(7, 5, 2)], 4) == Crop(6, 4, 4)
    assert most_different([flat(100), flat(100)], 4) == Crop(6, 4, 4)
    assert most_different([with_square(0, 0, 3)], 4) == Crop(6, 4, 4)  # one estimate differs from none
    twice = with_square(1, 6, 3)
    twice[6:9, 11:14] = 90
    assert most_different([flat(100), twice], 3) == Crop(1, 6, 3)  # the first of two that are equally far


def test_most_different_checks_sizes() -> None:
    with pytest.raises(ValueError, match=r"different size: \(12, 15, 3\) and \(12, 16, 3\)"):
        most_different([flat(0), flat(0, width=15)], 4)
    with pytest.raises(ValueError, match="nothing left of a 16x12 image after shaving 6"):
        most_different([flat(0), flat(1)], 4, shave=6)


def test_error_map_colours() -> None:
    truth = flat(100, 1, 5)
    estimate = row(100, 105, 110, 90, 200)
    found = evidence.error_map(estimate, truth, 10 * GRAY_STEP)
    assert (found.dtype, found.shape) == (np.uint8, (1, 5, 3))
    assert found[0, 0].tolist() == [0, 0, 3]  # ends of inferno
    assert found[0, 2].tolist() == found[0, 3].tolist() == found[0, 4].tolist() == [252, 254, 164]
    brightness = found[0, :3].astype(int).sum(axis=1)
    assert brightness[0] < brightness[1] < brightness[2]


def test_improvement_map_colours() -> None:
    truth = flat(100, 1, 7)
    before = row(100, 110, 110, 100, 105, 105, 200)
    after = row(100, 100, 105, 110, 95, 100, 100)
    found = evidence.improvement_map(before, after, truth, 10 * GRAY_STEP)
    assert (found.dtype, found.shape) == (np.uint8, (1, 7, 3))
    neutral, better, worse = list(evidence.NEUTRAL), list(evidence.BETTER), list(evidence.WORSE)
    assert found[0, 0].tolist() == neutral
    assert found[0, 1].tolist() == better
    assert found[0, 3].tolist() == worse
    assert found[0, 4].tolist() == neutral  # errors of +5 and -5
    assert found[0, 6].tolist() == better  # beyond the limit
    for half in (found[0, 2], found[0, 5]):
        np.testing.assert_allclose(half, (np.array(neutral) + better) / 2, atol=1.5)
    swapped = evidence.improvement_map(after, before, truth, 10 * GRAY_STEP)
    assert swapped[0, 1].tolist() == worse
    assert swapped[0, 3].tolist() == better


def test_common_limit() -> None:
    truth = flat(100, 20, 50)  # 1000 pixels
    estimate = truth.copy()
    estimate[0, :40] += 20
    assert evidence.common_limit([estimate], truth) == pytest.approx(20 * GRAY_STEP)
    # Of 2000 pixels of two estimates 10 are the upper 0.5 %, which are left out.
    estimate = truth.copy()
    estimate[0, :10] += 100
    estimate[0, 10:20] -= 20
    assert evidence.common_limit([truth, estimate], truth) == pytest.approx(20 * GRAY_STEP, rel=0.05)
    assert evidence.common_limit([truth, truth], truth) == 1


SIZE = (6, 8)
RANDOM = np.random.default_rng(0)
SPREAD = np.array([[8.0, 4.0, 2.0, 0.5, 0.25]])  # standard deviations of the channels
FEATURES = (RANDOM.normal(size=(48, 5)) * SPREAD + 3).astype(np.float32)
ROTATION = np.linalg.qr(RANDOM.normal(size=(5, 5)))[0]
TEACHER = RANDOM.normal(size=(48, 9)).astype(np.float32)


def paired(
    student: np.ndarray, translated: np.ndarray, teacher: np.ndarray = TEACHER, size: tuple[int, int] = SIZE
) -> tuple[FeaturePictures, np.ndarray, np.ndarray, float]:
    """All pictures; and translated, distance and limit, which only feature distillation has."""
    found = evidence.feature_pictures(student, translated, teacher, size)
    assert found.translated is not None
    assert found.distance is not None
    assert found.limit is not None
    return found, found.translated, found.distance, found.limit


def test_equal_features_give_equal_pictures() -> None:
    found, translated, distance, limit = paired(FEATURES.copy(), FEATURES, FEATURES)
    for picture in (found.student, translated, found.teacher):
        assert (picture.dtype, picture.shape) == (np.uint8, (6, 8, 3))
    np.testing.assert_array_equal(found.student, translated)
    np.testing.assert_array_equal(found.teacher, translated)
    assert found.mean_difference == 0
    assert limit > 0
    assert np.unique(distance.reshape(-1, 3), axis=0).tolist() == [[0, 0, 3]]


def test_components_by_hand() -> None:
    """Three channels of variances 3, 2, 1 on the tokens: each is one colour."""
    features = np.zeros((48, 4), np.float32)
    features[:, 1] = np.repeat([9, -3, -3, -3], 12)
    features[:, 3] = np.tile(np.repeat([4, -2, -2], 4), 4)
    features[:, 0] = np.tile([1, -0.5, -0.5, 0], 12)
    picture = evidence.feature_pictures(features, None, features, SIZE).student.reshape(48, 3)
    np.testing.assert_array_equal(picture[:, 0], np.repeat([255, 0, 0, 0], 12))
    np.testing.assert_array_equal(picture[:, 1], np.tile(np.repeat([255, 0, 0], 4), 4))
    np.testing.assert_array_equal(picture[:, 2], np.tile([255, 0, 0, 85], 12))


def test_rotated_channels_give_the_same_picture() -> None:
    upright = evidence.feature_pictures(FEATURES, None, FEATURES, SIZE)
    rotated = (FEATURES @ ROTATION).astype(np.float32)
    found = evidence.feature_pictures(rotated, None, -rotated[:, ::-1], SIZE)
    np.testing.assert_allclose(found.student.astype(int), upright.student, atol=1)
    # The teacher's features with the opposite sign of all: another rotation or reflection.
    np.testing.assert_allclose(found.teacher.astype(int), upright.teacher, atol=1)


def test_student_is_shown_in_the_basis_of_the_translated_teacher() -> None:
    student = FEATURES.copy()
    student[5] += 2.0
    found, translated, _, _ = paired(student, FEATURES)
    changed = (found.student != translated).any(axis=2)
    assert np.argwhere(changed).tolist() == [[0, 5]]
    np.testing.assert_array_equal(
        found.teacher, evidence.feature_pictures(TEACHER, None, TEACHER, SIZE).student
    )  # a basis of its own


def test_a_constant_difference_is_seen() -> None:
    found, translated, _, _ = paired(FEATURES + np.float32(50), FEATURES)
    assert not np.array_equal(found.student, translated)
    assert found.mean_difference == pytest.approx(50, rel=1e-6)


def test_distance_by_hand() -> None:
    student = FEATURES.copy()
    student[9] += np.array([1, -2, 3, -4, 0], np.float32)  # mean absolute difference 2, of one token
    student[10] -= 1
    found, _, distance, limit = paired(student, FEATURES)
    assert found.mean_difference == pytest.approx(3 / 48, rel=1e-6)
    # 48 sorted distances, 0 .. 0, 1, 2: place 0.995 * 47 is 46.765
    assert limit == pytest.approx(1.765, rel=1e-6)
    assert distance[1, 1].tolist() == [252, 254, 164]
    assert distance[0, 0].tolist() == [0, 0, 3]
    assert distance[1, 2].tolist() not in ([0, 0, 3], [252, 254, 164])


def test_a_single_differing_token_among_many_is_seen() -> None:
    features = np.zeros((1000, 3), np.float32)
    student = features.copy()
    student[7] = 1e-3
    _, _, distance, limit = paired(student, features, features, (10, 100))
    assert limit == pytest.approx(1e-3)
    assert distance[0, 7].tolist() == [252, 254, 164]


def test_without_translated_features() -> None:
    found = evidence.feature_pictures(FEATURES, None, TEACHER, SIZE)
    assert (found.translated, found.distance, found.limit, found.mean_difference) == (None, None, None, None)
    np.testing.assert_array_equal(found.student, evidence.feature_pictures(TEACHER, None, FEATURES, SIZE).teacher)


@pytest.mark.parametrize("value", [0.0, 1e-3, 12345.678])
def test_constant_features_are_gray(value: float) -> None:
    features = np.full((48, 5), value, np.float32)
    found, translated, _, _ = paired(features, features, features)
    for picture in (found.student, translated, found.teacher):
        assert np.unique(picture).tolist() == [128]
    assert found.mean_difference == 0


@pytest.mark.parametrize("channels", [1, 2])
def test_few_channels_leave_colours_gray(channels: int) -> None:
    features = FEATURES[:, :channels]
    picture = evidence.feature_pictures(features, features, TEACHER, SIZE).student
    assert np.unique(picture[..., channels:]).tolist() == [128]
    assert picture[..., :channels].std(axis=(0, 1)).min() > 10


def test_rounding_noise_is_no_component() -> None:
    features = (RANDOM.normal(size=(48, 1)) @ RANDOM.normal(size=(1, 5)) + 3).astype(np.float32)  # rank 1
    picture = evidence.feature_pictures(features, None, TEACHER, SIZE).student
    assert np.unique(picture[..., 1:]).tolist() == [128]


def test_outliers_do_not_darken_the_others() -> None:
    features = np.linspace(0, 1, 400, dtype=np.float32)[:, None]
    features[200] = 1000
    red = evidence.feature_pictures(features, None, features, (20, 20)).student[..., 0].ravel()
    assert (red[0], red[200], red[-1]) == (0, 255, 255)
    assert abs(int(red[100]) - 64) <= 2


def test_features_that_are_not_finite_count_as_zero() -> None:
    broken, mended = FEATURES.copy(), FEATURES.copy()
    for token, value in ((3, np.nan), (4, np.inf), (5, -np.inf)):
        broken[token], mended[token] = value, 0
    found = evidence.feature_pictures(broken, broken, broken, SIZE)
    assert np.isnan(broken[3]).all()  # the caller's array is left as it is
    expected = evidence.feature_pictures(mended, mended, mended, SIZE)
    for name in ("student", "translated", "teacher", "distance"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_enlarged() -> None:
    image = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    found = evidence.enlarged(image, 2)
    assert found.dtype == np.uint8
    assert found[..., 0].tolist() == [[1, 1, 4, 4], [1, 1, 4, 4]]
    np.testing.assert_array_equal(evidence.enlarged(image, 1), image)


def decoded(uri: str) -> Image.Image:
    head, _, body = uri.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(body, validate=True)))


@pytest.mark.parametrize(("colours", "mode"), [(1, "P"), (3, "P"), (256, "P"), (257, "RGB")])
def test_png_data_uri_loses_nothing(colours: int, mode: str) -> None:
    palette = np.stack([np.arange(300) % 256, np.arange(300) // 256, np.arange(300) % 7], axis=1).astype(np.uint8)
    image = palette[np.arange(20 * 31) % colours].reshape(20, 31, 3)
    uri = evidence.png_data_uri(image)
    with decoded(uri) as picture:
        assert picture.mode == mode
        np.testing.assert_array_equal(np.array(picture.convert("RGB")), image)
    assert evidence.png_data_uri(image) == uri


def test_png_of_a_map_is_small() -> None:
    truth, estimate = np.random.default_rng(2).integers(0, 256, (2, 64, 64, 3), np.uint8)
    for picture in (
        evidence.error_map(estimate, truth, 100.0),
        evidence.improvement_map(estimate, truth, estimate, 100.0),
    ):
        plain = io.BytesIO()
        Image.fromarray(picture).save(plain, "PNG", optimize=True)
        assert len(evidence.png_data_uri(picture)) < len(plain.getvalue()) * 0.75  # in spite of base64
