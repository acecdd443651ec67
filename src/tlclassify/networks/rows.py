"""What is known of every built-in backbone, as a literal table of frozen rows."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlclassify.networks.architectures import build_alexnet, build_mobilenet_micro

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
    builder : str or callable
        The name of a function of ``keras.applications``, or a function that maps a
        ``keras.KerasTensor`` of scaled images (None, size, size, 3) to a feature map
        (None, height, width, n_features).
    scaling : Scaling, default no scaling
        What raw RGB in [0, 255] goes through before the network.
    native_size : int, default 224
        Pixels a side at which the weights were trained.
    small_size : int, default 96
        Pixels a side to which smaller images are enlarged by default.
    min_size : int, default 32
        The fewest pixels a side that the network can take.
    n_features : int or None
        Channels of the feature map; None where it is not known before building.
    n_parameters : int or None
        Weights of the network, batch-norm statistics included.
    width : float, default 1.0
        The MobileNet width multiplier.
    weights : {"imagenet"}, path or None, default None
        What ``weights="pretrained"`` means for this row; None: there are none.
    licence : str
        Licence of the pretrained weights.
    paper : str
        Where the network was published.
    notes : str
        What else a user should know.
    """

    name: str
    builder: str | Callable[[Any], Any]
    scaling: Scaling = RAW
    native_size: int = 224
    small_size: int = 96
    min_size: int = 32
    n_features: int | None = None
    n_parameters: int | None = None
    width: float = 1.0
    weights: str | Path | None = None
    licence: str = ""
    paper: str = ""
    notes: str = ""


@dataclass(frozen=True)
class _Family:
    """What the rows of one publication share."""

    scaling: Scaling
    licence: str
    paper: str
    min_size: int = 32
    small_size: int = 96

    def row(
        self,
        name: str,
        builder: str,
        n_features: int,
        n_parameters: int,
        *,
        native_size: int = 224,
        width: float = 1.0,
    ) -> Backbone:
        """Return a row with the published ImageNet weights."""
        return Backbone(
            name,
            builder,
            self.scaling,
            native_size=native_size,
            small_size=self.small_size,
            min_size=self.min_size,
            n_features=n_features,
            n_parameters=n_parameters,
            width=width,
            weights="imagenet",
            licence=self.licence,
            paper=self.paper,
        )


_MOBILENET = _Family(SYMMETRIC, "Apache-2.0", "arXiv:1704.04861")
_MOBILENET_V2 = _Family(SYMMETRIC, "Apache-2.0", "arXiv:1801.04381")
_MOBILENET_V3 = _Family(RAW, "Apache-2.0", "arXiv:1905.02244")
_RESNET = _Family(BGR_CENTERED, "MIT", "arXiv:1512.03385")
_RESNET_V2 = _Family(SYMMETRIC, "Apache-2.0", "arXiv:1603.05027")
_VGG = _Family(BGR_CENTERED, "CC-BY-4.0", "arXiv:1409.1556")
_DENSENET = _Family(STANDARDIZED, "BSD-3-Clause", "arXiv:1608.06993")
_INCEPTION_V3 = _Family(SYMMETRIC, "Apache-2.0", "arXiv:1512.00567", 75, 160)
_INCEPTION_RESNET = _Family(SYMMETRIC, "Apache-2.0", "arXiv:1602.07261", 75, 160)
_XCEPTION = _Family(SYMMETRIC, "MIT", "arXiv:1610.02357", min_size=71)
_NASNET = _Family(SYMMETRIC, "Apache-2.0", "arXiv:1707.07012")
_EFFICIENTNET = _Family(RAW, "Apache-2.0", "arXiv:1905.11946")
_EFFICIENTNET_V2 = _Family(RAW, "Apache-2.0", "arXiv:2104.00298")
_CONVNEXT = _Family(RAW, "Apache-2.0", "arXiv:2201.03545")

BUILT_IN: tuple[Backbone, ...] = (
    Backbone(
        "mobilenet_micro",
        build_mobilenet_micro,
        SYMMETRIC,
        native_size=32,
        small_size=32,
        min_size=8,
        n_features=512,
        n_parameters=829_536,
        width=0.5,
        weights=_MICRO_WEIGHTS,
        licence="Apache-2.0",
        paper="arXiv:1704.04861",
        notes=(
            "Comes with the package. Trained by tools/pretrain_micro.py on CIFAR-100 and Tiny "
            "ImageNet (150,000 images, 36 epochs, 10,470 s on two cores), with MobileNet 1.0's "
            "embeddings as second target. CIFAR-10 linear probe 0.801; 3,603 images/s."
        ),
    ),
    _MOBILENET.row("mobilenet", "MobileNet", 1024, 3_228_864),
    _MOBILENET.row("mobilenet_050", "MobileNet", 512, 829_536, width=0.5),
    _MOBILENET.row("mobilenet_025", "MobileNet", 256, 218_544, width=0.25),
    _MOBILENET_V2.row("mobilenet_v2", "MobileNetV2", 1280, 2_257_984),
    _MOBILENET_V3.row("mobilenet_v3_small", "MobileNetV3Small", 576, 939_120),
    _MOBILENET_V3.row("mobilenet_v3_large", "MobileNetV3Large", 960, 2_996_352),
    _RESNET.row("resnet50", "ResNet50", 2048, 23_587_712),
    _RESNET.row("resnet101", "ResNet101", 2048, 42_658_176),
    _RESNET.row("resnet152", "ResNet152", 2048, 58_370_944),
    _RESNET_V2.row("resnet50_v2", "ResNet50V2", 2048, 23_564_800),
    _RESNET_V2.row("resnet101_v2", "ResNet101V2", 2048, 42_626_560),
    _RESNET_V2.row("resnet152_v2", "ResNet152V2", 2048, 58_331_648),
    _VGG.row("vgg16", "VGG16", 512, 14_714_688),
    _VGG.row("vgg19", "VGG19", 512, 20_024_384),
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
    _DENSENET.row("densenet121", "DenseNet121", 1024, 7_037_504),
    _DENSENET.row("densenet169", "DenseNet169", 1664, 12_642_880),
    _DENSENET.row("densenet201", "DenseNet201", 1920, 18_321_984),
    _INCEPTION_V3.row("inception_v3", "InceptionV3", 2048, 21_802_784, native_size=299),
    _INCEPTION_RESNET.row(
        "inception_resnet_v2", "InceptionResNetV2", 1536, 54_336_736, native_size=299
    ),
    _XCEPTION.row("xception", "Xception", 2048, 20_861_480, native_size=299),
    _NASNET.row("nasnet_mobile", "NASNetMobile", 1056, 4_269_716),
    _NASNET.row("nasnet_large", "NASNetLarge", 4032, 84_916_818, native_size=331),
    _EFFICIENTNET.row("efficientnet_b0", "EfficientNetB0", 1280, 4_049_571),
    _EFFICIENTNET.row("efficientnet_b1", "EfficientNetB1", 1280, 6_575_239, native_size=240),
    _EFFICIENTNET.row("efficientnet_b2", "EfficientNetB2", 1408, 7_768_569, native_size=260),
    _EFFICIENTNET.row("efficientnet_b3", "EfficientNetB3", 1536, 10_783_535, native_size=300),
    _EFFICIENTNET.row("efficientnet_b4", "EfficientNetB4", 1792, 17_673_823, native_size=380),
    _EFFICIENTNET.row("efficientnet_b5", "EfficientNetB5", 2048, 28_513_527, native_size=456),
    _EFFICIENTNET.row("efficientnet_b6", "EfficientNetB6", 2304, 40_960_143, native_size=528),
    _EFFICIENTNET.row("efficientnet_b7", "EfficientNetB7", 2560, 64_097_687, native_size=600),
    _EFFICIENTNET_V2.row("efficientnet_v2_b0", "EfficientNetV2B0", 1280, 5_919_312),
    _EFFICIENTNET_V2.row(
        "efficientnet_v2_b1", "EfficientNetV2B1", 1280, 6_931_124, native_size=240
    ),
    _EFFICIENTNET_V2.row(
        "efficientnet_v2_b2", "EfficientNetV2B2", 1408, 8_769_374, native_size=260
    ),
    _EFFICIENTNET_V2.row(
        "efficientnet_v2_b3", "EfficientNetV2B3", 1536, 12_930_622, native_size=300
    ),
    _EFFICIENTNET_V2.row("efficientnet_v2_s", "EfficientNetV2S", 1280, 20_331_360, native_size=384),
    _EFFICIENTNET_V2.row("efficientnet_v2_m", "EfficientNetV2M", 1280, 53_150_388, native_size=480),
    _EFFICIENTNET_V2.row(
        "efficientnet_v2_l", "EfficientNetV2L", 1280, 117_746_848, native_size=480
    ),
    _CONVNEXT.row("convnext_tiny", "ConvNeXtTiny", 768, 27_820_128),
    _CONVNEXT.row("convnext_small", "ConvNeXtSmall", 768, 49_454_688),
    _CONVNEXT.row("convnext_base", "ConvNeXtBase", 1024, 87_566_464),
    _CONVNEXT.row("convnext_large", "ConvNeXtLarge", 1536, 196_230_336),
    _CONVNEXT.row("convnext_xlarge", "ConvNeXtXLarge", 2048, 348_147_968),
)
