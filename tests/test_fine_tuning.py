"""What holds of stages that train more than the head."""

import gc
import weakref

import keras
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.estimators.recipes import article_classifier
from tlclassify.inputs.augmentation import Augmentation, fixed_views
from tlclassify.networks.cuts import unfreeze_above
from tlclassify.networks.heads import Head
from tlclassify.networks.rows import Backbone
from tlclassify.networks.steps import add_views
from tlclassify.training.loop import Examples, Prepared, run_stage
from tlclassify.training.preparation import prepare_fit
from tlclassify.training.stages import Stage

HEAD = Stage(3, learning_rate=0.05, batch_size=8)
LAYERS = ("one", "one_bn", "two")


def fine_tuning(epochs=2, **params):
    return Stage(epochs, learning_rate=1e-3, batch_size=8, patience=None, **params)


@pytest.fixture
def clf(make_clf):
    return make_clf(
        head_stage=HEAD, fine_tune_stage=fine_tuning(unfreeze=1), validation_fraction=0.2
    )


def weights(clf, layer):
    return clf.model_.get_layer(layer).get_weights()


def changed_layers(clf, images):
    """Prepare a fit from the same seed, and compare the backbones before and after."""
    before = prepare_fit(clone(clf), *images)
    clf.fit(*images)
    return {
        name
        for name in LAYERS
        for untouched, tuned in zip(
            before.network.get_layer(name).get_weights(), weights(clf, name), strict=True
        )
        if not np.array_equal(untouched, tuned)
    }


@pytest.mark.parametrize(
    ("unfreeze", "batch_norm", "expected"),
    [
        (0, "frozen", set()),
        (1, "frozen", {"two"}),
        ("one_relu", "train", {"two"}),
        (2, "frozen", {"one", "two"}),
        ("all", "frozen", {"one", "two"}),
        ("all", "train", {"one", "one_bn", "two"}),
    ],
)
def test_a_stage_changes_exactly_the_layers_it_names(clf, images, unfreeze, batch_norm, expected):
    """Batch normalisation is bit-equal unless the stage asks for it."""
    stage = fine_tuning(unfreeze=unfreeze, batch_norm=batch_norm)
    clf.set_params(fine_tune_stage=stage, head_stage=None)
    assert changed_layers(clf, images) == expected
    assert not clf.model_.get_layer("two").trainable


class DrawnViews:
    """The images themselves in the views that stored ones would be drawn in."""

    def __init__(self, source, augmentation):
        self.source = source
        self.numbers = [
            fixed_views(augmentation, source.digests(), view, image_size=(8, 8))
            for view in range(1, augmentation.n_views)
        ]

    def draw(self, rows, rng):
        drawn = rng.integers(1 + len(self.numbers), size=len(rows))
        numbers = np.tile(np.float32([1, 0, 0, 0, 1, 0, 0, 0, 0, 1]), (len(rows), 1))
        for view, of_view in enumerate(self.numbers, start=1):
            numbers[drawn == view] = of_view[rows[drawn == view]]
        return self.source.take(rows).read(0, len(rows)), numbers


@pytest.mark.graphs
def test_stored_activations_equal_direct_training_on_the_same_views(clf, images):
    """Trained from the images with the lower layers frozen, weights and predictions agree."""
    augmentation = Augmentation(
        horizontal_flip=True, rotation_degrees=10, contrast=0.2, brightness=0.1, n_views=3
    )
    stage = fine_tuning(3, unfreeze=1, optimizer="sgd")
    clf.set_params(head=Head((), dropout=0), fine_tune_stage=stage, augmentation=augmentation)
    clf.set_params(head_stage=None, validation_fraction=0)
    stored, direct = (prepare_fit(clf, *images) for _ in range(2))
    stored.run()
    direct.prepare("fine_tune")
    model = add_views(direct.network, direct.top(direct.network.output))
    unfreeze_above(direct.network, "one_relu", batch_norm="frozen")
    examples = Examples(
        DrawnViews(direct.training.images, augmentation),
        direct.training.targets,
        n_classes=3,
        batch_size=8,
        seed=direct.seed,
    )
    run_stage(Prepared(model, stage, examples), name="fine_tune", history=[])
    for ours, theirs in zip(
        stored.network.get_weights() + stored.top.get_weights(),
        direct.network.get_weights() + direct.top.get_weights(),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    predictions = [
        keras.Model(fit.network.input, fit.top(fit.network.output)).predict_on_batch(images[0])
        for fit in (stored, direct)
    ]
    np.testing.assert_allclose(*predictions, atol=1e-3)


@pytest.mark.parametrize("unfreeze", [1, "all"])
def test_fine_tuning_begins_with_the_trained_head(clf, images, unfreeze):
    clf.set_params(fine_tune_stage=fine_tuning(1, unfreeze=unfreeze)).fit(*images)
    head, tuned = ([r for r in clf.history_ if r["stage"] == s] for s in ("head", "fine_tune"))
    assert len(head) == 3
    assert len(tuned) == 1
    assert tuned[0]["loss"] < head[0]["loss"]
    assert [row["epoch"] for row in clf.history_] == [1, 2, 3, 1]


def test_a_stage_that_makes_nothing_better_changes_nothing(clf, images):
    probe = clone(clf).set_params(fine_tune_stage=None).fit(*images)
    stage = fine_tuning(2, unfreeze=2, schedule="constant").set_params(learning_rate=3.0)
    with pytest.warns(UserWarning, match="stage 'fine_tune' is undone"):
        clf.set_params(fine_tune_stage=stage).fit(*images)
    lowest = min(row["val_loss"] for row in clf.history_ if row["stage"] == "head")
    assert all(row["val_loss"] > lowest for row in clf.history_ if row["stage"] == "fine_tune")
    X, _ = images
    np.testing.assert_allclose(clf.predict_proba(X), probe.predict_proba(X), atol=1e-3)


def test_every_view_is_run_once_and_later_fits_read_it(clf, images, runs, tmp_path):
    X, y = images
    augmentation = Augmentation(rotation_degrees=5, n_views=3)
    clf.set_params(augmentation=augmentation, cache_dir=tmp_path, head_stage=None)
    clf.fit(X, y)
    n_held_out = 5
    assert sum(runs) == 3 * (24 - n_held_out) + n_held_out
    clf.set_params(fine_tune_stage__epochs=1, fine_tune_stage__learning_rate=1e-2).fit(X, y)
    assert sum(runs) == 3 * (24 - n_held_out) + n_held_out


def test_the_head_reads_what_the_cut_below_has_stored(clf, images, runs, monkeypatch):
    """Features for the head come from the activations at the cut, not from images again."""
    from tlclassify.inputs.images import ImageSource

    read = []
    original = ImageSource.read

    def counting(self, start, stop):
        read.append(min(stop, len(self)) - start)
        return original(self, start, stop)

    monkeypatch.setattr(ImageSource, "read", counting)
    # What the images are known by later is hashed, and runs no network.
    monkeypatch.setattr(ImageSource, "marks", lambda self: np.empty(0, np.uint64))
    clf.fit(*images)
    assert sum(read) == 24


def test_validation_and_prediction_see_no_augmentation(clf, images):
    """What the last epoch says of the validation images, evaluate says of them as they are."""
    X, y = images
    strong = Augmentation(rotation_degrees=90, brightness=0.5, n_views=2)
    for unfreeze in (1, "all"):
        stage = fine_tuning(1, unfreeze=unfreeze)
        clf.set_params(augmentation=strong, head_stage=None, fine_tune_stage=stage)
        clf.fit(X[:15], y[:15], validation_data=(X[15:], y[15:]))
        targets = np.searchsorted(clf.classes_, y[15:])
        chosen = clf.predict_proba(X[15:])[np.arange(9), targets]
        assert clf.history_[-1]["val_loss"] == pytest.approx(-np.log(chosen).mean(), rel=1e-2)


def test_the_model_stays_whole(clf, images):
    X, y = images
    clf.set_params(augmentation="strong", fine_tune_stage=fine_tuning(1, unfreeze="all")).fit(X, y)
    assert len(clf.model_.inputs) == 1
    assert clf.model_.input.dtype == "uint8"
    np.testing.assert_allclose(clf.model_.predict_on_batch(X), clf.predict_proba(X), atol=1e-3)


def test_same_seed_same_predictions(clf, images):
    X, y = images
    mixing = Augmentation(horizontal_flip=True, mixup_alpha=0.2, cutmix_factor=0.5)
    clf.set_params(augmentation=mixing, fine_tune_stage=fine_tuning(1, unfreeze="all"))
    clf.set_params(head_stage=None)
    first, second = (clone(clf).fit(X, y).predict_proba(X) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_mixed_precision_is_kerass_own_setting(clf, images):
    X, y = images
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        clf.set_params(augmentation="flip").fit(X, y)
    finally:
        keras.config.set_dtype_policy(before)
    probabilities = clf.predict_proba(X)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert clf.model_.get_layer("two").compute_dtype == "bfloat16"


def test_a_warm_start_goes_on(clf, images):
    X, y = images
    clf.set_params(warm_start=True, fine_tune_stage=None).fit(X, y)
    n_head = len(clf.history_)
    before = weights(clf, "two")[0]
    clf.set_params(head_stage=None, fine_tune_stage=fine_tuning(3, unfreeze=1)).fit(X, y)
    assert [row["stage"] for row in clf.history_] == ["head"] * n_head + ["fine_tune"] * 3
    assert not np.array_equal(weights(clf, "two")[0], before)
    with pytest.raises(ValueError, match="y must hold labels seen in fit: 'cat'.*; received 'fox'"):
        clf.fit(X, np.where(y == "cat", "fox", y))
    with pytest.raises(ValueError, match="X must hold images of 8x8 pixels as in fit"):
        clf.fit(X[:, :4], y)


@pytest.mark.parametrize("augmentation", [None, Augmentation(translation_fraction=0.2, n_views=3)])
def test_a_head_learns_from_a_table_as_from_batches_of_features(
    make_clf, images, monkeypatch, augmentation
):
    X, y = images
    params = {"head_stage": HEAD, "validation_fraction": 0.2, "augmentation": augmentation}
    from_table = make_clf(**params).fit(X, y)
    monkeypatch.setattr("tlclassify.training.fit._TABLE_LIMIT_BYTES", 0)
    from_batches = make_clf(**params).fit(X, y)
    for key in ("loss", "val_loss", "learning_rate"):
        rows = [[row[key] for row in clf.history_] for clf in (from_table, from_batches)]
        np.testing.assert_allclose(*rows, rtol=1e-4)
    np.testing.assert_allclose(
        from_table.predict_proba(X), from_batches.predict_proba(X), atol=1e-4
    )


class CountBatches(keras.callbacks.Callback):
    """Count what it is told."""

    def __init__(self):
        super().__init__()
        self.n_batches = 0

    def on_train_batch_end(self, batch, logs=None):
        self.n_batches += 1


def test_callbacks_are_told_of_every_batch(make_clf, images):
    X, y = images
    counter = CountBatches()
    stage = Stage(2, patience=None, batch_size=4)
    make_clf(head_stage=stage, validation_fraction=0, callbacks=[counter]).fit(X, y)
    assert counter.n_batches == 2 * len(X) / 4


class Interrupt(keras.callbacks.Callback):
    """Press Ctrl-C in the given epoch, counted over all stages."""

    def __init__(self, epoch):
        super().__init__()
        self.left = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.left -= 1

    def on_train_batch_begin(self, batch, logs=None):
        # In here JAX holds the model's variables elsewhere.
        if self.left < 0:
            raise KeyboardInterrupt("pressed")


def test_an_interrupted_fit_leaves_the_best_epoch(clf, images):
    X, y = images
    clf.set_params(fine_tune_stage__epochs=5, callbacks=[Interrupt(4)])
    with pytest.raises(KeyboardInterrupt, match="pressed"):
        clf.fit(X, y)
    assert [row["stage"] for row in clf.history_] == ["head"] * 3 + ["fine_tune"]
    np.testing.assert_allclose(clf.model_.predict_on_batch(X), clf.predict_proba(X), atol=1e-3)
    assert clf.score(X, y) > 0.5


def test_a_fit_interrupted_before_its_first_epoch_leaves_nothing(clf, images):
    with pytest.raises(KeyboardInterrupt, match="pressed"):
        clf.set_params(callbacks=[Interrupt(0)]).fit(*images)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        clf.predict(images[0])


def test_a_fine_tuning_that_diverges_leaves_the_trained_head(clf, images):
    X, y = images
    probe = clone(clf).set_params(fine_tune_stage=None).fit(X, y)
    stage = fine_tuning(3, unfreeze=2, optimizer="sgd").set_params(learning_rate=1e30)
    clf.set_params(fine_tune_stage=stage, cache_dir=None)
    with pytest.warns(UserWarning, match="'fine_tune' ended in epoch 1 because its loss or"):
        clf.fit(X, y)
    np.testing.assert_allclose(clf.predict_proba(X), probe.predict_proba(X), atol=1e-3)


def test_a_grid_reaches_into_a_presets_name(clf, images):
    clf.set_params(fine_tune_stage="top", augmentation="flip", head_stage=None)
    grid = {"fine_tune_stage__epochs": [1], "augmentation__n_views": [2]}
    search = GridSearchCV(clf, grid, cv=2, error_score="raise", refit=False).fit(*images)
    assert search.best_params_["fine_tune_stage__epochs"] == 1
    clf.set_params(**search.best_params_)
    assert (clf.fine_tune_stage.unfreeze, clf.augmentation.horizontal_flip) == (0.5, True)


def test_files_and_weights(clf, files):
    paths, y = files
    clf.set_params(fine_tune_stage=fine_tuning(1, unfreeze="all"), class_weight="balanced")
    clf.fit(paths, y, sample_weight=np.ones(24))
    assert clf.predict(paths).shape == (24,)


def test_the_articles_recipe_runs(tiny, images):
    clf = article_classifier("mobilenet", epochs=2, random_state=0, verbose=0)
    clf.set_params(backbone=tiny, weights=None, image_size=None)
    before = clf.fit(*images).history_
    assert [row["stage"] for row in before] == ["fine_tune"] * 2
    assert before[0]["learning_rate"] == pytest.approx(1e-3)


@pytest.mark.parametrize("name", ["resnet50", "mobilenet", "vgg16", "vgg19", "alexnet"])
def test_the_articles_figures(name):
    clf = article_classifier(name)
    stage = clf.fine_tune_stage
    assert (clf.head_stage, stage.unfreeze, stage.batch_norm) == (None, "all", "train")
    assert (stage.optimizer, stage.learning_rate, stage.batch_size) == ("sgd", 1e-3, 100)
    assert clf.validation_fraction == 0.3
    assert stage.epochs == (100 if name == "mobilenet" else 30)
    with pytest.raises(ValueError, match="backbone must be one of 'resnet50'.*mean 'resnet50'"):
        article_classifier("resnet")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"head_stage": None, "fine_tune_stage": None}, "must be given; received None twice"),
        ({"head_stage": Stage(unfreeze=1)}, "head_stage__unfreeze must be 0"),
        ({"fine_tune_stage": "tops"}, "fine_tune_stage must be one of.*mean 'top'"),
        ({"fine_tune_stage": Stage(unfreeze="too")}, "fine_tune_stage__unfreeze.*mean 'two'"),
        ({"fine_tune_stage": Stage(unfreeze=3)}, "at most 2, the number of blocks"),
        ({"augmentation": "flipp"}, "mean 'flip'"),
        ({"augmentation": Augmentation(n_views=0)}, "augmentation__n_views must be an integer"),
    ],
)
def test_bad_parameters(clf, images, params, message):
    with pytest.raises(ValueError, match=message):
        clf.set_params(**params).fit(*images)


def test_a_model_inside_a_backbone_is_one_layer(clf, images):
    def nested(x):
        inputs = keras.Input((8, 8, 3))
        inner = keras.layers.Conv2D(4, 3, strides=2, name="inner")(inputs)
        return keras.layers.Conv2D(6, 1, name="outer")(keras.Model(inputs, inner, name="deep")(x))

    row = Backbone("nested", nested, native_size=8, small_size=8, min_size=4)
    X, y = images
    clf.set_params(backbone=row, fine_tune_stage=fine_tuning(1, unfreeze="deep"))
    clf.fit(X, y)
    np.testing.assert_allclose(clf.model_.predict_on_batch(X), clf.predict_proba(X), atol=1e-6)
    assert len(clf.history_) == 4


def test_a_warm_start_that_fails_keeps_what_has_been_trained(clf, images, monkeypatch):
    """The network has been changed in place, so its history goes with it."""
    X, y = images
    clf.set_params(warm_start=True, fine_tune_stage=None).fit(X, y)
    n_before = len(clf.history_)
    trained = run_stage

    def full_disk(*args, **options):
        if options["name"] == "fine_tune":
            raise OSError(28, "No space left on device")
        trained(*args, **options)

    monkeypatch.setattr("tlclassify.training.fit.run_stage", full_disk)
    clf.set_params(fine_tune_stage=fine_tuning(1, unfreeze=1))
    with pytest.raises(OSError, match="No space left"):
        clf.fit(X, y)
    assert len(clf.history_) == n_before + 3
    np.testing.assert_allclose(clf.model_.predict_on_batch(X), clf.predict_proba(X), atol=1e-6)


def test_predictions_of_a_tuned_backbone_are_not_kept(clf, images, runs, tmp_path):
    X, y = images
    clf.set_params(cache_dir=tmp_path, head_stage=None).fit(X, y)
    before = sorted(tmp_path.rglob("*"))
    clf.predict(X[:, ::-1])
    assert sorted(tmp_path.rglob("*")) == before


def test_a_part_that_is_none_has_no_parameters():
    with pytest.raises(ValueError, match="fine_tune_stage must be an object with parameters.*None"):
        TransferClassifier(fine_tune_stage=None).set_params(fine_tune_stage__epochs=2)
    with pytest.raises(TypeError, match="fine_tune_stage must be a Stage, 'top' or 'all' or None"):
        TransferClassifier(fine_tune_stage=3).fit(np.zeros((4, 8, 8), np.uint8), [0, 1, 0, 1])


WHOLE = fine_tuning(1, unfreeze="all")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"augmentation": Augmentation(mixup_alpha=0.2)},
            "augmentation__mixup_alpha needs a stage",
        ),
        ({"augmentation": Augmentation(cutmix_factor=1)}, "augmentation__cutmix_factor needs a st"),
        ({"augmentation": Augmentation(brightness=0.1, n_views=1)}, "n_views must be at least 2"),
        ({"augmentation": [keras.layers.RandomFlip()]}, "augmentation of Keras layers needs a st"),
        ({"head_stage": Stage(layer_decay=0.5)}, "head_stage__layer_decay must be 1 where"),
        ({"head_stage": Stage(batch_norm="train")}, "head_stage__batch_norm must be 'frozen' whe"),
        ({"fine_tune_stage": Stage(unfreeze="two", layer_decay=0.5)}, "fine_tune_stage__layer_dec"),
    ],
)
def test_a_setting_without_effect_is_an_error(clf, images, runs, params, message):
    with pytest.raises(ValueError, match=message):
        clf.set_params(**params).fit(*images)
    assert not runs


def test_a_linear_head_has_no_use_for_an_activation(clf, images):
    clf.set_params(head=Head((), activation="gelu"), fine_tune_stage=None, head_stage=Stage(1))
    with pytest.warns(
        UserWarning, match="head__activation='gelu' has no effect.*hidden_units"
    ) as w:
        clf.fit(*images)
    assert w[0].filename == __file__


def test_views_of_one_stage_may_be_those_of_another(clf, images):
    """A head on images as they are, then the network on fresh views, mixed."""
    views = Augmentation(brightness=0.1, mixup_alpha=0.2, n_views=1)
    clf.set_params(augmentation=views, fine_tune_stage=WHOLE, head_stage__epochs=1).fit(*images)
    assert len(clf.history_) == 2


def test_a_stage_is_held_to_the_head_by_one_measure(clf, images):
    """Smoothed, a loss would be another measure of the same probabilities."""
    X, y = images
    stage = fine_tuning(2, unfreeze=1, label_smoothing=0.9).set_params(learning_rate=0.1)
    clf.set_params(head_stage=Stage(30, learning_rate=0.2, batch_size=8), fine_tune_stage=stage)
    with pytest.warns(UserWarning, match="stage 'fine_tune' is undone"):
        clf.fit(X[:15], y[:15], validation_data=[X[15:], y[15:]])
    lowest = min(row["val_loss"] for row in clf.history_)
    targets = np.searchsorted(clf.classes_, y[15:])
    said = clf.predict_proba(X[15:])[np.arange(9), targets]
    assert -np.log(said).mean() == pytest.approx(lowest, rel=1e-2)
    assert clf.history_[-1]["val_loss"] > lowest


def fit_with_share(clf, images, share):
    """Return all weights after a stage that leaves a share of those before it."""
    clf = clone(clf).set_params(validation_fraction=0, fine_tune_stage__start_share=share)
    clf.fit(*images)
    return [*clf.backbone_.get_weights(), *clf.head_.get_weights()]


def test_a_stage_ends_between_the_weights_before_and_after_it(clf, images):
    before = fit_with_share(clf.set_params(fine_tune_stage__epochs=1), images, 1 - 1e-12)
    after, between = (fit_with_share(clf, images, share) for share in (0.0, 0.25))
    assert any(np.abs(x - z).max() > 1e-4 for x, z in zip(before, after, strict=True))
    for x, y, z in zip(before, between, after, strict=True):
        np.testing.assert_allclose(y, 0.25 * x + 0.75 * z, atol=1e-6)


def test_without_a_head_before_there_is_no_average(clf, images):
    share = {"fine_tune_stage__start_share": None, "fine_tune_stage__learning_rate": 1e-9}
    random = prepare_fit(clf.set_params(head_stage=None, **share), *images).network
    before = random.get_layer("two").get_weights()
    clf.set_params(fine_tune_stage__learning_rate=0.1, fine_tune_stage__epochs=1).fit(*images)
    whole = weights(clf, "two")
    clf.set_params(fine_tune_stage__start_share=0.0).fit(*images)
    np.testing.assert_array_equal(whole[0], weights(clf, "two")[0])
    assert np.abs(whole[0] - before[0]).max() > 1e-3
    with pytest.raises(ValueError, match="fine_tune_stage__start_share must be 0 or None where"):
        clf.set_params(fine_tune_stage__start_share=0.5).fit(*images)


def test_validation_decides_between_the_best_epoch_and_the_average(clf, images):
    X, y = images
    clf.set_params(fine_tune_stage__epochs=1, fine_tune_stage__start_share=0.9)
    clf.set_params(head_stage=Stage(1, learning_rate=1e-9), fine_tune_stage__learning_rate=0.03)
    clf.fit(X, y, validation_data=(X ^ 1, y))
    said = clf.predict_proba(X ^ 1)[np.arange(len(y)), np.searchsorted(clf.classes_, y)]
    assert -np.log(said).mean() <= clf.history_[-1]["val_loss"] + 1e-3
    assert clf.history_[-1]["val_loss"] < clf.history_[-2]["val_loss"]


def test_a_fit_lets_go_of_its_activations(clf, images, monkeypatch):
    """TensorFlow keeps every data set that was iterated over, and with it what it reads."""
    read = []
    original = Examples.__init__

    def noting(self, inputs, *arguments, **options):
        read.append(weakref.ref(inputs))
        original(self, inputs, *arguments, **options)

    monkeypatch.setattr(Examples, "__init__", noting)
    clf.set_params(head_stage=None).fit(*images)
    gc.collect()
    assert [inputs() for inputs in read] == [None, None]


@pytest.mark.graphs
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="counts TensorFlow's graphs")
def test_fits_leave_no_graphs_behind(make_clf, images):
    def count():
        make_clf(head_stage=Stage(1)).fit(*images)
        gc.collect()
        return sum(type(item).__name__ == "FuncGraph" for item in gc.get_objects())

    count()
    assert count() == count()


@pytest.mark.parametrize(
    "layers", [keras.layers.RandomBrightness(0.3), [keras.layers.RandomFlip("horizontal")]]
)
def test_keras_layers_change_training_images_alone(clf, images, layers):
    X, y = images
    clf.set_params(augmentation=layers, fine_tune_stage=WHOLE, head_stage=None)
    first, second = (clone(clf).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    plain = clone(clf).set_params(augmentation=None).fit(X, y)
    assert not np.array_equal(plain.predict_proba(X), first.predict_proba(X))
    assert first.history_[0]["loss"] != plain.history_[0]["loss"]
    assert len(first.model_.layers) == len(plain.model_.layers)


def test_layers_that_change_the_shape_are_refused(clf, images):
    clf.set_params(augmentation=keras.layers.RandomCrop(4, 4), fine_tune_stage=WHOLE)
    with pytest.raises(ValueError, match=r"images of shape \(8, 8, 3\); received layers that make"):
        clf.set_params(head_stage=None).fit(*images)


def test_the_articles_alexnet_takes_weights_of_ones_own():
    assert article_classifier("alexnet").weights is None
    assert article_classifier("alexnet", weights="mine.h5").weights == "mine.h5"
