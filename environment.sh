#!/usr/bin/env bash
# The Python environment: `lock` decides what is in it, `install` makes .venv hold exactly that.
# The Makefile calls it; it works in its own folder, wherever it is called from.
set -euo pipefail
# -P: by the folder's own name, whichever symlink leads here; the commands in .venv/bin hold it.
cd -P "$(dirname "${BASH_SOURCE[0]}")"

uv_version=0.13.9
pip_is_set=
for name in ${!PYTHON*}; do
    [[ $name == PYTHON ]] || unset "$name" # what Python itself reads, such as PYTHONPATH
done

die() {
    echo "error: $*" >&2
    exit 1
}

# Sets `python` to a real 3.11, not a shim or a venv's link to it (which may be the .venv about to be replaced),
# and `python_version` to its full version. The one that .venv was made from comes first: another one on PATH is
# no reason to install again.
find_python() {
    local candidate found seen=
    local candidates=(.venv/bin/python python3.11 python3 python)
    [[ -n ${PYTHON:-} ]] && candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        found=$("$candidate" -Ic 'import os, sys; print(sys.version.split()[0], os.path.realpath(sys.executable))' \
            2>/dev/null) || continue
        if [[ $found == 3.11.* ]]; then
            read -r python_version python <<<"$found"
            return
        fi
        seen+="${seen:+, }$candidate is ${found%% /*}"
    done
    die "fedpipe needs Python 3.11, the newest that TensorFlow Federated has a wheel for, but ${seen:-none of these runs: ${candidates[*]}}; get one" \
        "(the system's package manager, \`pyenv install 3.11\`, \`uv python install 3.11\` or conda) and run" \
        "\`PYTHON=/path/to/python3.11 make env\`"
}

make_venv() {
    require_unused "$1"
    rm -rf "$1"
    "$python" -m venv "$1" || die "$python could not make a virtual environment in $1 (its message is above);" \
        "some systems keep that in a package of its own, such as python3.11-venv"
}

# Dies if a process runs from the environment in folder $1, which is about to be removed: it loads more of it later.
require_unused() {
    local map pid users=
    for map in $(grep -lsF " $PWD/$1/" /proc/[0-9]*/maps); do
        pid=${map//[^0-9]/}
        users+="${users:+, }$pid ($(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | cut -c1-60))"
    done
    [[ -z $users ]] ||
        die "$1 has to be made anew, but is in use by the processes $users: wait until they have ended, or end them"
}

# Runs pip of the Python $1 with the settings of this machine that lead to an index, and no others of pip's variables
# and files: they put packages elsewhere (target, prefix, root, user), install none (dry-run) or others (constraint).
run_pip() {
    local name settings
    if [[ -z $pip_is_set ]]; then
        # The variable keeps pip from handing over to another Python that the settings name.
        settings=$(_PIP_RUNNING_IN_SUBPROCESS=1 "$1" -I -m pip config list | "$1" -Ic '
import ast, shlex, sys
words = "index-url pypi-url extra-index-url no-index find-links trusted-host cert client-cert proxy keyring-provider"
words += " timeout default-timeout retries resume-retries cache-dir no-cache-dir use-feature use-deprecated"
keys = [line.rstrip().partition("=") for line in sys.stdin]
for section in ("global", "install", ":env:"):  # the last one counts
    for key, _, value in keys:
        if key.startswith(f"{section}.") and (name := key[len(section) + 1 :]) in words.split() and value != "\x27\x27":
            print(f"PIP_{name.upper()}=".replace("-", "_") + shlex.quote(ast.literal_eval(value)))
') || die "pip does not take its settings (its message is above)"
        for name in ${!PIP_*}; do unset "$name"; done
        set -a
        eval "$settings"
        PIP_CONFIG_FILE=/dev/null PIP_DISABLE_PIP_VERSION_CHECK=1
        set +a
        pip_is_set=yes
    fi
    "$1" -I -m pip "${@:2}"
}

# Dies if .venv lacks a package of the lock $1 or has another version, whatever pip said.
require_installed() {
    local wrong
    wrong=$(.venv/bin/python -I fedpipe/installed.py "$1") || die "fedpipe/installed.py could not compare .venv with $1"
    [[ -z $wrong ]] || die "pip installed $1, but .venv has $(tr '\n' ',' <<<"$wrong" | sed 's/,$//; s/,/, /g')"
}

# Shows pip's steps as they come: one line that changes on a terminal, one line a package in a log.
show_progress() {
    local total=$1 count=0 verb what rest line=%s\\n
    [[ -t 1 ]] && line='\r\e[K%s'
    while read -r verb what rest; do
        case "$verb $what" in
            Collecting* | Processing* | Requirement*)
                count=$((count + 1))
                [[ $verb == Requirement ]] && what=${rest#satisfied: }
                printf "$line" "  [$count/$total] $(basename "${what%% *}")"
                ;;
            "Building wheels") printf "$line" "  building ${rest#for collected packages: }" ;;
            Installing*) printf "$line" "  all have the right hash; unpacking them, about a minute" ;;
        esac
    done
    [[ ! -t 1 ]] || echo
}

# --no-deps: the lock is complete, and pip would object to the overrides.
# --no-build-isolation: a package without a wheel is built with the setuptools of the lock; in an environment of its
# own, pip would fetch whatever setuptools is newest, without a hash.
install_exactly() {
    run_pip .venv/bin/python install --no-deps --require-hashes --no-build-isolation --use-pep517 --progress-bar off -r "$1"
}

install() {
    [[ -f requirements.lock ]] || die "requirements.lock is missing; restore it with git, or make it with \`make lock\`"
    # Two at once would remove each other's .venv.
    exec 9<requirements.lock
    flock --nonblock 9 || { echo "env: waiting for another \`make env\` to end"; flock 9; }

    find_python
    # The folder belongs to it too: the commands in .venv/bin name it, so a moved checkout needs a new .venv.
    local stamp=.venv/installed wanted total
    wanted="$(sha256sum <requirements.lock) $python_version $python $PWD"
    [[ -f $stamp && $(<"$stamp") == "$wanted" ]] && return

    [[ $(uname -sm) == "Linux x86_64" ]] ||
        die "requirements.lock is made for Linux on x86-64, but this is $(uname -sm); use a machine or a container of that kind"
    total=$(grep -c '^[^ #]' requirements.lock)
    echo "env: installing the $total packages of requirements.lock into .venv with Python $python_version (3.7 GB, 2 minutes and the download)"
    make_venv .venv
    install_exactly <(awk '/^[^ #]/ { keep = /^setuptools==/ } keep' requirements.lock) >/dev/null &&
        install_exactly requirements.lock | show_progress "$total" ||
        die "pip could not install requirements.lock (its message is above); the next \`make env\` starts over"
    require_installed requirements.lock
    # Last: without it, an installation that was killed counts as none.
    echo "$wanted" >$stamp
    echo "env: .venv is ready"
}

# install_extra NAME: what an extra needs besides, in a lock of its own that changes no pin of requirements.lock.
install_extra() {
    install
    local lock=$1.lock stamp=.venv/$1 wanted
    wanted=$(sha256sum <"$lock")
    [[ -f $stamp && $(<"$stamp") == "$wanted" ]] && return
    echo "$1-env: installing the $(grep -c '^[^ #]' "$lock") packages of $lock beside those of requirements.lock"
    install_exactly "$lock" | show_progress "$(grep -c '^[^ #]' "$lock")" ||
        die "pip could not install $lock (its message is above); the next \`make $1-env\` starts over"
    require_installed "$lock"
    echo "$wanted" >"$stamp"
}

# Dask, for training on several machines.
install_cluster() { install_extra cluster; }

# NVIDIA FLARE, for federations of organisations that run it.
install_flare() { install_extra flare; }

# tf2onnx and ONNX Runtime, for `make export FORMAT=onnx`.
install_onnx() { install_extra onnx; }

# pip-audit, in .venv-audit: it needs a newer `packaging` than TensorFlow Privacy allows, and audits what it is not in.
install_audit() {
    find_python
    local stamp=.venv-audit/installed wanted
    wanted="$(sha256sum <audit.lock) $python_version $python $PWD"
    [[ -f $stamp && $(<"$stamp") == "$wanted" ]] && return
    echo "audit-env: installing the $(grep -c '^[^ #]' audit.lock) packages of audit.lock into .venv-audit"
    make_venv .venv-audit
    run_pip .venv-audit/bin/python install --quiet --no-deps --require-hashes --only-binary :all: -r audit.lock ||
        die "pip could not install audit.lock (its message is above); the next \`make audit\` starts over"
    echo "$wanted" >$stamp
}

# resolve OUTPUT SOURCE [OPTION ...]
resolve() {
    local name
    for name in ${!UV_*}; do # as with pip: only the way to an index
        [[ $name =~ ^UV_(INDEX|DEFAULT_INDEX|EXTRA_INDEX_URL|NO_INDEX|FIND_LINKS|INSECURE_HOST|NATIVE_TLS|SYSTEM_CERTS|KEYRING|HTTP|OFFLINE|CACHE_DIR|NO_CACHE|CONFIG_FILE) ]] ||
            unset "$name"
    done
    # manylinux_2_31: TensorFlow Federated's wheel asks for it. Without --upgrade, uv keeps the pins that still fit.
    .venv-lock/bin/uv pip compile --output-file "$1" \
        --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
        --python .venv-lock/bin/python --no-python-downloads --python-version 3.11 \
        --python-platform x86_64-manylinux_2_31 "${@:2}"
}

# compile EXTRA OUTPUT [OPTION ...]
compile() { resolve "$2" pyproject.toml --extra "$1" --override overrides.txt "${@:3}"; }

# lock_extra NAME: NAME.lock has what the extra needs and requirements.lock does not have.
lock_extra() {
    local all lock=$1.lock
    all=$(mktemp)
    cp "$lock" "$all" 2>/dev/null || true # the pins that still fit
    compile "$1" "$all" --constraint requirements.lock --no-annotate ${UPGRADE:+--upgrade} "${@:2}"
    awk 'FILENAME != ARGV[2] { if (/^[^ #]/) { sub(/==.*/, ""); had[$0] = 1 }; next }
        /^#/ { print; next }
        /^[^ ]/ { name = $0; sub(/==.*/, "", name); keep = !(name in had) }
        keep' requirements.lock "$all" >"$lock.partial"
    mv "$lock.partial" "$lock"
    rm -f "$all"
    echo "lock: $lock has $(grep -c '^[^ #]' "$lock") packages besides; \`make $1-env\` installs them"
}

# audit.lock: the versions of requirements.lock, except for the one that pip-audit cannot have.
lock_audit() {
    local pins
    pins=$(mktemp)
    awk '/^[^ #]/ && !/^packaging==/ { print $1 }' requirements.lock >"$pins"
    resolve audit.lock --group pyproject.toml:audit --constraint "$pins" --no-annotate ${UPGRADE:+--upgrade}
    rm -f "$pins"
    echo "lock: audit.lock has $(grep -c '^[^ #]' audit.lock) packages; \`make audit\` installs them"
}

lock() {
    find_python
    if [[ $(.venv-lock/bin/uv --version 2>/dev/null) != "uv $uv_version"* ]]; then
        echo "lock: installing uv $uv_version into .venv-lock"
        make_venv .venv-lock
        run_pip .venv-lock/bin/python install --quiet "uv==$uv_version"
    fi
    echo "lock: resolving pyproject.toml with overrides.txt${UPGRADE:+, everything to its newest version}"
    compile dev requirements.lock ${UPGRADE:+--upgrade}
    echo "lock: requirements.lock has $(grep -c '^[^ #]' requirements.lock) packages; \`make env\` installs them"
    lock_extra cluster
    lock_extra flare --constraint cluster.lock # all can be in one environment
    lock_extra onnx --constraint cluster.lock --constraint flare.lock
    lock_audit
    .venv-lock/bin/python operations/libraries.py
}

case ${1:-} in
    install | install_cluster | install_flare | install_onnx | install_audit | lock) "$1" ;;
    *) die "environment.sh takes \`install\`, \`install_cluster\`, \`install_flare\`, \`install_onnx\`, \`install_audit\` or \`lock\`, not '${1:-}'" ;;
esac
