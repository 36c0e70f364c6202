"""Variables for MLflow and S3 as a workflow sets them: to nothing where a team has not set the secret."""

from collections.abc import MutableMapping

_FAMILIES = ("AWS_", "MLFLOW_TRACKING_")
_REGION, _DEFAULT_REGION = "AWS_REGION", "AWS_DEFAULT_REGION"


def settle(environment: MutableMapping[str, str]) -> None:
    """Removes empty variables of MLflow's server and S3, and names the region as boto3 expects it.

    An empty region makes boto3 ask ``s3..amazonaws.com``, and boto3 does not read ``AWS_REGION``, which AWS's own
    tools and other SDKs set.

    Args:
      environment: A process's variables, which are changed.
    """
    for name in [name for name, value in environment.items() if name.startswith(_FAMILIES) and not value.strip()]:
        del environment[name]
    if region := environment.get(_REGION):
        environment.setdefault(_DEFAULT_REGION, region)
