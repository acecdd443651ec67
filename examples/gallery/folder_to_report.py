"""From a folder of photographs to a report

A folder with one sub-folder per class is all that a fit needs. This one is drawn on the spot; put
the path of your own in its place.
"""

from pathlib import Path

from PIL import Image
from sklearn.model_selection import train_test_split

from tlclassify import TransferClassifier, evaluate, predict_table
from tlclassify.datasets import load_image_folder, make_shapes
from tlclassify.displays import ImageGridDisplay

folder = Path("photos")
for number, (pixels, name) in enumerate(zip(*make_shapes(240, n_classes=6, random_state=0))):
    (folder / name).mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / name / f"{number}.png")

# %%
# The images stay files; each is read when the network wants it.

photos = load_image_folder(folder)
ImageGridDisplay.from_images(photos.X, photos.y, select="random", n_rows=2, random_state=0).plot()

# %%
# Half of them teach, the others judge.

X, X_test, y, y_test = train_test_split(
    photos.X, photos.y, test_size=0.5, stratify=photos.y, random_state=0
)
clf = TransferClassifier("mobilenet_micro", random_state=0).fit(X, y)
report = evaluate(clf, X_test, y_test)
print(report)
print(predict_table(clf, X_test[:4]))

# %%
# One page for people, with all numbers and pictures.

report.to_html("report.html")
