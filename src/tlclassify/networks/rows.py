"""What is known of every built-in backbone, as a literal table of frozen rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tlclassify._checks.images import Framing
from tlclassify._checks.tables import Part, shown_by
from tlclassify.networks.sources import build_alexnet, build_mobilenet_micro

_MICRO_WEIGHTS = Path(__file__).parent / "mobilenet_micro.npz"


@dataclass(frozen=True)
class Scaling:
    """How raw RGB values become what a set of weights was trained on.

    Parameters
    ----------
    scale, offset : float or tuple of three floats (red, green, blue)
        The network sees ``pixel * scale + offset`` for pixels in [0, 255].
    bgr : bool
        Whether the channels are then put in the order blue, green, red.
    """

    scale: float | tuple[float, float, float] = 1.0
    offset: float | tuple[float, float, float] = 0.0
    bgr: bool = False


RAW = Scaling()
SYMMETRIC = Scaling(1 / 127.5, -1.0)
BGR_CENTERED = Scaling(1.0, (-123.68, -116.779, -103.939), bgr=True)
STANDARDIZED = Scaling(
    (1 / (255 * 0.229), 1 / (255 * 0.224), 1 / (255 * 0.225)),
    (-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225),
)


@dataclass(frozen=True)
class Backbone:
    """One row of the registry: a network and everything that belongs to its weights.

    Parameters
    ----------
    name : str
        The name that users write.
    builder : str, callable, keras.Model or tuple of Backbone
        The name of a function of ``keras.applications``; a function from a ``keras.KerasTensor`` of
        scaled images (None, size, size, 3) to a feature map (None, rows, columns, n_features),
        tokens (None, n_tokens, n_features) or features (None, n_features); a functional model that
        does so, to be copied, with the pretrained weights; or several rows, whose pooled features
        stand side by side, each with images of its own size and scaling.
    scaling : Scaling, default no scaling
        What raw RGB in [0, 255] goes through before the network.
    native_size, small_size, min_size : int, default 224, 128 and 32
        Pixels a side: at which the weights were trained; to which smaller images are enlarged by
        default; that the network needs.
    n_features, n_parameters : int or None
        Channels of its output, and weights, batch-norm statistics included, where they are known.
    width : float, default 1.0
        The MobileNet width multiplier.
    weights : {"imagenet"}, path or None, default None
        What ``weights="pretrained"`` means for this row; None: there are none.
    licence, paper, notes : str
        Of the pretrained weights; where the network was published; what else a user should know.
    """

    name: str
    builder: Any
    scaling: Scaling = RAW
    native_size: int = 224
    small_size: int = 128
    min_size: int = 32
    n_features: int | None = None
    n_parameters: int | None = None
    width: float = 1.0
    weights: str | Path | None = None
    licence: str = ""
    paper: str = ""
    notes: str = ""

    @property
    def parts(self) -> "tuple[Backbone, ...]":
        """The rows of several backbones, or itself."""
        return self.builder if isinstance(self.builder, tuple) else (self,)

    def frame(self, aspect: str) -> Framing:
        """Return how images come before it, on the colour that it, or its first part, sees as 0."""
        scaling = self.parts[0].scaling
        fill = np.clip(-np.divide(scaling.offset, scaling.scale) * np.ones(3), 0, 255)
        return Framing(aspect, tuple(fill.tolist()))


def _describe_names(names: "BackboneNames") -> list[Part]:
    table: list[Sequence[str]] = [("", "pixels", "features", "parameters", "weights", "licence")]
    for row in names.rows:
        weights = str(getattr(row.weights, "name", row.weights or "none"))
        numbers = (
            f"{n:,}" if n else "" for n in (row.native_size, row.n_features, row.n_parameters)
        )
        table.append((row.name, *numbers, weights, row.licence))
    return [table]


@shown_by(_describe_names)
class BackboneNames(list[str]):
    """Names of backbones, a list as any other, which people see as a table of their `rows`."""

    def __init__(self, rows: Iterable[Backbone]) -> None:
        self.rows = tuple(rows)
        super().__init__(row.name for row in self.rows)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the names alone: a row may hold a function that cannot be pickled."""
        return list, ([*self],)


_family = partial(Backbone, "", "", weights="imagenet")
_MOBILENET = _family(SYMMETRIC, licence="Apache-2.0", paper="arXiv:1704.04861")
_MOBILENET_050 = replace(_MOBILENET, width=0.5)
_MOBILENET_025 = replace(_MOBILENET, width=0.25)
_MOBILENET_V2 = replace(_MOBILENET, paper="arXiv:1801.04381")
_MOBILENET_V3 = replace(_MOBILENET, paper="arXiv:1905.02244")
_RESNET = _family(BGR_CENTERED, licence="MIT", paper="arXiv:1512.03385")
_RESNET_V2 = _family(SYMMETRIC, licence="Apache-2.0", paper="arXiv:1603.05027")
_VGG = _family(BGR_CENTERED, licence="CC-BY-4.0", paper="arXiv:1409.1556")
_DENSENET = _family(STANDARDIZED, licence="BSD-3-Clause", paper="arXiv:1608.06993")
_INCEPTION_V3 = replace(_RESNET_V2, paper="arXiv:1512.00567", min_size=75, small_size=160)
_INCEPTION_RESNET = replace(_INCEPTION_V3, paper="arXiv:1602.07261")
_XCEPTION = _family(SYMMETRIC, licence="MIT", paper="arXiv:1610.02357", min_size=71)
_NASNET = _family(SYMMETRIC, licence="Apache-2.0", paper="arXiv:1707.07012")
# Scaled by a layer of its own, whose numbers are among its published weights.
_EFFICIENTNET = _family(RAW, licence="Apache-2.0", paper="arXiv:1905.11946")
_EFFICIENTNET_V2_B = _family(STANDARDIZED, licence="Apache-2.0", paper="arXiv:2104.00298")
_EFFICIENTNET_V2 = replace(_EFFICIENTNET_V2_B, scaling=Scaling(1 / 128, -1.0))
_CONVNEXT = _family(STANDARDIZED, licence="Apache-2.0", paper="arXiv:2201.03545")

_COLUMNS = ("name", "builder", "n_features", "n_parameters", "native_size")
_PUBLISHED: tuple[tuple[Any, ...], ...] = (
    (_MOBILENET, "mobilenet", "MobileNet", 1024, 3_228_864, 224),
    (_MOBILENET_050, "mobilenet_050", "MobileNet", 512, 829_536, 224),
    (_MOBILENET_025, "mobilenet_025", "MobileNet", 256, 218_544, 224),
    (_MOBILENET_V2, "mobilenet_v2", "MobileNetV2", 1280, 2_257_984, 224),
    (_MOBILENET_V3, "mobilenet_v3_small", "MobileNetV3Small", 576, 939_120, 224),
    (_MOBILENET_V3, "mobilenet_v3_large", "MobileNetV3Large", 960, 2_996_352, 224),
    (_RESNET, "resnet50", "ResNet50", 2048, 23_587_712, 224),
    (_RESNET, "resnet101", "ResNet101", 2048, 42_658_176, 224),
    (_RESNET, "resnet152", "ResNet152", 2048, 58_370_944, 224),
    (_RESNET_V2, "resnet50_v2", "ResNet50V2", 2048, 23_564_800, 224),
    (_RESNET_V2, "resnet101_v2", "ResNet101V2", 2048, 42_626_560, 224),
    (_RESNET_V2, "resnet152_v2", "ResNet152V2", 2048, 58_331_648, 224),
    (_VGG, "vgg16", "VGG16", 512, 14_714_688, 224),
    (_VGG, "vgg19", "VGG19", 512, 20_024_384, 224),
    (_DENSENET, "densenet121", "DenseNet121", 1024, 7_037_504, 224),
    (_DENSENET, "densenet169", "DenseNet169", 1664, 12_642_880, 224),
    (_DENSENET, "densenet201", "DenseNet201", 1920, 18_321_984, 224),
    (_INCEPTION_V3, "inception_v3", "InceptionV3", 2048, 21_802_784, 299),
    (_INCEPTION_RESNET, "inception_resnet_v2", "InceptionResNetV2", 1536, 54_336_736, 299),
    (_XCEPTION, "xception", "Xception", 2048, 20_861_480, 299),
    (_NASNET, "nasnet_mobile", "NASNetMobile", 1056, 4_269_716, 224),
    (_NASNET, "nasnet_large", "NASNetLarge", 4032, 84_916_818, 331),
    (_EFFICIENTNET, "efficientnet_b0", "EfficientNetB0", 1280, 4_049_571, 224),
    (_EFFICIENTNET, "efficientnet_b1", "EfficientNetB1", 1280, 6_575_239, 240),
    (_EFFICIENTNET, "efficientnet_b2", "EfficientNetB2", 1408, 7_768_569, 260),
    (_EFFICIENTNET, "efficientnet_b3", "EfficientNetB3", 1536, 10_783_535, 300),
    (_EFFICIENTNET, "efficientnet_b4", "EfficientNetB4", 1792, 17_673_823, 380),
    (_EFFICIENTNET, "efficientnet_b5", "EfficientNetB5", 2048, 28_513_527, 456),
    (_EFFICIENTNET, "efficientnet_b6", "EfficientNetB6", 2304, 40_960_143, 528),
    (_EFFICIENTNET, "efficientnet_b7", "EfficientNetB7", 2560, 64_097_687, 600),
    (_EFFICIENTNET_V2_B, "efficientnet_v2_b0", "EfficientNetV2B0", 1280, 5_919_312, 224),
    (_EFFICIENTNET_V2_B, "efficientnet_v2_b1", "EfficientNetV2B1", 1280, 6_931_124, 240),
    (_EFFICIENTNET_V2_B, "efficientnet_v2_b2", "EfficientNetV2B2", 1408, 8_769_374, 260),
    (_EFFICIENTNET_V2_B, "efficientnet_v2_b3", "EfficientNetV2B3", 1536, 12_930_622, 300),
    (_EFFICIENTNET_V2, "efficientnet_v2_s", "EfficientNetV2S", 1280, 20_331_360, 384),
    (_EFFICIENTNET_V2, "efficientnet_v2_m", "EfficientNetV2M", 1280, 53_150_388, 480),
    (_EFFICIENTNET_V2, "efficientnet_v2_l", "EfficientNetV2L", 1280, 117_746_848, 480),
    (_CONVNEXT, "convnext_tiny", "ConvNeXtTiny", 768, 27_820_128, 224),
    (_CONVNEXT, "convnext_small", "ConvNeXtSmall", 768, 49_454_688, 224),
    (_CONVNEXT, "convnext_base", "ConvNeXtBase", 1024, 87_566_464, 224),
    (_CONVNEXT, "convnext_large", "ConvNeXtLarge", 1536, 196_230_336, 224),
    (_CONVNEXT, "convnext_xlarge", "ConvNeXtXLarge", 2048, 348_147_968, 224),
)

BUILT_IN: tuple[Backbone, ...] = (
    replace(
        _MOBILENET_050,
        name="mobilenet_micro",
        builder=build_mobilenet_micro,
        native_size=32,
        small_size=32,
        min_size=8,
        n_features=512,
        n_parameters=829_536,
        weights=_MICRO_WEIGHTS,
        notes=(
            "Comes with the package. Trained by tools/pretrain_micro.py on CIFAR-100 and Tiny "
            "ImageNet (150,000 images, 36 epochs, 10,470 s on two cores), with MobileNet 1.0's "
            "embeddings as second target. CIFAR-10 linear probe 0.801; 3,603 images/s."
        ),
    ),
    *(
        replace(family, **dict(zip(_COLUMNS, values, strict=True)))
        for family, *values in _PUBLISHED
    ),
    Backbone(
        "alexnet",
        build_alexnet,
        SYMMETRIC,
        native_size=227,
        small_size=128,
        min_size=63,
        n_features=256,
        n_parameters=3_751_328,
        paper="Krizhevsky, Sutskever and Hinton, NeurIPS 2012",
        notes="Single tower, batch normalisation for local response normalisation.",
    ),
)
