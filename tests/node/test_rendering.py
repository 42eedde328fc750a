"""Pictures have the grey levels and colours that PS3.3 defines, by arithmetic of the tests' own."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from images import compressed_object, image_object, opened
from PIL import Image as Pictures
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from dicomwire.data.codec import encode_dataset
from dicomwire.node.pixels import samples
from dicomwire.node.pixels.image import Shape
from dicomwire.node.pixels.picture import (
    GIF,
    JPEG,
    LINEAR,
    LINEAR_EXACT,
    PNG,
    SIGMOID,
    CannotRender,
    Picture,
    Window,
)
from dicomwire.node.pixels.rendering import rendered

RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16) * 16  # 12 bits
SIGNED = np.arange(-128, 128, dtype=np.int16).reshape(16, 16) * 16


def _picture(path: Path, ds: Dataset, number: int = 1, **wanted: Any) -> np.ndarray:
    """Return the pixels of a PNG of a frame."""
    data = _file(path, ds, number, **wanted)
    return np.asarray(Pictures.open(io.BytesIO(data)))


def _file(path: Path, ds: Dataset, number: int = 1, media_type: str = PNG, **wanted: Any) -> bytes:
    image = opened(path, ds)
    return rendered(
        image.description(number),
        image.frame(number),
        image.transfer_syntax,
        image.shape,
        image.is_float,
        Picture(media_type, **wanted),
    )


def _windowed(value: float, center: float, width: float, function: str) -> int:
    """PS3.3 Section C.11.2.1.2.1 to C.11.2.1.3, for one value, as it is written there."""
    low, high = 0, 255
    if function == LINEAR:
        if value <= center - 0.5 - (width - 1) / 2:
            level = low
        elif value > center - 0.5 + (width - 1) / 2:
            level = high
        else:
            level = ((value - (center - 0.5)) / (width - 1) + 0.5) * (high - low) + low
    elif function == LINEAR_EXACT:
        if value <= center - width / 2:
            level = low
        elif value > center + width / 2:
            level = high
        else:
            level = ((value - center) / width + 0.5) * (high - low) + low
    else:
        exponent = -4 * (value - center) / width
        level = 0 if exponent > 700 else (high - low) / (1 + np.exp(exponent))
    return int(np.floor(level + 0.5))


def _expected(values: np.ndarray, center: float, width: float, function: str) -> np.ndarray:
    levels = [_windowed(float(value), center, width, function) for value in values.flat]
    return np.array(levels, np.uint8).reshape(values.shape)


@pytest.mark.parametrize("function", [LINEAR, LINEAR_EXACT, SIGMOID])
@pytest.mark.parametrize(("center", "width"), [(2048, 4096), (40, 400), (1000.5, 1.5), (100, 1)])
@pytest.mark.parametrize("pixels", [RAMP, SIGNED], ids=["unsigned", "signed"])
def test_a_window_gives_the_levels_of_the_standard(
    pixels: np.ndarray, center: float, width: float, function: str, tmp_path: Path
) -> None:
    ds = image_object(pixels, BitsStored=12, RescaleSlope=2, RescaleIntercept=-100)
    picture = _picture(tmp_path, ds, window=Window(center, width, function))
    rescaled = pixels.astype(np.int64) * 2 - 100
    assert (picture == _expected(rescaled, center, width, function)).all()


def test_the_window_of_the_object_is_used_if_none_is_asked_for(tmp_path: Path) -> None:
    ds = image_object(
        RAMP, WindowCenter=[300, 9], WindowWidth=[200, 9], VOILUTFunction="LINEAR_EXACT"
    )
    assert (_picture(tmp_path, ds) == _expected(RAMP, 300, 200, LINEAR_EXACT)).all()


def test_without_any_window_all_values_are_shown_but_those_of_the_padding(tmp_path: Path) -> None:
    pixels = RAMP + 100
    pixels[0] = 4000
    ds = image_object(pixels, PixelPaddingValue=4000)
    picture = _picture(tmp_path, ds)
    assert (picture[0] == 0).all()
    low, high = int(pixels[1:].min()), int(pixels[1:].max())
    expected = _expected(pixels[1:], (low + high) / 2, high - low, LINEAR_EXACT)
    assert (picture[1:] == expected).all()


def test_a_range_of_padding_of_signed_values_is_black_also_where_low_is_bright(
    tmp_path: Path,
) -> None:
    ds = image_object(SIGNED, PhotometricInterpretation="MONOCHROME1", WindowCenter=0)
    ds.WindowWidth = 1000
    ds.add_new("PixelPaddingValue", "SS", -2048)
    ds.add_new("PixelPaddingRangeLimit", "SS", -1000)
    is_padding = SIGNED <= -1000
    expected = np.where(is_padding, 0, 255 - _expected(SIGNED, 0, 1000, LINEAR))
    assert (_picture(tmp_path, ds) == expected).all()


def test_eight_bits_without_a_window_are_the_levels_themselves(tmp_path: Path) -> None:
    pixels = np.arange(64, 128, dtype=np.uint8).reshape(8, 8)
    assert (_picture(tmp_path, image_object(pixels)) == pixels).all()


@pytest.mark.parametrize(
    ("elements", "is_inverted"),
    [
        ({"PhotometricInterpretation": "MONOCHROME2"}, False),
        ({"PhotometricInterpretation": "MONOCHROME1"}, True),
        ({"PresentationLUTShape": "INVERSE"}, True),
        ({"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}, True),
        ({"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "IDENTITY"}, False),
    ],
)
def test_low_values_are_bright_where_the_object_says_so(
    elements: dict[str, str], is_inverted: bool, tmp_path: Path
) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = _picture(tmp_path, image_object(pixels, **elements))
    assert (picture == (255 - pixels if is_inverted else pixels)).all()


def test_bits_outside_of_the_stored_ones_are_not_part_of_a_value(tmp_path: Path) -> None:
    values = np.arange(256, dtype=np.uint16).reshape(16, 16)
    words = values << 4 | 0xF00F  # an overlay above, and rubbish below
    ds = image_object(words, BitsStored=8, HighBit=11)
    assert (_picture(tmp_path, ds) == values).all()


def _lut(first: int, bits: int, entries: list[int]) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, bits])
    item.add_new("LUTData", "US", entries)
    return item


def test_luts_of_the_object_are_applied_one_after_the_other(tmp_path: Path) -> None:
    pixels = np.arange(16, dtype=np.uint16).reshape(4, 4)
    modality = [100 + 10 * each for each in range(8)]  # for the values from 4 to 11
    voi = [4095 - 40 * each for each in range(100)]  # for the values from 90 on
    ds = image_object(
        pixels,
        ModalityLUTSequence=[_lut(4, 16, modality)],
        VOILUTSequence=[_lut(90, 12, voi)],
    )
    expected = []
    for value in pixels.flat:
        rescaled = modality[min(max(int(value) - 4, 0), 7)]
        level = voi[min(max(rescaled - 90, 0), 99)]
        expected.append(int(np.floor(level * 255 / 4095 + 0.5)))
    assert _picture(tmp_path, ds).flatten().tolist() == expected


def test_each_frame_of_an_enhanced_object_has_its_own_window(tmp_path: Path) -> None:
    def groups(center: float, slope: float) -> Dataset:
        item, voi, transformation = Dataset(), Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth = center, 100
        transformation.RescaleSlope, transformation.RescaleIntercept = slope, 0
        item.FrameVOILUTSequence = [voi]
        item.PixelValueTransformationSequence = [transformation]
        return item

    ds = image_object(np.stack([RAMP, RAMP + 1]))
    ds.PerFrameFunctionalGroupsSequence = [groups(100, 1), groups(900, 2)]
    assert (_picture(tmp_path, ds, 1) == _expected(RAMP, 100, 100, LINEAR)).all()
    assert (_picture(tmp_path, ds, 2) == _expected(2 * (RAMP + 1), 900, 100, LINEAR)).all()


@pytest.mark.parametrize("bits", [32, 64])
def test_floating_point_pixels_are_windowed_too(bits: int, tmp_path: Path) -> None:
    values = np.linspace(-1, 1, 64).reshape(8, 8).astype(f"f{bits // 8}")
    values[0, 0], values[0, 1] = np.nan, np.inf
    ds = image_object(RAMP[:8, :8], WindowCenter=0, WindowWidth=1, VOILUTFunction="LINEAR_EXACT")
    del ds.PixelData
    keyword = "FloatPixelData" if bits == 32 else "DoubleFloatPixelData"
    setattr(ds, keyword, values.tobytes())
    picture = _picture(tmp_path, ds)
    assert picture[0, :2].tolist() == [0, 255]
    assert (picture[1:] == _expected(values[1:], 0, 1, LINEAR_EXACT)).all()


def test_single_bits_are_black_and_white(tmp_path: Path) -> None:
    bits = np.random.default_rng(3).integers(0, 2, (3, 5, 7), np.uint8)
    ds = image_object(
        np.packbits(bits, bitorder="little").tobytes(),
        Rows=5,
        Columns=7,
        NumberOfFrames=3,
        BitsAllocated=1,
        BitsStored=1,
        PixelRepresentation=0,
    )
    for number in (1, 2, 3):
        assert (_picture(tmp_path, ds, number) == 255 * bits[number - 1]).all()


# --- Colours ---

COLOURS = np.random.default_rng(4).integers(0, 256, (6, 8, 3), np.uint8)


def test_rgb_is_shown_as_it_is_whatever_its_order(tmp_path: Path) -> None:
    assert (_picture(tmp_path, image_object(COLOURS)) == COLOURS).all()
    planes = image_object(COLOURS, PlanarConfiguration=1)
    planes.PixelData = COLOURS.transpose(2, 0, 1).tobytes()
    assert (_picture(tmp_path, planes) == COLOURS).all()


def test_rgb_of_sixteen_bits_is_shown_by_its_higher_eight(tmp_path: Path) -> None:
    ds = image_object(COLOURS.astype(np.uint16) << 8 | 0x55)
    assert (_picture(tmp_path, ds) == COLOURS).all()


def _rgb(ybr: np.ndarray) -> np.ndarray:
    """The inverse of the equations in PS3.3 Section C.7.6.3.1.2."""
    y, cb, cr = (ybr[..., at].astype(float) - (128 if at else 0) for at in range(3))
    colours = (y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb)
    return np.floor(np.clip(np.stack(colours, -1), 0, 255) + 0.5)


def test_ybr_full_is_converted(tmp_path: Path) -> None:
    ds = image_object(COLOURS, PhotometricInterpretation="YBR_FULL")
    assert np.abs(_picture(tmp_path, ds) - _rgb(COLOURS)).max() <= 1


def test_two_pixels_of_ybr_full_422_share_their_colour(tmp_path: Path) -> None:
    ybr = COLOURS.copy()
    ybr[:, 1::2, 1:] = ybr[:, 0::2, 1:]
    packed = np.stack([ybr[:, 0::2, 0], ybr[:, 1::2, 0], ybr[:, 0::2, 1], ybr[:, 0::2, 2]], -1)
    ds = image_object(COLOURS, PhotometricInterpretation="YBR_FULL_422")
    ds.PixelData = packed.tobytes()
    assert np.abs(_picture(tmp_path, ds) - _rgb(ybr)).max() <= 1


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_gives_the_colours(bits: int, tmp_path: Path) -> None:
    palette = np.random.default_rng(5).integers(0, 1 << bits, (3, 200), np.uint16)
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    ds = image_object(pixels, PhotometricInterpretation="PALETTE COLOR")
    for name, entries in zip(("Red", "Green", "Blue"), palette, strict=True):
        ds.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [200, 20, bits])
        data = entries.astype("<u2" if bits == 16 else "u1").tobytes()
        ds.add_new(f"{name}PaletteColorLookupTableData", "OW", data)
    expected = palette[:, np.clip(pixels.astype(int) - 20, 0, 199)].transpose(1, 2, 0)
    assert (_picture(tmp_path, ds) == expected >> (bits - 8)).all()


def test_compressed_frames_are_decoded(tmp_path: Path) -> None:
    pixels = np.kron(RAMP, np.ones((4, 4), np.uint16))
    for syntax in (RLELossless, JPEG2000Lossless):
        ds = image_object(pixels, BitsStored=12, WindowCenter=2048, WindowWidth=4096)
        ds.compress(syntax, generate_instance_uid=False)
        assert (_picture(tmp_path, ds) == _expected(pixels, 2048, 4096, LINEAR)).all()


def test_a_frame_is_decoded_once_for_several_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = image_object(np.kron(RAMP, np.ones((4, 4), np.uint16)) + 1, BitsStored=12)
    ds.compress(RLELossless, generate_instance_uid=False)
    asked: list[str] = []
    get_decoder = samples.get_decoder
    monkeypatch.setattr(samples, "get_decoder", lambda uid: asked.append(uid) or get_decoder(uid))
    pictures = [_picture(tmp_path, ds, window=Window(center, 400)) for center in (100, 900, 100)]
    assert len(asked) == 1
    assert (pictures[0] == pictures[2]).all()
    assert (pictures[0] != pictures[1]).any()


def test_a_jpeg_of_colours_is_decoded(tmp_path: Path) -> None:
    smooth = np.zeros((16, 16, 3), np.uint8)
    smooth[:] = (200, 100, 50)
    frame = io.BytesIO()
    Pictures.fromarray(smooth).save(frame, "JPEG", quality=95)
    ds = compressed_object(
        [frame.getvalue()],
        JPEGBaseline8Bit,
        Rows=16,
        Columns=16,
        SamplesPerPixel=3,
        PlanarConfiguration=0,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelRepresentation=0,
        PhotometricInterpretation="YBR_FULL_422",
    )
    assert np.abs(_picture(tmp_path, ds).astype(int) - smooth).max() <= 3


# --- Size, annotation, encoding ---


@pytest.mark.parametrize(
    ("wanted", "size"),
    [
        ({}, (16, 16)),
        ({"size": (64, 32)}, (32, 32)),
        ({"size": (None, 8)}, (8, 8)),
        ({"size": (1, 1)}, (1, 1)),
        ({"size": (100, 100), "region": (0.0, 0.0, 8.0, 4.0)}, (100, 50)),
    ],
)
def test_a_picture_fits_into_its_viewport(
    wanted: dict[str, Any], size: tuple[int, int], tmp_path: Path
) -> None:
    assert _picture(tmp_path, image_object(RAMP), **wanted).shape[::-1] == size


def test_a_region_is_cut_out_and_flipped(tmp_path: Path) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    ds = image_object(pixels)
    cut = pixels[2:6, 4:12]
    assert (_picture(tmp_path, ds, region=(4.0, 2.0, 8.0, 4.0)) == cut).all()
    assert (_picture(tmp_path, ds, region=(4.0, 2.0, -8.0, 4.0)) == cut[:, ::-1]).all()
    assert (_picture(tmp_path, ds, region=(4.0, 2.0, 8.0, -4.0)) == cut[::-1]).all()


@pytest.mark.parametrize(
    ("elements", "size"),
    [
        ({"PixelSpacing": [2, 1]}, (16, 32)),
        ({"PixelSpacing": [1, 2]}, (32, 16)),
        ({"PixelAspectRatio": [3, 1]}, (16, 48)),
        ({"ImagerPixelSpacing": [0.5, 0.25]}, (16, 32)),
        ({"PixelSpacing": [0.7, 0.7001]}, (16, 16)),
        ({"PixelSpacing": [0, 1]}, (16, 16)),
        ({"PixelSpacing": [1e9, 1e-9]}, (16, 16)),
    ],
)
def test_pixels_of_the_picture_are_square(
    elements: dict[str, Any], size: tuple[int, int], tmp_path: Path
) -> None:
    assert _picture(tmp_path, image_object(RAMP, **elements)).shape[::-1] == size


def test_annotations_change_the_place_where_they_are_written(tmp_path: Path) -> None:
    ds = image_object(np.zeros((200, 200), np.uint8), KVP=120, SeriesDescription="Thorax")
    for wanted, rows in (("patient", slice(0, 60)), ("technique", slice(130, 200))):
        picture = _picture(tmp_path, ds, annotation=(wanted,)).copy()
        assert (picture[rows] > 200).any()
        picture[rows] = 0
        assert not picture.any()


def test_quality_decides_about_the_size_of_a_jpeg(tmp_path: Path) -> None:
    pixels = np.random.default_rng(6).integers(0, 256, (64, 64), np.uint8)
    sizes = [
        len(_file(tmp_path, image_object(pixels), media_type=JPEG, quality=quality))
        for quality in (1, 50, 100)
    ]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize(("media_type", "name"), [(JPEG, "JPEG"), (PNG, "PNG"), (GIF, "GIF")])
def test_each_media_type_is_of_its_format(media_type: str, name: str, tmp_path: Path) -> None:
    for ds in (image_object(RAMP), image_object(COLOURS)):
        picture = Pictures.open(io.BytesIO(_file(tmp_path, ds, media_type=media_type)))
        assert picture.format == name
        assert not picture.info.get("icc_profile")


def test_a_colour_profile_is_embedded_if_it_is_asked_for(tmp_path: Path) -> None:
    ds = image_object(COLOURS, ICCProfile=b"none that can be read.")
    kept = Pictures.open(io.BytesIO(_file(tmp_path, ds, icc_profile="yes")))
    assert kept.info["icc_profile"] == ds.ICCProfile
    with pytest.raises(CannotRender, match="colour profile"):
        _file(tmp_path, ds, icc_profile="srgb")
    del ds.ICCProfile
    made = Pictures.open(io.BytesIO(_file(tmp_path, ds, icc_profile="srgb")))
    assert "sRGB".encode("utf-16-be") in made.info["icc_profile"]


# --- What cannot be rendered ---


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"Rows": 65535, "Columns": 65535}, "more than 67108864 pixels"),
        ({"BitsStored": 17}, "stored bits"),
        ({"BitsStored": 12, "HighBit": 16}, "stored bits"),
        ({"PhotometricInterpretation": "RGB"}, "does not fit"),
        ({"PhotometricInterpretation": "Doe^Jane"}, "does not fit"),
        ({"SamplesPerPixel": 4}, "4 samples"),
        ({"RescaleSlope": "1e999"}, "not finite"),
        ({"VOILUTSequence": [_lut(0, 20, [1, 2])]}, "LUT"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "palette"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_what_makes_no_sense_is_refused_with_its_reason(
    elements: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    image = opened(tmp_path, image_object(RAMP, **elements))
    arguments = image.description(1), RAMP.tobytes(), image.transfer_syntax, image.shape, False
    with pytest.raises(CannotRender, match=reason):
        rendered(*arguments, Picture())


def test_a_frame_that_states_another_size_than_its_object_is_not_decoded(tmp_path: Path) -> None:
    ds = image_object(np.zeros((64, 64), np.uint8))
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    ds.Rows = 32
    with pytest.raises(CannotRender, match="different sizes"):
        _file(tmp_path, ds)


@given(
    st.dictionaries(
        st.sampled_from(
            ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit")
        ),
        st.integers(0, 65535),
        max_size=3,
    ),
    st.binary(max_size=64),
)
def test_nothing_but_a_refusal_comes_of_any_description(
    elements: dict[str, int], frame: bytes
) -> None:
    ds = image_object(RAMP, **elements)
    del ds.PixelData
    shape = Shape(ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.BitsAllocated, 1, "MONOCHROME2")
    description = encode_dataset(ds, "1.2.840.10008.1.2.1")
    for syntax in ("1.2.840.10008.1.2.1", RLELossless, JPEG2000Lossless):
        try:
            data = rendered(description, frame, syntax, shape, False, Picture())
        except CannotRender:
            continue
        assert data.startswith(b"\xff\xd8")
