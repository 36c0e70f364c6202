"""``make site ... ARGS=--dry-run``: what a site would answer, of which nothing is sent."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fedpipe import params
from fedpipe.config.choices import used
from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS, has_noise_at_clients, has_noise_at_sites
from fedpipe.datasets.shards import Manifest, Shards, verify_shards
from fedpipe.errors import PipelineError
from fedpipe.federation.audit import AnsweredRounds
from fedpipe.federation.counts import reported
from fedpipe.federation.fitting import require_fitting
from fedpipe.federation.policy import Policy
from fedpipe.federation.secure_site import Party
from fedpipe.pinning import require_avx2
from fedpipe.system.certificates import FEDERATION, ends, files, soon


def check_site(name: str, certificates: Path, shards: Path, policy: Policy, logs: Path) -> Iterator[str]:
    """Checks certificate and data; yields lines on them, and on what a coordinator would learn of them.

    Raises:
      PipelineError: A certificate is missing or not valid any more, or the shards are missing or damaged.
    """
    files(certificates, name, FEDERATION)
    file, end = ends(certificates, name)
    yield soon(certificates, name) or f"certificate: {file} is valid until {end:%Y-%m-%d}"
    manifest = Manifest.read(shards)
    verify_shards(shards, manifest)
    sizes = np.diff(Shards.open(shards).offsets)
    numbers = ", ".join(map(str, reported(sizes, policy.counts)[:5].tolist()))
    more = ", ..." if len(sizes) > 5 else ""
    yield f"data: {manifest.dataset}, {manifest.kind}; {len(sizes)} clients"
    yield f"numbers of samples that leave, with 'counts' {policy.counts}: {numbers}{more}"
    if small := policy.refused_sum(int((sizes > 0).sum()), int(sizes.sum())):
        yield f"no sum can leave this site: {small}"
    answered = AnsweredRounds(logs / "answered.txt").count()
    yield f"rounds: {answered} answered of the {policy.rounds} that the policy allows"


def check_training(file: Path, shards: Path, policy: Policy, checkout: tuple[str, bool], logs: Path) -> Iterator[str]:
    """The site's part in the training of a params.yaml, which may be the coordinator's; yields lines.

    Raises:
      PipelineError: The file is not as it should be, or sites cannot train so, or the model does not fit the images.
    """
    settings = params.load(Train, file)
    require_fitting(settings)
    require_avx2()
    answered = AnsweredRounds(logs / "answered.txt").count()
    refused = policy.refused_choices(used(settings)) + policy.refused_checkout(*checkout)
    refused += policy.refused_settings(settings, policy.least_sites, answered)
    for reason in refused:
        yield f"the training of {file} would be refused: {reason}"
    if refused:
        return
    from fedpipe.federation.preview import sum_sizes  # TensorFlow loads

    manifest = Manifest.read(shards)
    sizes = sum_sizes(settings, shards)
    yield f"the training of {file} would be joined: {settings.algorithm}, {settings.aggregator}, {settings.model}"
    if AGGREGATORS.of(settings.aggregator).SUMS_INTEGERS:
        besides = "noise and nothing besides" if has_noise_at_sites(settings) else "loss, accuracy and counts"
        yield f"in a round: one sum leaves over {manifest.clients} clients, under masks, with {besides}"
        return
    for number, size in enumerate(sizes.passes, 1):
        of = f"pass {number} of {len(sizes.passes)}" if len(sizes.passes) > 1 else "a round"
        yield f"in {of}: at most {sizes.chunks} sums leave over {manifest.clients} clients, {size:,} bytes each"
    if has_noise_at_clients(settings):
        yield "each sum has updates with noise of this site's own key, and no loss, accuracy or counts"
    else:
        yield "each sum has loss, accuracy and counts of its clients, besides their updates"


def check_roster(name: str, party: Party | None) -> Iterator[str]:
    """Whether the site could take part in secure sums; yields a line."""
    if party is None:
        yield "secure sums: there is no roster.yaml, so trainings with 'train.aggregator' secure_sum are refused"
        return
    roster = party.roster
    if reasons := party.refused(name, len(roster.names), roster.digest):
        yield f"secure sums: {reasons[0]}"
    else:
        fewest = roster.roster.minimum
        yield f"secure sums: roster of {', '.join(roster.names)}; a sum is one of {fewest} sites at least"


def dry_run(
    name: str,
    certificates: Path,
    shards: Path,
    policy: Policy,
    logs: Path,
    file: Path,
    checkout: tuple[str, bool],
    party: Party | None = None,
) -> None:
    """Prints all of it; nothing is sent, and nothing is written.

    Raises:
      PipelineError: As of `check_site` and `check_training`.
    """
    for line in (*check_site(name, certificates, shards, policy, logs), *check_roster(name, party)):
        print(f"site {name}: {line}", flush=True)
    if not file.exists():
        raise PipelineError(f"{file} is missing: without it nothing is known of a training's sums")
    for line in check_training(file, shards, policy, checkout, logs):
        print(f"site {name}: {line}", flush=True)
    print(f"site {name}: nothing was sent")
