"""What a workflow sets to nothing is as if it were not set."""

import os
import subprocess
import sys

from operations.credentials import settle
from tests import ROOT


def test_empty_variables_are_removed_and_a_region_has_both_names() -> None:
    inputs = {
        "AWS_DEFAULT_REGION": "",
        "AWS_REGION": "eu-central-1",
        "AWS_SESSION_TOKEN": " ",
        "AWS_ACCESS_KEY_ID": "a",
    }
    inputs |= {"MLFLOW_TRACKING_URI": "", "MLFLOW_TRACKING_TOKEN": "t", "FEDPIPE_INCOMING": ""}
    settle(inputs)
    kept = {
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "a",
        "MLFLOW_TRACKING_TOKEN": "t",
        "FEDPIPE_INCOMING": "",
    }
    assert inputs == kept | {"AWS_DEFAULT_REGION": "eu-central-1"}
    settle(inputs | {"AWS_DEFAULT_REGION": "us-east-1"})
    other = {"AWS_REGION": "a", "AWS_DEFAULT_REGION": "b"}
    settle(other)
    assert other == {"AWS_REGION": "a", "AWS_DEFAULT_REGION": "b"}


def test_s3_is_asked_where_a_workflow_has_no_region() -> None:
    """With an empty region, boto3 would ask ``s3..amazonaws.com``."""
    code = "import operations, boto3; print(boto3.session.Session().client('s3').meta.endpoint_url)"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    empty = {"AWS_DEFAULT_REGION": "", "AWS_ENDPOINT_URL": "", "AWS_SESSION_TOKEN": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=kept | empty, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "https://s3.amazonaws.com"
