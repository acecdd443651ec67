import keras
import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from tlclassify.analysis.learning_rates import find_learning_rate
from tlclassify.networks.heads import Head
from tlclassify.training.stages import Stage


@pytest.fixture
def clf(make_clf):
    return make_clf(
        head_stage=Stage(2, batch_size=8), fine_tune_stage=Stage(unfreeze=1, batch_size=8)
    )


def test_the_rates_grow_until_the_loss_does(clf, images):
    before = str(clf.get_params())
    search = find_learning_rate(clf, *images, stage="head", low=1e-4, high=1e4, n_steps=40)
    assert search.learning_rates[0] == pytest.approx(1e-4)
    factors = search.learning_rates[1:] / search.learning_rates[:-1]
    np.testing.assert_allclose(factors, 1e8 ** (1 / 39))
    assert len(search.losses) == len(search.learning_rates)
    highest = 10 * search.suggestion
    low_enough = search.losses <= np.median(search.losses)
    assert low_enough[np.isclose(search.learning_rates, highest)].all()
    assert not low_enough[search.learning_rates > 1.01 * highest].any()
    assert 1e-3 < highest < 1e4
    assert str(clf.get_params()) == before
    assert not hasattr(clf, "model_")


def test_the_last_stage_is_searched_unless_another_is_named(clf, images):
    search = find_learning_rate(clf, *images, n_steps=10)
    assert len(search.losses) == 10
    clf.set_params(fine_tune_stage=None)
    with pytest.raises(ValueError, match="stage must be one of 'head'; received 'fine_tune'"):
        find_learning_rate(clf, *images, stage="fine_tune")


def test_a_loss_that_is_never_finite_is_an_error(clf, images):
    def head(feature_map, n_classes):
        x = keras.layers.GlobalAveragePooling2D()(feature_map)
        x = keras.layers.Dense(n_classes, activation="softmax")(x)
        return keras.layers.Rescaling(np.nan)(x)

    with pytest.raises(FloatingPointError, match="loss of stage 'head' is not finite at the first"):
        find_learning_rate(clf.set_params(head=head), *images, stage="head")


def test_the_search_ends_where_the_loss_is_no_number(clf, images):
    search = find_learning_rate(clf, *images, low=1, high=1e38, n_steps=20)
    assert 1 <= len(search.losses) < 20
    assert np.isfinite(search.losses).all()


def test_the_losses_are_those_of_single_batches(clf, images):
    """Where nothing is learnt, the losses of an epoch's batches come again in the next epochs."""
    clf.set_params(head=Head((), dropout=0), validation_fraction=0)
    search = find_learning_rate(clf, *images, stage="head", low=1e-30, high=1e-29, n_steps=12)
    sums = search.losses * np.cumsum(0.9 ** np.arange(12))  # undo the smoothing
    losses = sums - 0.9 * np.append(0, sums[:-1])
    epochs = losses.reshape(4, 3).sum(axis=1)
    np.testing.assert_allclose(epochs, epochs[0], rtol=1e-4)


def test_bad_parameters(clf, images):
    with pytest.raises(ValueError, match="3 parameters are not valid"):
        find_learning_rate(clf, *images, low=0, high=0, n_steps=3)


def test_what_is_no_classifier_of_ours_is_named(clf, images):
    with pytest.raises(TypeError, match="clf must be a TransferClassifier; received Pipeline"):
        find_learning_rate(make_pipeline(clf), *images)
