"""Batches become a checkpoint, a checkpoint becomes scores. Knows neither files of data nor datasets by name."""

from segstream.model.config import MULTI_SCALE, InferConfig, ModelConfig, TrainConfig
from segstream.model.distributed import Ranks
from segstream.model.evaluation.evaluate import ClassScore, Score, evaluate
from segstream.model.evaluation.metrics import harmonic_mean
from segstream.model.inference.infer import images_at_once, logits, predict, predict_many, segment
from segstream.model.networks.build import PRESETS, build, load_net
from segstream.model.networks.load import load_any
from segstream.model.networks.weights import Loaded, load_weights
from segstream.model.training.metrics_log import LogRow
from segstream.model.training.trainer import train
from segstream.model.types import Aux, Batch, BatchSource, TrainOutput

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
