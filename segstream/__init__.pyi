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
