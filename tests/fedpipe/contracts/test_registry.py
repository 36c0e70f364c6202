"""A file of a folder of choices keeps the folder's contract, or is refused with the name and the remedy."""

import ast
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedpipe.config.folder import Folder
from fedpipe.contracts.aggregator import AGGREGATORS, Aggregator
from fedpipe.contracts.algorithm import ALGORITHMS, Algorithm
from fedpipe.contracts.attack import ATTACKS, Attack
from fedpipe.contracts.choice import Choice, ContractError
from fedpipe.contracts.cohort import COHORTS, ClientSampler
from fedpipe.contracts.compressor import COMPRESSORS, Compressor
from fedpipe.contracts.model import METRICS, MODELS, Metric, Model
from fedpipe.contracts.partition import Partitioner
from fedpipe.contracts.registry import Registry
from fedpipe.errors import PipelineError
from operations.contracts import registries

ALGORITHM = "def client_update(task, server, client): ...\ndef server_update(task, server, total): ...\n"
AGGREGATOR = "def encode(t, s, u, w, c): ...\ndef finish(t, s, total, weight, number): ...\n"
MODEL = "def shapes(spec): ...\ndef forward(spec, w, images, dropout): ...\n"
PARAMS = "from fedpipe.config.section import Section\nclass Params(Section):\n    clusters: int = 2\n"
_numbers = itertools.count()

Loaded = Callable[[type[Choice], str], Any]


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """Loads the file ``mine.py`` of the given code from a folder with a contract."""

    def load(contract: type[Choice], code: str) -> Any:
        package = f"folder_{next(_numbers)}"
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        (tmp_path / package / "mine.py").write_text(code, encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        return Registry(Folder(package), contract).of("mine")

    return load


def test_every_file_of_every_folder_keeps_its_contract() -> None:
    assert sum(len(list(registry.all())) for registry in registries()) > 60


@pytest.mark.parametrize(
    ("contract", "code", "message"),
    [
        (Algorithm, ALGORITHM + "NEED_WEIGHTS = True", r"'NEED_WEIGHTS', which .* \(did you mean NEEDS_WEIGHTS\?\)"),
        (Algorithm, ALGORITHM + "needs_weights: bool = True", r"did you mean NEEDS_WEIGHTS\?"),
        (Algorithm, ALGORITHM + "def checks(settings): ...", r"'checks', which .* \(did you mean check\?\)"),
        (Algorithm, ALGORITHM + "class Parms: ...", r"did you mean Params\?"),
        (Algorithm, ALGORITHM + "from math import tau as tau", "defines 'tau', which is no name that this folder"),
        (Algorithm, ALGORITHM + "a, b = 1, 2", "defines 'a'"),
        (Algorithm, ALGORITHM + "if True:\n    def personel(): ...", r"did you mean personal\?"),
        (
            Algorithm,
            ALGORITHM + "from fedpipe.learning.personal_layers import personal",
            "imports 'personal', a name of",
        ),
        (Aggregator, AGGREGATOR + "COLLECT = True", r"did you mean COLLECTS\?"),
        (Metric, "def per_exampel(labels, logits): ...", r"did you mean per_example\?"),
    ],
)
def test_an_unknown_public_name_is_refused_with_the_nearest(
    loaded: Loaded, contract: type[Choice], code: str, message: str
) -> None:
    with pytest.raises(PipelineError, match=rf"folder_\d+/mine.py .*{message}"):
        loaded(contract, code)


@pytest.mark.parametrize(
    ("contract", "code", "message"),
    [
        (
            Aggregator,
            "def encode(t, s, u, w, c): ...",
            "does not define 'finish', which every file",
        ),
        (
            Algorithm,
            "def client_update(t, s, c): ...",
            "does not define 'client_update' and 'server_update'",
        ),
        (Compressor, "", "does not define 'compress'"),
        (Model, "def shapes(spec): ...", "does not define 'shapes' and 'forward', or 'keras_model'"),
        (ClientSampler, "", "must define one of 'draw' and 'draw_by_losses'"),
    ],
)
def test_a_missing_name_is_said(loaded: Loaded, contract: type[Choice], code: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        loaded(contract, code)


@pytest.mark.parametrize(
    ("contract", "code", "message"),
    [
        (Algorithm, ALGORITHM + "check = True", r"defines 'check' as True; it must be a function of \(settings\)"),
        (Algorithm, ALGORITHM + "class check: ...", "'check' as .* must be a function"),
        (Algorithm, ALGORITHM + "NEEDS_WEIGHTS = 1", "'NEEDS_WEIGHTS' as 1; it must be a constant of type bool"),
        (Algorithm, ALGORITHM + "def NEEDS_WEIGHTS(): ...", "it must be a constant of type bool"),
        (Algorithm, ALGORITHM + "Params = 3", "'Params' as 3; it must be a class that inherits from Section"),
        (Algorithm, ALGORITHM + "server_init = None", "'server_init' as None; it must be a function"),
        (
            Algorithm,
            ALGORITHM + "def client_init(task, zeros): ...",
            r"'client_init\(task, zeros\)'",
        ),
        (
            Aggregator,
            AGGREGATOR + "def merge(a): ...",
            r"'merge\(a\)'; it is called with 2 arguments",
        ),
        (Aggregator, AGGREGATOR + "def merge(a, *, b): ...", "'merge.* is called with 2 arguments by position"),
        (Model, MODEL + "SMALLEST_SIDE = '4'", "must be a constant of type int"),
        (Partitioner, "def assign(labels, sizes, params): ...", "called with 4 arguments"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(loaded: Loaded, contract: type[Choice], code: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        loaded(contract, code)


@pytest.mark.parametrize(
    ("contract", "code", "message"),
    [
        (Attack, "def check(settings): ...", "neither 'samples' nor 'vector'"),
        (Algorithm, ALGORITHM + "def under_way(task, server, update): ...", "'under_way' without 'asynchrony'"),
        (Algorithm, ALGORITHM + "def arrival(t, s, u, staleness): ...", "'arrival' without 'asynchrony'"),
        (Algorithm, ALGORITHM + "def asynchrony(params): ...\ndef passes(task): ...", "'asynchrony' and 'passes'"),
        (Algorithm, ALGORITHM + PARAMS + "def cluster(t, s, c): ...", "'cluster', which needs 'personal'"),
        (
            Algorithm,
            ALGORITHM + "def cluster(t, s, c): ...\npersonal = cluster",
            "and a param 'clusters'",
        ),
        (
            Algorithm,
            ALGORITHM + "ONE_MESSAGE = NEEDS_WEIGHTS = True",
            "'ONE_MESSAGE' and 'NEEDS_WEIGHTS'",
        ),
        (Algorithm, ALGORITHM + "ONE_MESSAGE = True\ndef passes(task): ...", "'ONE_MESSAGE' and 'passes'"),
        (Aggregator, AGGREGATOR + "COLLECTS = True\ndef merge(a, b): ...", "'COLLECTS' and 'merge'"),
        (Aggregator, AGGREGATOR + "COUNTS_DROPOUTS = True", "'COUNTS_DROPOUTS' without 'mechanism'"),
        (Compressor, "compress = None\ndef client_init(task, zeros): ...", "'client_init' without 'compress'"),
        (ClientSampler, "def draw(s, a, z, n): ...\ndef draw_by_losses(s, a, z, n, l): ...", "must define one of"),
        (ClientSampler, "def draw_by_losses(s, a, z, n, l): ...\ndef sampling(s, c): ...", "no accountant knows draws"),
        (Model, MODEL + "def keras_model(spec): ...", "which take each other's place"),
        (Model, MODEL + "def architecture(spec): ...", "'architecture' without 'keras_model'"),
        (Metric, PARAMS + "def per_example(labels, logits): ...", "a metric has no section in params.yaml"),
        (
            Partitioner,
            "def assign(l, s, p, r): ...\nFOR_GIVEN_SIZES = 'x'",
            "'FOR_GIVEN_SIZES'",
        ),
    ],
)
def test_names_that_contradict_each_other_are_refused(
    loaded: Loaded, contract: type[Choice], code: str, message: str
) -> None:
    with pytest.raises(PipelineError, match=message):
        loaded(contract, code)


def test_a_file_s_own_names_and_imports_are_free(loaded: Loaded) -> None:
    code = "import math\nfrom math import tau\n_RATE: float\n_HALF = tau / 2\ndef _helper(): ...\nclass _Own: ...\n"
    algorithm = loaded(Algorithm, code + ALGORITHM + "if _HALF:\n    NEEDS_WEIGHTS = True\n")
    assert algorithm.NEEDS_WEIGHTS and not algorithm.ONE_MESSAGE


def test_an_import_that_says_so_defines_a_name(loaded: Loaded) -> None:
    algorithm = loaded(Algorithm, ALGORITHM + "from fedpipe.learning.personal_layers import personal as personal")
    assert algorithm.personal.__module__ == "fedpipe.learning.personal_layers"


def test_functions_may_take_more_than_they_get(loaded: Loaded) -> None:
    """Parameters with defaults, and any number of them."""
    assert loaded(Aggregator, AGGREGATOR + "def merge(a, b, c=0): ...").merge
    assert loaded(Aggregator, AGGREGATOR + "def merge(*parts): ...").merge


def test_the_contracts_hold_for_choices_that_are_made_in_code() -> None:
    with pytest.raises(ContractError, match="neither 'samples' nor 'vector'"):
        Attack()


def test_what_files_say_is_what_the_choice_says() -> None:
    fed_per, ifca, mime = (ALGORITHMS.of(name) for name in ("fed_per", "ifca", "mime"))
    assert fed_per.ONE_MESSAGE and fed_per.personal and fed_per.keeps_files and not fed_per.cluster
    assert ifca.cluster and not ifca.keeps_files and "clusters" in ifca.Params.model_fields
    assert mime.passes and not mime.is_asynchronous and ALGORITHMS.of("fed_buff").is_asynchronous
    assert AGGREGATORS.of("median").COLLECTS and AGGREGATORS.of("dp_ftrl").is_private
    assert COHORTS.of("power_of_choice").needs_losses and not COHORTS.of("uniform").needs_losses
    assert COMPRESSORS.of("top_k").keeps_files and COMPRESSORS.of("no_compression").compress is None
    assert MODELS.of("niid_cnn").SMALLEST_SIDE == 16 and METRICS.of("accuracy").per_example
    assert ATTACKS.of("backdoor").measure and not ATTACKS.of("no_attack").measure


def test_each_parameter_of_a_contract_has_its_type() -> None:
    """`function` names the parameters beside ``Callable[[...], ...]``, which has their types."""
    compared = 0
    for registry in registries():
        for name, declared in registry.contract.names().items():
            match ast.parse(str(declared.type).removesuffix(" | None"), mode="eval").body:
                case ast.Subscript(value=ast.Name("Callable"), slice=ast.Tuple(elts=[ast.List(elts=types), _])):
                    assert len(types) == len(declared.metadata["parameters"]), f"{registry.folder}: {name}"
                    compared += 1
    assert compared > 50
