"""What MLflow runs to have the model: it stores this file and stages/ with the weights, and no pickle."""

from mlflow.models import set_model

from stages.serving.faces import LandmarkModel

set_model(LandmarkModel())
