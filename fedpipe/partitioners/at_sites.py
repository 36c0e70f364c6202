"""Scheme ``at_sites``: the clients of a federation's sites, whose samples stay where they are.

Nothing is dealt and nothing drawn: each site has partitioned its own samples. The coordinator asks the sites what they
have (docs/federation.md). Clients are numbered site by site, in the order of ``sites``.

Source: Kairouz et al. 2021, "Advances and Open Problems in Federated Learning", section 1.1 (cross-silo).
https://arxiv.org/abs/1912.04977
"""

from typing import Annotated

from pydantic import StringConstraints

from fedpipe.config.section import Section

AT_SITES = True
FOR_GIVEN_SIZES = "take another scheme, which deals the samples that are here"

_Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


class Params(Section):
    """``sites``: their names, as in their certificates."""

    sites: list[_Name]

    def check_chosen(self) -> None:
        """There are sites, and each is named once."""
        if not self.sites or len(set(self.sites)) < len(self.sites):
            raise ValueError("scheme at_sites needs 'partition.at_sites.sites', a list of different names")


def decides_sizes(_: Params) -> bool:
    """The sites' samples stay as they are."""
    return True
