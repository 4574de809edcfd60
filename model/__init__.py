"""Batches become a checkpoint, a checkpoint becomes scores. Knows neither files of data nor datasets by name."""

from model.build import PRESETS, build, load_net
from model.config import InferConfig, ModelConfig, TrainConfig
from model.evaluate import ClassScore, Score, evaluate
from model.infer import predict
from model.meter import LogRow
from model.metrics import harmonic_mean
from model.ranks import Ranks
from model.trainer import train
from model.types import Aux, Batch, BatchSource, TrainOutput
from model.weights import Loaded, load_weights

__all__ = [
    "PRESETS",
    "Aux",
    "Batch",
    "BatchSource",
    "ClassScore",
    "InferConfig",
    "Loaded",
    "LogRow",
    "ModelConfig",
    "Ranks",
    "Score",
    "TrainConfig",
    "TrainOutput",
    "build",
    "evaluate",
    "harmonic_mean",
    "load_net",
    "load_weights",
    "predict",
    "train",
]
