"""What may be written after `tlclassify`: commands and their arguments, as tables."""

import argparse
import ast
from pathlib import Path
from typing import Any, NoReturn

import tlclassify

_PURPOSE = "Image classifiers from a few labelled photographs, by transfer learning."
_FIVE_LINES = """\
from a folder with one folder of photographs per class:
  tlclassify fit photos -o plants.tlc
  tlclassify evaluate plants.tlc photos --cv 5 --html report.html
  tlclassify predict plants.tlc new_photos --csv > predictions.csv
  tlclassify serve plants.tlc

`tlclassify COMMAND --help` tells more."""

SETTINGS = (
    "--weights --image-size --aspect --head --augmentation --head-stage --fine-tune-stage "
    "--validation-fraction --predict-mirrored --class-weight --batch-size --cache-dir --engine "
    "--random-state --verbose"
)
_RUNNING, _TABLE = "--batch-size --engine --verbose", "--path-column --label-column --root"
_GROUPED = f"{_TABLE} --group-column"
# As (metavar, help); without a metavar it is a switch.
_ARGUMENTS = {
    "photos": ("PHOTOS", "a folder with one folder of photographs per class, or a table of paths"),
    "model": ("MODEL", "what `fit` has written, or `export` as .onnx or .xml"),
    "names": ("BACKBONE", "names as `tlclassify info` lists them"),
    "path": ("PATH", "ends in .onnx, .xml (OpenVINO), .tflite, or nothing (SavedModel)"),
    "--output": ("MODEL", "the file to write, such as plants.tlc"),
    "--card": ("", "write a model card beside it, in Markdown"),
    "--backbone": ("NAME", "as `tlclassify info` lists them (default: mobilenet)"),
    "--weights": ("FILE", "of the backbone's weights (default: pretrained)"),
    "--image-size": ("N", "pixels a side at which the backbone sees the photographs"),
    "--aspect": ("NAME", "of oblong photographs: stretch, pad, crop or soft (default: stretch)"),
    "--head": ("NAME", "linear, mlp, article or article_plain"),
    "--augmentation": ("NAME", "flip, article or strong"),
    "--head-stage": ("NAME", "auto or exact (default: auto)"),
    "--fine-tune-stage": ("NAME", "top or all: train the backbone's upper half too, or all of it"),
    "--validation-fraction": ("SHARE", "of the photographs, to choose the best epoch by"),
    "--predict-mirrored": ("", "predict from each photograph and its mirror image"),
    "--class-weight": ("NAME", "balanced"),
    "--batch-size": ("N", "photographs run through the network at once"),
    "--cache-dir": ("FOLDER", "where activations are kept for later calls"),
    "--engine": ("NAME", "keras, auto, openvino, openvino_bfloat16 or onnxruntime"),
    "--random-state": ("SEED", "a whole number that makes results repeatable"),
    "--verbose": ("N", "0: no progress bars (default: 1)"),
    "--set": ("NAME=VALUE", "any other parameter, such as head__C=0.01; may be repeated"),
    "--path-column": ("NAME", "of a table (default: path)"),
    "--label-column": ("NAME", "of a table (default: label)"),
    "--group-column": ("NAME", "of a table: whose photographs stay on one side of every split"),
    "--root": ("FOLDER", "from which a table's relative paths lead"),
    "--cv": ("N", "folds: each part is judged by a copy fitted on the others"),
    "--top-k": ("K", "also count a label among the K most probable as right (default: 5)"),
    "--confidence-level": ("SHARE", "of all intervals (default: 0.95)"),
    "--html": ("PATH", "write a page for people too, with pictures"),
    "--test-fraction": ("SHARE", "of the photographs, to judge by (default: 0.2)"),
    "--format": ("NAME", "onnx, openvino, litert or saved_model (default: as PATH ends)"),
    "--precision": ("NAME", "float32, float16 or int8 (default: float32)"),
    "--calibration-images": ("PHOTOS", "for int8: photographs as for `fit`, a hundred or more"),
    "--n-best": ("N", "labels to name of each photograph (default: 2)"),
    "--threshold": ("SHARE", "probability from which a label counts as sure"),
    "--host": ("ADDRESS", "0.0.0.0: for other machines too (default: 127.0.0.1)"),
    "--port": ("N", "(default: 8000)"),
}
# As (name, usage, arguments, purpose, example).
_COMMANDS = (
    ("fit", "PHOTOS -o MODEL", f"photos --output --card --backbone {SETTINGS} --set {_GROUPED}",
     "learn the classes of labelled photographs",
     "photos -o plants.tlc --fine-tune-stage top --augmentation flip"),
    ("evaluate", "MODEL PHOTOS",
     f"model photos --html --cv --top-k --confidence-level --cache-dir {_RUNNING} {_GROUPED}",
     "measure a model on labelled photographs",
     "plants.tlc photos --cv 5 --html report.html"),
    ("predict", "MODEL PHOTOS ...", f"model photos+ --n-best --threshold {_RUNNING}",
     "name what is on photographs", "plants.tlc new_photos more/*.jpg --csv > predictions.csv"),
    ("compare", "PHOTOS BACKBONE ...",
     f"photos names+ --html --test-fraction --cv --confidence-level {SETTINGS} --set {_GROUPED}",
     "try several backbones on one task",
     "photos mobilenet resnet50 --cache-dir activations --html comparison.html"),
    ("export", "MODEL PATH", f"model path --format --precision --calibration-images {_TABLE}",
     "write a model for other runtimes", "plants.tlc plants.onnx"),
    ("serve", "MODEL", f"model --host --port {_RUNNING}",
     "put a model behind a web page", "plants.tlc --port 8080"),
    ("info", "[MODEL]", "model?",
     "tell what a model is; without one, what backbones there are", "plants.tlc --json"),
)  # fmt: skip


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """End with one line, where argparse would show all options first."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """Build the parser; what is not given has no attribute in what it returns."""
    style: Any = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = _Parser("tlclassify", description=_PURPOSE, epilog=_FIVE_LINES, **style)
    parser.add_argument("--version", action="version", version=tlclassify.__version__)
    commands = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True
    )
    for name, usage, arguments, purpose, example in _COMMANDS:
        own = commands.add_parser(name, help=purpose, description=f"{purpose}.", **style)
        own.usage = f"{own.prog} {usage} [options]"
        own.epilog = f"example:\n  {own.prog} {example}"
        for argument in arguments.split():
            _add_argument(own, argument)
        own.add_argument("--traceback", action="store_true", help="show where an error came from")
        forms = own.add_mutually_exclusive_group()
        for form in ("json", "csv") if name != "serve" else ():
            how: Any = {"dest": "form", "action": "store_const", "const": form, "default": "text"}
            forms.add_argument(f"--{form}", help=f"print {form.upper()}, not a table", **how)
    return parser


def _add_argument(parser: argparse.ArgumentParser, argument: str) -> None:
    name = argument.rstrip("?+")
    metavar, text = _ARGUMENTS[name]
    how: dict[str, Any] = {"help": text, "default": argparse.SUPPRESS}
    how |= {"metavar": metavar, "type": _TYPES.get(metavar, _value)} if metavar else _SWITCH
    if name != argument:
        how |= {"nargs": argument[-1], "default": None}
    if name == "--set":
        how["action"] = "append"
    if name == "--output":
        parser.add_argument("-o", name, required=True, **how)
    else:
        parser.add_argument(name, **how)


def _value(text: str) -> Any:
    """Return what Python makes of a word, such as a number or None; or else the word."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} must be NAME=VALUE, such as head__C=0.01")
    return name, _value(value)


_SWITCH = {"action": "store_true"}
_TYPES = {"NAME=VALUE": _pair, **dict.fromkeys(("MODEL", "PHOTOS", "PATH", "FOLDER"), Path)}
