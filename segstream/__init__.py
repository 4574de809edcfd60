"""Train and evaluate semantic-segmentation models on composites of many datasets.

What the `segstream` command can do, a notebook can do by the names below; docs/python.md shows them at work. They are
loaded when they are first asked for: `import segstream` loads neither torch nor OpenCV.
"""

from importlib import import_module
from typing import Any

_NAMES = {  # by module, what it gives; `__init__.pyi` says the same to type checkers
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
