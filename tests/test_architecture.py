"""The laws of the house, read from the source. Each check is also fed a source that breaks it."""

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "tlclassify"

# The direction in one sentence: a room imports from those left of it, and everyone from _checks.
FLOORS = [
    *("_checks", "inputs", "networks", "engines", "activations", "training"),
    *("estimators", "analysis", "persistence", "jobs", "cli"),
]
# The command line alone enters by the package's front door.
GUEST = "cli"
# These stand beside the floors; what stands on estimators may use them.
BESIDE = {"evaluation": {"_checks"}, "displays": {"_checks", "evaluation"}, "datasets": {"_checks"}}
# The one door upwards, opened inside a method: a report shows itself.
DOOR = ("evaluation", "displays")
# No Keras when they are imported. CIFAR-10 reaches keras.datasets when it is asked for.
WITHOUT_KERAS = [
    *("_checks", "inputs.images", "engines", "evaluation", "displays", "datasets"),
    *("persistence.exported", "analysis.evaluate", "jobs.batches", "jobs.files", "cli"),
]
# LiteRT's converter is a part of TensorFlow, which no other backend of Keras has.
NAMES_TENSORFLOW = "engines.converters"
PUBLIC_MODULES = ["tlclassify", "tlclassify.datasets", "tlclassify.displays"]
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_METHODS = 350, 50, 15
# scikit-learn calls these by position, or by names of its own choosing.
SCIKIT_LEARN_METHODS = {"fit", "fit_transform", "score", "set_params"}
POSITIONAL = {"X", "X_other", "y", "path", "files", "output"}  # as in save(what, where)
IMMUTABLE_CALLS = {"Augmentation", "Head", "Stage"}
VAGUE_NAME = re.compile(r"(Manager|Helper|Util|Utils|Factory|Base)s?$", re.IGNORECASE)
UNPICKLERS = {"_pickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
QUIET_AT_IMPORT = (
    *(*FUNCTIONS, ast.ClassDef, ast.Import, ast.ImportFrom),
    *(ast.Assign, ast.AnnAssign, ast.If),
)


def imported(tree):
    """Yield every name that a module imports, anywhere in it, with `from a import b` as a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{a.name}" for a in node.names)


def rooms_imported(tree):
    own = (name.split(".") for name in imported(tree) if name.startswith("tlclassify"))
    return {parts[1] if len(parts) > 1 else "the package itself" for parts in own}


def at_the_top(tree):
    body = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    return ast.Module(body=body, type_ignores=[])


def rooms_allowed(room):
    """Return the rooms that a room may import from."""
    if room in BESIDE:
        return BESIDE[room]
    below = {*FLOORS[: FLOORS.index(room)]} | ({"the package itself"} if room == GUEST else set())
    return below | set(BESIDE) if "estimators" in {*below, room} else below


def check_directions(tree, module):
    """Imports point down, and reach a module rather than the package's front door."""
    room = module.split(".")[0]
    if room in {"__init__", "__main__"}:
        return
    if room not in [*FLOORS, *BESIDE]:
        yield f"{room} is no room"
        return
    for other in sorted(rooms_imported(tree) - rooms_allowed(room) - {room}):
        if (room, other) != DOOR or other in rooms_imported(at_the_top(tree)):
            yield f"{module} imports {other}: imports point down only"


def check_outside_imports(tree, module):
    """Keras is kept out of some modules, backends and unpicklers out of all."""
    outside = {name.split(".")[0] for name in imported(tree)}
    if "" in outside:
        yield "a relative import"
    if module != NAMES_TENSORFLOW:
        yield from (f"imports {name}" for name in sorted(outside & {"tensorflow", "jax", "torch"}))
    yield from (f"imports {name}" for name in sorted(outside & UNPICKLERS))
    for name in imported(tree):
        if name.startswith("keras."):
            yield f"{name}: write it in full from `import keras`"


def check_unpickling(tree, module):
    """NumPy and Keras load no code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg in {"allow_pickle", "safe_mode"}:
            safe = node.arg == "safe_mode"
            if not (isinstance(node.value, ast.Constant) and node.value.value is safe):
                yield f"line {node.value.lineno}: {node.arg} is not {safe}"


def check_module_level(tree, module):
    """Importing a module defines things and does nothing; matplotlib is imported where used."""
    for node in tree.body if module != "__main__" else ():
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not is_text and not isinstance(node, QUIET_AT_IMPORT):
            yield f"line {node.lineno}: a statement that runs at import"
        if isinstance(node, ast.If) and ast.unparse(node.test) != "TYPE_CHECKING":
            yield f"line {node.lineno}: a condition at import"
        if not isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.If)):
            yield from (
                f"line {node.lineno}: matplotlib at import"
                for name in imported(node)
                if name.startswith("matplotlib")
            )


def code_lines(function):
    """Count the lines of a function without its docstring."""
    first = function.body[0]
    is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    text = first.end_lineno - first.lineno + 1 if is_text else 0
    return function.end_lineno - function.lineno + 1 - text


def check_sizes(tree, module):
    """Functions and classes are small and have names that say something."""
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS) and code_lines(node) > MAX_FUNCTION_LINES:
            yield f"{node.name} has {code_lines(node)} lines without its docstring"
        if isinstance(node, ast.ClassDef):
            n_methods = sum(isinstance(child, FUNCTIONS) for child in node.body)
            if n_methods > MAX_METHODS:
                yield f"{node.name} has {n_methods} methods"
            if VAGUE_NAME.search(node.name):
                yield f"{node.name} is a name that says nothing"
        if isinstance(node, ast.Attribute) and node.attr == "Lambda":
            yield f"line {node.lineno}: a Lambda layer"


def callables(tree):
    """Yield (qualified name, definition, has a first parameter of its own) of what users call."""
    for node in tree.body:
        if isinstance(node, FUNCTIONS):
            yield node.name, node, False
        if isinstance(node, ast.ClassDef):
            for method in (child for child in node.body if isinstance(child, FUNCTIONS)):
                static = any(ast.unparse(d) == "staticmethod" for d in method.decorator_list)
                if not method.name.startswith("_") or method.name in {"__init__", "__call__"}:
                    yield f"{node.name}.{method.name}", method, not static


def check_signatures(tree, public_names):
    """Public parameters are spelled out, typed, and keyword-only after the first."""
    for name, function, is_method in callables(tree):
        if name.split(".")[0] not in public_names:
            continue
        arguments = function.args
        positional = [*arguments.posonlyargs, *arguments.args][is_method:]
        spelled = [*positional, *arguments.kwonlyargs]
        if function.returns is None or any(a.annotation is None for a in spelled):
            yield f"{name} is not fully annotated"
        if function.name not in SCIKIT_LEARN_METHODS:
            late = [a.arg for a in positional[1:] if a.arg not in POSITIONAL]
            yield from (f"{name}: {parameter} is not keyword-only" for parameter in late)
            if arguments.kwarg or arguments.vararg:
                yield f"{name} has parameters that are not spelled out"
        for default in [*arguments.defaults, *filter(None, arguments.kw_defaults)]:
            if is_mutable(default):
                yield f"{name} has the mutable default {ast.unparse(default)}"


def is_mutable(default):
    if isinstance(default, ast.Call):
        return ast.unparse(default.func).split(".")[-1] not in IMMUTABLE_CALLS
    return isinstance(
        default, (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    )


CHECKS = [
    check_directions,
    check_outside_imports,
    check_unpickling,
    check_module_level,
    check_sizes,
]


def module_of(path):
    """Return a file's name as Python imports it, without the package's own."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[: 1 if len(parts) == 1 or parts[-1] == "__init__" else None])


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=module_of)
def test_source_keeps_the_laws(path):
    text = path.read_text(encoding="utf-8")
    tree, module = ast.parse(text), module_of(path)
    problems = [problem for check in CHECKS for problem in check(tree, module)]
    problems += check_signatures(tree, public_objects())
    if text.count("\n") > MAX_FILE_LINES:
        problems.append(f"{text.count(chr(10))} lines, more than {MAX_FILE_LINES}")
    assert not problems, f"{path.name}: " + "; ".join(problems)


def circles(files):
    """Return the modules of circles of imports, and what lies between two circles."""
    names = {f"tlclassify.{name}".removesuffix(".__init__"): name for name in files}
    graph = {}
    for name, tree in files.items():
        targets = [
            full if full in names else full.rpartition(".")[0]
            for full in imported(at_the_top(tree))
        ]
        graph[name] = {names[target] for target in targets if target in names} - {name}
    while ends := [
        name
        for name, below in graph.items()
        if not below & graph.keys() or not any(name in other for other in graph.values())
    ]:
        for name in ends:
            del graph[name]
    return sorted(graph)


def test_no_circles():
    files = {module_of(path): ast.parse(path.read_text()) for path in SOURCE.rglob("*.py")}
    assert not circles(files)


def test_a_circle_is_found():
    texts = {"a": "from tlclassify.b import f", "b": "from tlclassify import a", "c": "import os"}
    assert circles({name: ast.parse(text) for name, text in texts.items()}) == ["a", "b"]


BAD_SOURCES = [
    (check_directions, "networks.heads", "from tlclassify.training.loop import run_stage"),
    (check_directions, "training.loop", "def f():\n    import tlclassify.estimators.classifier"),
    (check_directions, "displays.confusion", "from tlclassify.inputs import images"),
    (
        check_directions,
        "engines.runtimes",
        "from tlclassify.evaluation.report import EvaluationReport",
    ),
    (check_directions, "estimators.classifier", "from tlclassify import Head"),
    (check_directions, "estimators.classifier", "import tlclassify"),
    (check_directions, "persistence.saving", "from tlclassify.cli.commands import main"),
    (check_directions, "extras", "import numpy"),
    (check_directions, "evaluation.report", "from tlclassify.displays import report_page"),
    (check_directions, "evaluation.report", "def f():\n    from tlclassify.analysis import g"),
    (check_outside_imports, "networks.heads", "from . import images"),
    (check_outside_imports, "networks.heads", "def f():\n    import tensorflow as tf"),
    (check_outside_imports, "engines.converters", "import pickle"),
    (check_outside_imports, "networks.heads", "from keras.layers import Dense"),
    (check_outside_imports, "persistence.saving", "import joblib"),
    (check_unpickling, "activations.run", "np.load(path, allow_pickle=True)"),
    (check_unpickling, "activations.run", "np.load(path, allow_pickle=flag)"),
    (check_unpickling, "persistence.saving", "keras.saving.load_model(path, safe_mode=False)"),
    (check_module_level, "backbones", "ROWS = {}\nROWS.update(a=1)"),
    (check_module_level, "backbones", "if sys.version_info > (3, 11):\n    import tomllib"),
    (check_module_level, "displays", "from matplotlib import pyplot"),
    (check_sizes, "heads", "def f():\n" + "    f()\n" * 50),
    (check_sizes, "heads", "class A:\n" + "    def f(self): ...\n" * 16),
    (check_sizes, "heads", "class HeadFactory: ..."),
    (check_sizes, "heads", "keras.layers.Lambda(f)"),
]


@pytest.mark.parametrize(("check", "module", "text"), BAD_SOURCES)
def test_a_broken_law_is_found(check, module, text):
    assert list(check(ast.parse(text), module))


BAD_SIGNATURES = [
    "def f(a: int, b: int) -> int: ...",
    "class A:\n    def __init__(self, a: int, b: int) -> None: ...",
    "class A:\n    @staticmethod\n    def f(a: A, b: A) -> A: ...",
    "def f(a: int, *, b) -> int: ...",
    "def f(a: int): ...",
    "def f(a: int, **options: int) -> int: ...",
    "def f(*, a: list = []) -> int: ...",
    "def f(a: A = np.array(1)) -> int: ...",
]


@pytest.mark.parametrize("text", BAD_SIGNATURES)
def test_a_bad_public_signature_is_found(text):
    assert list(check_signatures(ast.parse(text), {"A", "f"}))
    assert not list(check_signatures(ast.parse(text), {"B", "g"}))


GOOD_SOURCE = '''
"""One line."""
import keras
from tlclassify.networks.heads import Head
if TYPE_CHECKING:
    from matplotlib.axes import Axes
class A:
    def fit(self, X: A, y: A, sample_weight: A = None) -> A: ...
    def f(self, X: A, y: A, *, head: Head = Head(), n: tuple = (1, 2)) -> A:
        """Draw."""
        import matplotlib
def _g(a, b, **options): ...
np.load(path, allow_pickle=False)
'''.replace("np.load", "_x = np.load")


def test_the_command_line_enters_by_the_front_door():
    assert not list(check_directions(ast.parse("import tlclassify"), "cli.commands"))


def test_a_good_source_passes():
    tree = ast.parse(GOOD_SOURCE)
    assert not [problem for check in CHECKS for problem in check(tree, "training.loop")]
    assert not list(check_signatures(tree, {"A"}))


def loaded_by(statement):
    """Return which of the heavy libraries a fresh Python has loaded after a statement."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    modules = set(json.loads(answer.stdout.splitlines()[-1]))
    return modules & {"tensorflow", "jax", "keras", "matplotlib", "sklearn", "scipy", "PIL"}


def test_import_loads_nothing_heavy():
    assert loaded_by("import tlclassify") == set()


def test_rooms_beside_the_house_load_no_keras():
    names = [
        module_of(path)
        for path in SOURCE.rglob("*.py")
        if any(f"{module_of(path)}.".startswith(f"{start}.") for start in WITHOUT_KERAS)
    ]
    assert len(names) > len(WITHOUT_KERAS)
    heavy = loaded_by("; ".join(f"import tlclassify.{name}" for name in names))
    assert not heavy & {"tensorflow", "jax", "keras", "matplotlib"}


def test_loading_something_heavy_is_seen():
    assert loaded_by("import PIL") == {"PIL"}


def public_objects():
    """Return name: object for the names that the public modules list."""
    modules = [importlib.import_module(name) for name in PUBLIC_MODULES]
    return {name: getattr(module, name) for module in modules for name in module.__all__}


def documented_objects(text):
    """Return name: object for every `::: tlclassify.module.name` of an API page."""
    paths = re.findall(r"^::: (tlclassify\.[\w.]+)\.(\w+)$", text, re.MULTILINE)
    return {name: getattr(importlib.import_module(module), name) for module, name in paths}


def test_public_names_and_api_pages_agree():
    pages = sorted((ROOT / "docs" / "api").glob("*.md"))
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    public, documented = public_objects(), documented_objects(text)
    assert sorted(documented) == sorted(public)
    assert all(documented[name] is public[name] for name in public)
    assert len(re.findall(r"^:::", text, re.MULTILINE)) == len(public)


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_public_names_are_sorted_and_listed_by_dir(name):
    module = importlib.import_module(name)
    assert list(module.__all__) == sorted(module.__all__)
    assert set(module.__all__) <= set(dir(module))


def test_types_are_announced():
    assert (SOURCE / "py.typed").is_file()
