"""``make federation``: waits for the sites of a federation, and prints what each has and what its policy allows."""

from collections.abc import Sequence
from pathlib import Path

from fedpipe.federation.policy import Policy


def show(address: str, certificates: Path, names: Sequence[str]) -> None:
    """Listens at ``address`` until all sites have answered.

    Raises:
      PipelineError: A certificate is missing, the port is in use, a site does not come within ten minutes, or sites
        differ in data set, image shape or number of classes.
    """
    from fedpipe.federation.answers import described, shown
    from fedpipe.links.coordinator_side import GrpcLink

    print(f"federation: waits at {address} for {', '.join(names)}", flush=True)
    with GrpcLink(address, certificates, names, say=lambda line: print(f"federation: {line}", flush=True)) as link:
        descriptions, shards = described(link, names)
    first, defaults = descriptions[0], Policy().model_dump()
    print(f"{shown(first.dataset)}, images {first.image_shape}, {first.classes} classes")
    print(f"{'site':20} {'clients':>8} {'samples':>10}  policy, where it is not the default")
    for description, own in zip(descriptions, shards, strict=True):
        policy = {key: value for key, value in description.policy.items() if value != defaults.get(key)}
        told = "; ".join(f"{key} {_listed(value)}" for key, value in policy.items())
        samples = "withheld" if own.counts == "withheld" else f"{int(own.samples.sum()):,}"
        print(f"{own.name:20} {len(own.samples):8,} {samples:>10}  {shown(told) or '-'}")


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
