"""Train and evaluate semantic-segmentation models on composites of many datasets.

What the `segstream` command can do, a notebook can do by the names below; docs/python.md shows them at work. They are
loaded when they are first asked for: `import segstream` loads neither torch nor OpenCV.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segstream.evaluation import evaluate as evaluate
    from segstream.model.config import InferConfig as InferConfig
    from segstream.model.evaluation.metrics import EvalResult as EvalResult
    from segstream.model.inference.predictor import Predictor as Predictor
    from segstream.model.networks.build import build as build
    from segstream.model.networks.weights import load_weights as load_weights
    from segstream.pipeline.config import AugmentConfig as AugmentConfig
    from segstream.pipeline.config import DataConfig as DataConfig
    from segstream.pipeline.config import LoaderConfig as LoaderConfig
    from segstream.pipeline.loader import Batch as Batch
    from segstream.pipeline.loader import Batches as Batches
    from segstream.pipeline.loader import Loader as Loader
    from segstream.recipe import Recipe as Recipe
    from segstream.recipe import load_recipe as load_recipe
    from segstream.recipe import recipe_names as recipe_names
    from segstream.shards.convert.convert import Converted as Converted
    from segstream.shards.convert.convert import convert as convert
    from segstream.shards.errors import DataError as DataError
    from segstream.shards.errors import UsageError as UsageError
    from segstream.shards.format.reader import ShardSet as ShardSet
    from segstream.shards.format.reader import open_shards as open_shards
    from segstream.training import train as train

    __version__: str

_NAMES = {  # by module, what it gives; the imports above say the same to type checkers
    "evaluation": ["evaluate"],
    "model.config": ["InferConfig"],
    "model.evaluation.metrics": ["EvalResult"],
    "model.inference.predictor": ["Predictor"],
    "model.networks.build": ["build"],
    "model.networks.weights": ["load_weights"],
    "pipeline.config": ["AugmentConfig", "DataConfig", "LoaderConfig"],
    "pipeline.loader": ["Batch", "Batches", "Loader"],
    "recipe": ["Recipe", "load_recipe", "recipe_names"],
    "shards.convert.convert": ["Converted", "convert"],
    "shards.errors": ["DataError", "UsageError"],
    "shards.format.reader": ["ShardSet", "open_shards"],
    "training": ["train"],
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}
__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> Any:
    """The named part of the package, loaded now."""
    if name == "__version__":
        return import_module("importlib.metadata").version("segstream")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """What `import segstream` hands on."""
    return sorted(__all__)
