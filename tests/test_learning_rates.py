import numpy as np
import pytest

from tlclassify.analysis.learning_rates import find_learning_rate
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


def test_bad_parameters(clf, images):
    with pytest.raises(ValueError, match="3 parameters are not valid"):
        find_learning_rate(clf, *images, low=0, high=0, n_steps=3)
