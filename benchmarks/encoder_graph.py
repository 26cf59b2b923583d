"""One encoder graph with a fold axis against a graph for each fold, run in turn: time and size, FP32, the CPU.

Both must agree before they are timed. Run it as `python -m noduleserve.benchmarks.encoder_graph`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .measure import Ratio, compare, table

State = dict[str, NDArray[np.float32]]
FOLDS, WIDTH, LAYERS, PATCH, EMBED, OUT = 5, 768, 12, 32, 512, 256
_BLOCK = "vision_model.transformer.resblocks"


def bench_encoder_graph(turns: int = 5, width: int = WIDTH, layers: int = LAYERS) -> tuple[Ratio, dict[str, int]]:
    """Measure one nodule.

    Args:
        turns: how often each way is timed.
        width, layers: of the image tower; by default ViT-B/32.

    Returns:
        The ratio, and the bytes of the graphs of each way.
    """
    from noduleserve.export.checkpoint.layout import Dimensions, Tower
    from noduleserve.export.encoder.encoder_graph import build_encoder
    from noduleserve.export.encoder.save import save_model
    from noduleserve.export.proof.outputs import onnx_encoder

    dimensions = Dimensions(Tower(width, layers), Tower(64, 1), PATCH, 1, EMBED, OUT)
    folds = list(random_folds(width, layers))
    with tempfile.TemporaryDirectory() as name:
        together = save_model(build_encoder(folds, dimensions), Path(name) / "folds.onnx")
        apart = [
            save_model(build_encoder([fold], dimensions), Path(name) / f"fold{number}.onnx")[0]
            for number, fold in enumerate(folds)
        ]
        sizes = {"fold axis": together[0].stat().st_size, "fold by fold": sum(p.stat().st_size for p in apart)}
        del folds
        one, each = onnx_encoder(together[0]), [onnx_encoder(path) for path in apart]
    views = np.random.default_rng(1).random((1, 9, 50, 50), np.float32)
    _require_equal(one(views).embedding, np.concatenate([encode(views).embedding for encode in each], axis=1))
    ratio = compare(
        f"one nodule, {FOLDS} folds, image tower {width} x {layers}",
        ("one graph with a fold axis", lambda: one(views)),
        ("a graph for each fold", lambda: [encode(views) for encode in each]),
        goal=0.95,
        turns=turns,
    )
    return ratio, sizes


def random_folds(width: int, layers: int) -> Iterator[State]:
    """Folds that share a base and differ in q, k and v and in the heads, as LoRA leaves them."""
    base = dict(_drawn(np.random.default_rng(0), _shared(width, layers)))
    for number in range(FOLDS):
        yield base | dict(_drawn(np.random.default_rng(number + 1), _own(width, layers)))


def _drawn(
    random: np.random.Generator, shapes: Callable[[], Iterator[tuple[str, tuple[int, ...]]]]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for key, shape in shapes():
        if ".ln_" in key:
            yield key, np.full(shape, float(key.endswith("weight")), np.float32)
        else:
            inputs = int(np.prod(shape[1:])) or 1
            yield key, random.standard_normal(shape, np.float32) / np.float32(inputs**0.5)


def _layer(name: str, rows: int, columns: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (rows, columns)
    yield f"{name}.bias", (rows,)


def _shared(width: int, layers: int) -> Callable[[], Iterator[tuple[str, tuple[int, ...]]]]:
    def shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
        yield "vision_model.conv1.weight", (width, 3, PATCH, PATCH)
        yield "vision_model.class_embedding", (width,)
        yield "vision_model.positional_embedding", ((224 // PATCH) ** 2 + 1, width)
        yield "vision_model.proj", (width, EMBED)
        norms = ["vision_model.ln_pre", "vision_model.ln_post"]
        norms += [f"{_BLOCK}.{n}.ln_{which}" for n in range(layers) for which in (1, 2)]
        for norm in norms:
            yield f"{norm}.weight", (width,)
            yield f"{norm}.bias", (width,)
        for n in range(layers):
            yield from _layer(f"{_BLOCK}.{n}.attn.proj", width, width)
            yield from _layer(f"{_BLOCK}.{n}.mlp.c_fc", 4 * width, width)
            yield from _layer(f"{_BLOCK}.{n}.mlp.c_proj", width, 4 * width)

    return shapes


def _own(width: int, layers: int) -> Callable[[], Iterator[tuple[str, tuple[int, ...]]]]:
    def shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
        for n in range(layers):
            for part in "qkv":
                yield from _layer(f"{_BLOCK}.{n}.attn.{part}_proj", width, width)
        yield from _layer("image_projection.projector.0", OUT, EMBED)
        yield from _layer("image_projection.attention.0", OUT // 2, OUT)
        yield from _layer("image_projection.attention.2", 1, OUT // 2)
        yield from _layer("classifier_image", 2, OUT)

    return shapes


def _require_equal(ours: NDArray, baseline: NDArray) -> None:
    largest = float(np.abs(ours - baseline).max())
    if not largest <= 1e-5:
        raise AssertionError(f"the two ways to the embedding differ by {largest:.3g}; no timing counts")


def main() -> None:
    """Print the ratio and the sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5, help="how often each way is timed")
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--layers", type=int, default=LAYERS)
    given = parser.parse_args()
    ratio, sizes = bench_encoder_graph(given.turns, given.width, given.layers)
    print(table([ratio]))
    print("; ".join(f"{name}: {size / 1e6:.0f} MB" for name, size in sizes.items()))


if __name__ == "__main__":
    main()
