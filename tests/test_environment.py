"""The lock, and the commands that install it and set the stage for everything else."""

import base64
import hashlib
import importlib.metadata
import importlib.util
import mmap
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import tomllib
import zipfile
from itertools import combinations
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
SWITCHES = {"MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "DVC_NO_ANALYTICS"}


def shell_environment(**changes: str) -> dict[str, str]:
    """A user's shell: without what the `make` that runs these tests, CI or this project has set."""
    ours = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "ARGS", "EXIT_CODE", "PYTHON", "CI"}
    ours |= SWITCHES | {"FEDPIPE_MNIST_SOURCE", "PYTEST_CURRENT_TEST"}
    return {key: value for key, value in os.environ.items() if key not in ours} | changes


def run(folder: Path, *command: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=shell_environment(**changes),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def script(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the commands need of a checkout, in a folder with a space in its name."""
    folder = tmp_path / "a checkout"
    for name in ["Makefile", "environment.sh", ".ci/run", "fedpipe/installed.py"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


# The lock


def locked(lock: str = "requirements.lock") -> dict[str, str]:
    """Each package of a lock and the rest of its entry: version and hashes."""
    lines = (ROOT / lock).read_text().replace("\\\n", " ").splitlines()
    entries = [line.split("==", 1) for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return dict(entries)


def locked_versions(lock: str = "requirements.lock") -> dict[str, str]:
    return {name.split("[")[0]: rest.split()[0] for name, rest in locked(lock).items()}


def overrides() -> list[tuple[str, str]]:
    """Each override and the first comment line of its block; overrides without one get an empty text."""
    pinned, reason, after_override = [], "", False
    for line in (ROOT / "overrides.txt").read_text().splitlines():
        if line.startswith("#"):
            reason, after_override = (line if after_override or not reason else reason), False
        elif line.strip():
            pinned.append((line, reason))
            after_override = True
        else:
            reason = ""
    return pinned


def test_every_package_is_pinned_with_a_hash() -> None:
    assert len(locked()) > 100
    for lock in ("requirements.lock", "cluster.lock", "flare.lock", "onnx.lock", "audit.lock"):
        for name, rest in locked(lock).items():
            assert re.fullmatch(r"\S+( +--hash=sha256:[0-9a-f]{64})+ *", rest), name


def test_the_lock_names_no_address_and_no_path() -> None:
    for lock in ("requirements.lock", "cluster.lock", "flare.lock", "onnx.lock", "audit.lock"):
        text = (ROOT / lock).read_text()
        assert "/" not in text
        assert not re.search(r"^ *-(?!-hash=)", text, re.MULTILINE)  # no option such as --index-url


@pytest.mark.parametrize(("extra", "module"), [("cluster", "distributed"), ("flare", "nvflare"), ("onnx", "tf2onnx")])
def test_the_lock_of_an_extra_changes_no_pin_and_is_complete(extra: str, module: str) -> None:
    ours, versions = locked_versions(f"{extra}.lock"), locked_versions()
    assert not set(ours) & set(versions)
    versions |= ours
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = project["optional-dependencies"][extra]
    if importlib.util.find_spec(module) is not None:
        for name in ours:
            requirements = requirements + (importlib.metadata.requires(name) or [])
    for requirement in map(Requirement, requirements):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            version = versions.get(canonicalize_name(requirement.name))
            assert version and requirement.specifier.contains(version), f"{requirement} but {version} is locked"


def test_pip_audit_has_the_versions_of_the_lock_except_for_packaging() -> None:
    """TensorFlow Privacy wants packaging 22, and pip-audit a newer one: hence an environment of its own."""
    ours, versions = locked_versions("audit.lock"), locked_versions()
    assert {name for name in ours.keys() & versions.keys() if ours[name] != versions[name]} == {"packaging"}
    group = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["audit"]
    assert all(Requirement(each).specifier.contains(ours[Requirement(each).name]) for each in group)


def test_the_locks_of_extras_agree() -> None:
    """One environment can have them all."""
    for first, other in combinations([locked_versions(f"{extra}.lock") for extra in ("cluster", "flare", "onnx")], 2):
        assert not [name for name in first.keys() & other.keys() if first[name] != other[name]]


def test_the_lock_satisfies_pyproject_and_overrides() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"], *(line for line, _ in overrides())]
    versions = locked_versions()
    for requirement in map(Requirement, wanted):
        version = versions.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not in requirements.lock; run `make lock`"
        assert requirement.specifier.contains(version), f"{requirement} but {version} is locked; run `make lock`"


def test_every_override_says_why() -> None:
    assert overrides()
    for line, reason in overrides():
        assert len(reason) > 20, f"{line!r} has no comment above it that says why"


def test_the_environment_holds_exactly_the_lock() -> None:
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip("the tests run in another environment")
    # Not sys.path: setuptools, once imported, puts the copies of other packages that it carries there.
    folder = [sysconfig.get_path("purelib")]
    distributions = importlib.metadata.distributions(path=folder)
    installed = {canonicalize_name(d.metadata["Name"]): d.version for d in distributions}
    del installed["pip"]  # the installer itself: it comes with Python
    wanted = locked_versions()
    for extra, package in (("cluster", "distributed"), ("flare", "nvflare"), ("onnx", "tf2onnx")):  # `make onnx-env`
        if (ROOT / ".venv" / extra).exists() or package in installed:
            wanted |= locked_versions(f"{extra}.lock")
    assert installed == wanted


# make env


@pytest.fixture
def offline(checkout: Path, tmp_path: Path) -> dict[str, str]:
    """A lock of one package, and the variables with which pip finds it without a network.

    The package is called setuptools because that one has a way of its own into .venv, and has another version
    than the one that Python brings.
    """
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel = wheels / "setuptools-999-py3-none-any.whl"
    files = {
        "setuptools_of_the_lock.py": "",
        "setuptools-999.dist-info/METADATA": "Metadata-Version: 2.1\nName: setuptools\nVersion: 999\n",
        "setuptools-999.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "setuptools-999.dist-info/RECORD"
    digests = {name: hashlib.sha256(text.encode()).digest() for name, text in files.items()}
    rows = [
        f"{name},sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()},{len(files[name])}"
        for name, digest in digests.items()
    ]
    files[record] = "\n".join([*rows, f"{record},,", ""])
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (checkout / "requirements.lock").write_text(f"setuptools==999 \\\n    --hash=sha256:{digest}\n")
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": wheels.as_uri(), "PIP_CONFIG_FILE": os.devnull}


def assert_ready(checkout: Path) -> None:
    packages = run(checkout, ".venv/bin/python", "-m", "pip", "list", "--format=freeze").stdout.split()
    assert sorted(line.split("==")[0] for line in packages) == ["pip", "setuptools"]
    assert "setuptools==999" in packages
    assert (checkout / ".venv/installed").is_file()


def test_another_python_is_refused(checkout: Path, tmp_path: Path, offline: dict[str, str]) -> None:
    python = script(tmp_path / "other/python", "echo 3.12.1 /opt/python3.12")
    result = run(checkout, "make", "env", PYTHON=str(python), **offline)
    assert result.returncode != 0
    assert (
        f"needs Python 3.11, the newest that TensorFlow Federated has a wheel for, but {python} is 3.12.1"
        in result.stderr
    )
    assert "PYTHON=/path/to/python3.11 make env" in result.stderr
    assert not (checkout / ".venv").exists()


def test_no_python_311_on_the_path_is_refused(checkout: Path, tmp_path: Path, offline: dict[str, str]) -> None:
    script(tmp_path / "bin/python3.11", "exit 127")  # a version manager's stand-in for what is not installed
    script(tmp_path / "bin/python3", "echo 3.13.0 /opt/python3.13")
    script(tmp_path / "bin/python", "echo 3.9.2 /opt/python3.9")
    result = run(checkout, "make", "env", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}", **offline)
    assert result.returncode != 0
    assert "but python3 is 3.13.0, python is 3.9.2; get one" in result.stderr
    assert not (checkout / ".venv").exists()


def test_env_installs_the_lock_once(checkout: Path, tmp_path: Path, offline: dict[str, str]) -> None:
    # The third name tried is the one that fits.
    script(tmp_path / "bin/python3.11", "exit 127")
    script(tmp_path / "bin/python3", "echo 3.13.0 /opt/python3.13")
    (tmp_path / "bin/python").symlink_to(Path(sys.executable).resolve())
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"

    first = run(checkout, "make", "env", PATH=path, **offline)
    assert first.returncode == 0, first.stderr
    assert "[1/1] setuptools" in first.stdout
    assert_ready(checkout)

    left_over = checkout / ".venv/left-over"
    left_over.touch()
    again = run(checkout, "make", "env", **offline)
    assert (again.returncode, again.stdout) == (0, "")
    assert left_over.exists()

    with (checkout / "requirements.lock").open("a") as lock:
        lock.write("# another lock\n")
    changed = run(checkout, "make", "env", PATH=path, **offline)
    assert changed.returncode == 0, changed.stderr
    assert not left_over.exists()
    assert_ready(checkout)


def own_python() -> str:
    return str(Path(sys.executable).resolve())


@pytest.mark.slow
def test_env_entered_by_a_symlink_keeps_the_environment(
    checkout: Path, tmp_path: Path, offline: dict[str, str]
) -> None:
    result = run(checkout, "make", "env", PYTHON=own_python(), **offline)
    assert result.returncode == 0, result.stderr
    (checkout / ".venv/left-over").touch()
    link = tmp_path / "link"
    link.symlink_to(checkout)
    for command in (["make", "env"], ["./environment.sh", "install"], [str(link / "environment.sh"), "install"]):
        again = run(link, *command, PWD=str(link), **offline)
        assert (again.returncode, again.stdout) == (0, ""), again.stderr
    assert (checkout / ".venv/left-over").exists()


def elsewhere(folder: Path) -> dict[str, str]:
    """Settings of pip by which it installs nothing into .venv, or something else."""
    (folder / "constraints.txt").write_text("setuptools==65\n")
    places = {name: str(folder / name) for name in ("target", "prefix", "root", "report")}
    others = {"dry-run": "true", "constraint": str(folder / "constraints.txt"), "no-binary": ":all:", "user": "true"}
    return places | others | {"ignore-requires-python": "true", "require-virtualenv": "true", "python": "/bin/false"}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["variables", "file"])
def test_settings_of_pip_choose_the_index_and_nothing_else(
    checkout: Path, tmp_path: Path, offline: dict[str, str], how: str
) -> None:
    variables = offline | {"PYTHON": own_python(), "PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}
    for name, value in elsewhere(tmp_path).items():
        if how == "variables":
            variables |= {f"PIP_{name.upper().replace('-', '_')}": value}
    if how == "file":
        file = tmp_path / "pip.conf"
        places = [
            "[global]",
            "no-index = true",
            "find-links =",
            "    /no/such/folder",
            f"    {offline['PIP_FIND_LINKS']}",
        ]
        others = [f"{name} = {value}" for name, value in elsewhere(tmp_path).items()]
        file.write_text("\n".join([*places, "[install]", *others, ""]))
        variables |= {"PIP_CONFIG_FILE": str(file), "PIP_NO_INDEX": "", "PIP_FIND_LINKS": ""}  # pip skips empty ones
    result = run(checkout, "make", "env", **variables)
    assert result.returncode == 0, result.stderr
    assert_ready(checkout)
    assert not [name for name in ("target", "prefix", "root", "report") if (tmp_path / name).exists()]


def test_no_environment_is_ready_that_lacks_a_package(checkout: Path, offline: dict[str, str]) -> None:
    """Here pip skips one, and ends with success."""
    lock = checkout / "requirements.lock"
    lock.write_text(f"{lock.read_text()}other==1.0 ; python_version < '3' --hash=sha256:{'0' * 64}\n")
    result = run(checkout, "make", "env", PYTHON=own_python(), **offline)
    assert result.returncode != 0
    assert "error: pip installed requirements.lock, but .venv has no other\n" in result.stderr
    assert not (checkout / ".venv/installed").exists()


def test_an_environment_in_use_is_not_removed(checkout: Path) -> None:
    library = checkout / ".venv/lib/library.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"loaded by this process")
    (checkout / "requirements.lock").write_text("setuptools==999\n")
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        result = run(checkout, "make", "env", PYTHON=own_python())
    assert result.returncode != 0 and library.exists()
    assert f"error: .venv has to be made anew, but is in use by the processes {os.getpid()} (" in result.stderr


@pytest.mark.slow
def test_a_killed_install_starts_over(checkout: Path, offline: dict[str, str]) -> None:
    variables = shell_environment(PYTHON=own_python(), **offline)
    with subprocess.Popen(
        ["make", "env"], cwd=checkout, env=variables, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout
        assert any("[1/1] setuptools" in line for line in process.stdout)
        os.killpg(process.pid, signal.SIGKILL)
    left_over = checkout / ".venv/left-over"
    left_over.touch()
    assert not (checkout / ".venv/installed").exists()

    result = run(checkout, "make", "env", **offline)
    assert result.returncode == 0, result.stderr
    assert not left_over.exists()
    assert_ready(checkout)


@pytest.mark.parametrize(
    "entry", [pytest.param("setuptools==999", marks=pytest.mark.slow), f"setuptools==999 --hash=sha256:{'0' * 64}"]
)
def test_a_package_without_its_hash_is_refused(checkout: Path, offline: dict[str, str], entry: str) -> None:
    (checkout / "requirements.lock").write_text(f"{entry}\n")
    result = run(checkout, "make", "env", PYTHON=own_python(), **offline)
    assert result.returncode != 0
    assert "error: pip could not install requirements.lock" in result.stderr
    assert not (checkout / ".venv/installed").exists()


def test_env_is_instant_when_nothing_changed() -> None:
    if not (ROOT / ".venv/installed").exists():
        pytest.skip("`make env` has not run here")
    start = time.monotonic()
    result = run(ROOT, "make", "env")
    assert (result.returncode, result.stdout) == (0, "")
    assert time.monotonic() - start < 10


# What every command gets


@pytest.fixture
def installed(checkout: Path) -> Path:
    """A checkout whose environment counts as installed, and whose programs tell what they were given."""
    script(checkout / "environment.sh", "exit 0")
    for name in ["python", "dvc"]:
        script(checkout / ".venv/bin" / name, 'echo "$0 $*"', "env")
    return checkout


@pytest.mark.parametrize("target", ["repro", "test", "test-slow", "bench", "ui", "sync"])
def test_every_command_switches_usage_data_off(installed: Path, target: str) -> None:
    result = run(installed, "make", target)
    assert result.returncode == 0, result.stderr
    assert {f"{switch}=true" for switch in SWITCHES} <= set(result.stdout.splitlines())
    assert f"\nPATH={installed}/.venv/bin:" in result.stdout


def test_mlflow_and_dvc_know_the_switches(tmp_path: Path) -> None:
    ask = (
        "from dvc.analytics import is_enabled; from mlflow.telemetry.utils import is_telemetry_disabled as is_disabled;"
        "print(is_enabled(), is_disabled())"
    )
    # Nothing else in the environment: MLflow is also silent where it sees a CI, and DVC where a user's settings say so.
    switches = dict.fromkeys(SWITCHES, "true") | {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", ask], cwd=tmp_path, env=switches, capture_output=True, text=True)
    assert result.stdout.split() == ["False", "True"], result.stderr


@pytest.mark.parametrize("target", ["test", "test-slow"])
def test_tests_read_the_folder_beside_the_checkout(installed: Path, target: str) -> None:
    beside = installed.parent / "shared/data/mnist"
    assert "FEDPIPE_MNIST_SOURCE" not in run(installed, "make", target).stdout
    beside.mkdir(parents=True)
    assert f"\nFEDPIPE_MNIST_SOURCE={beside}\n" in run(installed, "make", target).stdout
    assert "\nFEDPIPE_MNIST_SOURCE=mine\n" in run(installed, "make", target, FEDPIPE_MNIST_SOURCE="mine").stdout
    assert "FEDPIPE_MNIST_SOURCE" not in run(installed, "make", "repro").stdout


@pytest.mark.parametrize("code", [0, 1, 5])
def test_ci_ends_with_pytests_summary_and_exit_code(installed: Path, tmp_path: Path, code: int) -> None:
    script(installed / ".venv/bin/python", "echo === summary ===", f"exit {code}")
    script(tmp_path / "bin/apt-get", "exit 100")  # what this machine can install is not what this is about
    environment = shell_environment(CI="true", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    result = subprocess.run(
        [".ci/run"], cwd=installed, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert result.stdout.decode().splitlines()[-1] == "=== summary ==="
    assert result.returncode == code


def test_ci_fails_when_there_is_no_environment(installed: Path, tmp_path: Path) -> None:
    script(installed / "environment.sh", "exit 3")
    script(tmp_path / "bin/apt-get", "exit 100")
    result = run(installed, ".ci/run", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert result.returncode != 0
    assert "summary" not in result.stdout


def test_help_lists_every_command_under_a_heading_within_80_columns(checkout: Path) -> None:
    targets = re.findall(r"^([a-z-]+):(?! export)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    written = run(checkout, "make").stdout
    groups = written.split("\n\n")
    listed = [re.findall(r"^  (\S+) +\S", group, re.MULTILINE) for group in groups]
    assert [name for names in listed for name in names] == targets
    assert listed[0] == [] and all(2 < len(names) < 14 for names in listed[1:])
    assert all(re.match(r"[A-Z][a-z, ]+\n  ", group) for group in groups[1:])
    assert max(map(len, written.splitlines())) <= 80
