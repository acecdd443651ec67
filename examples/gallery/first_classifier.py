"""Ten labelled images of each class

A classifier from a hundred handwritten digits, judged by five hundred others. The report says how
sure its accuracy is, and the confusion matrix which digits it takes for which.
"""

from sklearn.model_selection import train_test_split

from tlclassify import TransferClassifier, evaluate
from tlclassify.datasets import load_digits_rgb
from tlclassify.displays import ConfusionDisplay

digits = load_digits_rgb()
X, X_test, y, y_test = train_test_split(
    digits.X, digits.y, train_size=100, test_size=500, stratify=digits.y, random_state=0
)
clf = TransferClassifier("mobilenet_micro", random_state=0).fit(X, y)
report = evaluate(clf, X_test, y_test)
print(report)
ConfusionDisplay.from_report(report).plot()
