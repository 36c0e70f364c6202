"""``make federation``: waits for the sites of a federation, and prints what each has and what its policy allows.

Where there is a params.yaml, it also prints which sites would refuse its training, and why.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from fedpipe import params
from fedpipe.config.choices import used
from fedpipe.config.train import Train
from fedpipe.datasets.shards import SiteShards
from fedpipe.errors import PipelineError, SitesLostError
from fedpipe.federation.answers import described, shown
from fedpipe.federation.fitting import require_counts, require_fitting
from fedpipe.federation.messages import Description
from fedpipe.federation.policy import Policy
from fedpipe.links.settings import LinkSettings
from layout import FEDERATION

FLARE = "flare"  # in the place of an address


def show(address: str, certificates: Path, names: Sequence[str], wait_seconds: float, params_file: Path) -> None:
    """Listens at ``address`` until all sites have answered, or have not come in ``wait_seconds``.

    With the address ``flare``, asks them through NVIDIA FLARE, with the kits of federation.yaml.

    Raises:
      PipelineError: A certificate is missing, the port is in use, a site does not come, or sites differ in data set,
        image shape or number of classes.
    """
    from fedpipe.links.opening import open_link

    def say(line: str) -> None:
        print(f"federation: {line}", flush=True)

    missing: list[str] = []

    def lost(error: SitesLostError) -> None:
        missing.extend(error.sites)

    settings = link_settings(address, certificates, wait_seconds)
    say(f"waits {'for' if settings.flare else f'at {address} for'} {', '.join(names)}")
    with open_link(settings, names, say) as link:
        link.about = "descriptions"
        descriptions, shards = described(link, names, lost)
    for line in table(descriptions, shards):
        print(line)
    if descriptions and params_file.exists():
        for line in would_refuse(params_file, descriptions, shards, len(names)):
            print(line)
    if missing:
        raise PipelineError(f"{', '.join(missing)} did not come within {wait_seconds:g} s")


def link_settings(address: str, certificates: Path, wait_seconds: float) -> LinkSettings:
    """Those of federation.yaml for the address ``flare``; otherwise gRPC at the address.

    Raises:
      PipelineError: The address is none, or federation.yaml does not name two kits.
    """
    if address == FLARE:
        own = LinkSettings.read(FEDERATION, certificates)
        if own.flare is None:
            raise PipelineError(f"{FEDERATION}: write the folders of two kits as 'flare.server' and 'flare.admin'")
        return own.model_copy(update={"link": FLARE, "wait_seconds": wait_seconds})
    try:
        return LinkSettings(address=address, certificates=certificates, wait_seconds=wait_seconds)
    except ValidationError:
        raise PipelineError(f"the address is {address!r}, and should be host:port, or {FLARE}") from None


def table(descriptions: Sequence[Description], shards: Sequence[SiteShards]) -> Iterator[str]:
    """A line on the data, and one per site."""
    if not descriptions:
        return
    first, defaults = descriptions[0], Policy(least_clients=1, least_samples=1).model_dump()
    yield f"{shown(first.dataset)}, samples {first.image_shape}, {first.classes} classes"
    yield f"{'site':20} {'clients':>8} {'samples':>10}  policy, where it is not the default"
    for description, own in zip(descriptions, shards, strict=True):
        policy = {key: value for key, value in description.policy.items() if value != defaults.get(key)}
        allowed = "; ".join(f"{key} {_listed(value)}" for key, value in policy.items())
        samples = "withheld" if own.counts == "withheld" else f"{int(own.samples.sum()):,}"
        yield f"{own.name:20} {len(own.samples):8,} {samples:>10}  {shown(allowed) or '-'}"


def would_refuse(
    file: Path, descriptions: Sequence[Description], shards: Sequence[SiteShards], sites: int
) -> Iterator[str]:
    """Lines on what each site's policy says of the training in a params.yaml, of so many ``sites``.

    A site that takes part may refuse more: another commit, other libraries, rounds that it answered for others.
    """
    try:
        settings = params.load(Train, file)
        require_fitting(settings)
        require_counts(settings, shards)
    except PipelineError as error:
        yield f"{file}: no site can train so: {error}"
        return
    for description in descriptions:
        reasons = _reasons(description, settings, sites)
        if reasons:
            yield from (f"{file}: {description.site} would refuse: {shown(reason)}" for reason in reasons)
        else:
            yield f"{file}: {description.site} would join, by its policy"


def _reasons(description: Description, settings: Train, sites: int) -> list[str]:
    try:
        policy = Policy.model_validate(description.policy)
    except ValidationError:
        return ["its policy has other keys than here: it is at another commit"]
    return policy.refused_choices(used(settings)) + policy.refused_settings(settings, sites, answered=0)


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
