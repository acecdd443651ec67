"""Train the backbone that the package carries, from public image files.

    python tools/pretrain_micro.py --cifar100 DIR --tiny-imagenet DIR --work DIR

The student learns the classes of CIFAR-100 and Tiny ImageNet and, at the same time, to
reproduce the embeddings of an ImageNet MobileNet (``keras.applications.MobileNet``, width 1.0):
their 256 leading principal components, which hold 76% of the variance. CIFAR-10 is not among its
training images. The first 40% of the steps see images of 24 pixels, which cost half as much;
half of the later ones see images enlarged or reduced by up to a quarter. Every step keeps its
result under ``--work``, so a run that is stopped goes on where it was; ``--start`` begins from
the weights of an earlier run.

Training runs in PyTorch: on a CPU without a GPU it was 2.8 times as fast as Keras on
TensorFlow for this network. The finished weights go into the Keras network that the package
builds, and both must give the same output before the file is written. Beside the package this
needs ``torch``.
"""

import argparse
import json
import math
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

STORED, NATIVE, TEACHER_SIZE = 40, 32, 96
SMALL_STORED, SMALL_NATIVE, SMALL_SHARE = 30, 24, 0.4
N_CIFAR_CLASSES, N_TINY_CLASSES = 100, 200
CROPPED = (26, 28, 30, 34, 37, 40)  # sizes that a step may bring to the native one
N_COMPONENTS = 256
BATCH_SIZE, PEAK_RATE, WEIGHT_DECAY, EMBEDDING_WEIGHT = 128, 2e-3, 0.05, 5.0
STEPS_LOGGED = 200


def main() -> None:
    """Run every step that has not been run yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cifar100", type=Path, required=True, help="folder with train/CLASS/")
    parser.add_argument("--tiny-imagenet", type=Path, required=True, help="folder with train/ID/")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="weights of an earlier run, as packed")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    prepare(options.cifar100, options.tiny_imagenet, options.work)
    teach(options.work)
    train(options.work, options.epochs, options.threads, options.start)
    pack(options.work)


def prepare(cifar100: Path, tiny_imagenet: Path, work: Path) -> None:
    """Decode all training images once: originals for the teacher, 40 pixels for the student."""
    if (work / "labels.npy").exists():
        return
    sources = [(cifar100 / "train", N_CIFAR_CLASSES), (tiny_imagenet / "train", N_TINY_CLASSES)]
    labels, views, offset = [], [], 0
    for name, (folder, n_classes) in zip(("cifar", "tiny"), sources, strict=True):
        classes = sorted(path.name for path in folder.iterdir())
        if len(classes) != n_classes:
            raise ValueError(f"{folder} has {len(classes)} class folders, not {n_classes}.")
        files = [
            (c, path) for c, k in enumerate(classes) for path in sorted((folder / k).rglob("*.*"))
        ]
        files = [row for row in files if row[1].suffix.lower() in {".png", ".jpeg"}]
        with ProcessPoolExecutor(2) as pool:
            images = np.stack(list(pool.map(_decode, [path for _, path in files], chunksize=500)))
        np.save(work / f"{name}.npy", images)
        views.append(_student_view(images))
        labels.append(np.array([c for c, _ in files]) + offset)
        offset += n_classes
        print(f"{name}: {images.shape}", flush=True)
    student = np.concatenate(views)
    np.save(work / "student.npy", student)
    np.save(work / "student_small.npy", _resize(student, SMALL_STORED))
    np.save(work / "labels.npy", np.concatenate(labels))


def _decode(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _student_view(images: np.ndarray) -> np.ndarray:
    if images.shape[1] == NATIVE:
        margin = (STORED - NATIVE) // 2
        return np.pad(images, [(0, 0), (margin, margin), (margin, margin), (0, 0)], mode="reflect")
    return _resize(images, STORED)


def _resize(images: np.ndarray, size: int) -> np.ndarray:
    shape = (size, size)
    return np.stack([np.asarray(Image.fromarray(i).resize(shape, Image.LANCZOS)) for i in images])


def teach(work: Path) -> None:
    """Run the ImageNet MobileNet over every image once and keep what its embeddings say."""
    if (work / "components.npy").exists():
        return
    import keras

    inputs = keras.Input((None, None, 3), dtype="uint8")
    x = keras.layers.Resizing(TEACHER_SIZE, TEACHER_SIZE)(inputs)
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(x)
    teacher = keras.applications.MobileNet(
        weights="imagenet", include_top=False, pooling="avg", input_shape=(TEACHER_SIZE,) * 2 + (3,)
    )
    model = keras.Model(inputs, teacher(x))
    parts = [
        model.predict(np.load(work / f"{name}.npy"), batch_size=128, verbose=2)
        for name in ("cifar", "tiny")
    ]
    np.save(work / "components.npy", principal_components(np.concatenate(parts)))


def principal_components(embeddings: np.ndarray) -> np.ndarray:
    """Return the leading components of standardised embeddings, halfway to equal variances."""
    embeddings -= embeddings.mean(axis=0)
    embeddings /= embeddings.std(axis=0) + 1e-3
    variances, directions = np.linalg.eigh(embeddings.T @ embeddings / len(embeddings))
    variances, directions = variances[-N_COMPONENTS:], directions[:, -N_COMPONENTS:]
    components = embeddings @ (directions / variances**0.25)
    return (components / components.std()).astype(np.float16)


def build_student():  # noqa: ANN201 - torch is imported only where it is used
    """Return the network of `build_mobilenet_micro`, in PyTorch."""
    from torch import nn

    def unit(n_in: int, n_out: int, kernel: int, stride: int = 1, groups: int = 1) -> list:
        # Keras pads "same" on the right and bottom only when the stride is 2.
        edges = kernel // 2
        pad = nn.ZeroPad2d((0, 1, 0, 1)) if stride == 2 else nn.Identity()
        inner = 0 if stride == 2 else edges
        convolution = nn.Conv2d(n_in, n_out, kernel, stride, inner, groups=groups, bias=False)
        return [pad, convolution, nn.BatchNorm2d(n_out, eps=1e-3, momentum=0.02), nn.ReLU(True)]

    layers, width = unit(3, 16, 3), 16
    blocks = [(32, 2), (64, 1), (64, 1), (128, 2), (128, 1), (256, 2)] + [(256, 1)] * 5
    for n_out, stride in [*blocks, (512, 1), (512, 1)]:
        layers += unit(width, width, 3, stride, width) + unit(width, n_out, 1)
        width = n_out
    return nn.Sequential(*layers)


def train(work: Path, epochs: int, threads: int, start: Path | None) -> None:
    """Train classes and embeddings together; a checkpoint after every epoch."""
    if (work / "student.pt").exists():
        return
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    large, small = np.load(work / "student.npy"), np.load(work / "student_small.npy")
    labels = torch.from_numpy(np.load(work / "labels.npy"))
    components = np.load(work / "components.npy")
    student = build_student()
    if start is not None:
        _load_packed(student, start)
    student = student.to(memory_format=torch.channels_last)
    heads = nn.ModuleList([nn.Linear(512, int(labels.max()) + 1), nn.Linear(512, N_COMPONENTS)])
    weights = [*student.parameters(), *heads.parameters()]
    groups = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in weights if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=PEAK_RATE, fused=True)
    first, seconds, checkpoint = 0, 0.0, work / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        student.load_state_dict(state["student"])
        heads.load_state_dict(state["heads"])
        optimizer.load_state_dict(state["optimizer"])
        first, seconds = state["epoch"], state["seconds"]
    n_steps = len(large) // BATCH_SIZE
    for epoch in range(first, epochs):
        rng = np.random.default_rng(epoch)
        order = rng.permutation(len(large))
        began, totals = time.perf_counter(), np.zeros(3)
        for step in range(n_steps):
            done = (epoch * n_steps + step) / (epochs * n_steps)
            rate = PEAK_RATE * _schedule(done)
            for group in optimizer.param_groups:
                group["lr"] = rate
            rows = np.sort(order[step * BATCH_SIZE : (step + 1) * BATCH_SIZE])
            images, size = (small, SMALL_NATIVE) if done < SMALL_SHARE else (large, NATIVE)
            cropped = rng.choice(CROPPED) if size == NATIVE and rng.random() < 0.5 else size
            x = torch.from_numpy(_augment(images[rows], cropped, rng)).permute(0, 3, 1, 2)
            x = x.float() / 127.5 - 1
            if cropped != size:
                x = nn.functional.interpolate(x, (size, size), mode="bilinear", antialias=True)
            pooled = student(x).mean((2, 3))
            class_loss = nn.functional.cross_entropy(heads[0](pooled), labels[rows])
            target = torch.from_numpy(components[rows].astype(np.float32))
            embedding_loss = nn.functional.mse_loss(heads[1](pooled), target)
            optimizer.zero_grad()
            (class_loss + EMBEDDING_WEIGHT * embedding_loss).backward()
            optimizer.step()
            correct = (heads[0](pooled).argmax(1) == labels[rows]).float().mean()
            totals += [class_loss.item(), embedding_loss.item(), correct.item()]
            if (step + 1) % STEPS_LOGGED == 0:
                speed = (step + 1) * BATCH_SIZE / (time.perf_counter() - began)
                print(
                    epoch, step + 1, np.round(totals / (step + 1), 4), f"{speed:.0f}/s", flush=True
                )
        seconds += time.perf_counter() - began
        state = {"student": student.state_dict(), "heads": heads.state_dict(), "epoch": epoch + 1}
        state |= {"optimizer": optimizer.state_dict(), "seconds": seconds}
        torch.save(state, checkpoint.with_suffix(".tmp"))
        checkpoint.with_suffix(".tmp").replace(checkpoint)
    torch.save(student.state_dict(), work / "student.pt")
    record = {"epochs": epochs, "seconds": round(seconds), "n_images": len(large)}
    (work / "training.json").write_text(json.dumps(record))


def _load_packed(student, path: Path) -> None:  # noqa: ANN001 - a torch module
    import torch

    with np.load(path) as packed:
        for tensor, name in zip(_tensors_as_in_keras(student), packed, strict=True):
            tensor.copy_(torch.from_numpy(packed[name].astype(np.float32)))


def _tensors_as_in_keras(student) -> list:  # noqa: ANN001 - a torch module
    """Return views of all weights, in the order and the layout of the Keras network's."""
    import torch

    tensors = []
    for module in student:
        if isinstance(module, torch.nn.Conv2d):
            order = (2, 3, 0, 1) if module.groups > 1 else (2, 3, 1, 0)
            tensors.append(module.weight.detach().permute(order))
        elif isinstance(module, torch.nn.BatchNorm2d):
            tensors += [module.weight.detach(), module.bias.detach()]
            tensors += [module.running_mean, module.running_var]
    return tensors


def _schedule(done: float, warm_up: float = 0.02) -> float:
    if done < warm_up:
        return (done + 1e-4) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up)))


def _augment(images: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    n = len(images)
    top, left = rng.integers(0, images.shape[1] - size + 1, (2, n))
    rows = top[:, None] + np.arange(size)
    columns = left[:, None] + np.arange(size)
    flipped = rng.random(n) < 0.5
    columns[flipped] = columns[flipped, ::-1]
    return images[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def pack(work: Path) -> None:
    """Move the weights into the Keras network, check that both agree, and write float16."""
    import keras
    import torch

    from tlclassify.networks.sources import build_mobilenet_micro

    student = build_student()
    student.load_state_dict(torch.load(work / "student.pt", weights_only=True))
    student.eval()
    inputs = keras.Input((NATIVE, NATIVE, 3))
    model = keras.Model(inputs, build_mobilenet_micro(inputs))
    arrays = [tensor.numpy().astype(np.float16) for tensor in _tensors_as_in_keras(student)]
    model.set_weights([array.astype(np.float32) for array in arrays])
    images = np.load(work / "student.npy", mmap_mode="r")[::5000, :NATIVE, :NATIVE] / 127.5 - 1
    ours = model.predict(images.astype(np.float32), verbose=0).mean((1, 2))
    with torch.inference_mode():
        theirs = student(torch.from_numpy(images).permute(0, 3, 1, 2).float()).mean((2, 3)).numpy()
    error = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    print(f"largest relative difference between Keras (float16 weights) and PyTorch: {error:.1e}")
    if error > 0.01:
        raise ValueError("The Keras network and the PyTorch network disagree.")
    path = work / "mobilenet_micro.npz"
    np.savez(path, **{f"w{number:03d}": array for number, array in enumerate(arrays)})
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
