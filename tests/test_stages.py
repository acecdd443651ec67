import pytest
from sklearn.base import clone

from tlclassify.stages import Stage, check_stage


def test_clone_keeps_every_parameter():
    stage = Stage(3, learning_rate=0.1, batch_size=5, optimizer="sgd", weight_decay=0.2, patience=1)
    assert clone(stage).get_params() == stage.get_params()


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (Stage(0), "head_stage__epochs must be an integer"),
        (Stage(learning_rate=0), r"head_stage__learning_rate must be a number in \(0, inf\]"),
        (Stage(batch_size=2.5), "head_stage__batch_size must be an integer"),
        (Stage(optimizer="adm"), "head_stage__optimizer must be one of.*mean 'adam'"),
        (Stage(patience=0, weight_decay=-1), "2 parameters are not valid"),
    ],
)
def test_bad_parameters(stage, message):
    with pytest.raises(ValueError, match=message):
        check_stage(stage, name="head_stage")


def test_something_else_is_no_stage():
    with pytest.raises(TypeError, match="head_stage must be a Stage; received str"):
        check_stage("fast", name="head_stage")
