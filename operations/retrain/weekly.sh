#!/bin/sh
# The weekly retraining for cron, systemd, GitLab CI or any other scheduler: `make weekly` in a fresh clone.
# FEDPIPE_STATE names the folder that keeps the state from week to week; with a tracking server and a DVC remote it only
# has the checkpoints. Exit code: 0, or that of the first step that failed; the state is kept and people are told anyway.
set -u
export FEDPIPE_SCHEDULED=true # what is checked out is the newest: a champion that was taken back in git is taken back
cd "$(dirname "$0")/../.." || exit 1
code=0

run() {
    echo "weekly: make $*" >&2
    make "$@" || { failed=$?; [ "$code" -ne 0 ] || code=$failed; return "$failed"; }
}

tell() {
    if [ "$code" -eq 0 ]; then job=success; else job=failure; fi
    export FEDPIPE_JOB="$job"
    run tell
}

if [ -n "${FEDPIPE_STATE:-}" ] && [ -e "$FEDPIPE_STATE/manifest.json" ]; then
    # Not after a failure: an empty registry would take the place of the one that is kept.
    run restore-state FOLDER="$FEDPIPE_STATE" || { tell; exit "$code"; }
fi
run retrain && run publish
if [ -n "${FEDPIPE_STATE:-}" ]; then
    run keep-state FOLDER="$FEDPIPE_STATE"
fi
run champion ARGS=--if-any # into champion/, for whoever deploys it
tell
exit "$code"
