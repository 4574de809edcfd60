"""Batches become a checkpoint, a checkpoint becomes scores. Knows neither files of data nor datasets by name."""

from model.build import PRESETS, build, load_net
from model.config import MULTI_SCALE, InferConfig, ModelConfig, TrainConfig
from model.evaluate import ClassScore, Score, evaluate
from model.infer import images_at_once, logits, predict, predict_many, segment
from model.load import load_any
from model.meter import LogRow
from model.metrics import harmonic_mean
from model.ranks import Ranks
from model.trainer import train
from model.types import Aux, Batch, BatchSource, TrainOutput
from model.weights import Loaded, load_weights

__all__ = [
    "MULTI_SCALE",
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
    "images_at_once",
    "load_any",
    "load_net",
    "load_weights",
    "logits",
    "predict",
    "predict_many",
    "segment",
    "train",
]
