"""``python -m operations.federation request | sign | expiry``: certificates whose keys stay where they were made."""

import argparse
from pathlib import Path

from fedpipe.errors import PipelineError
from fedpipe.federation.site_key import SiteKey, noise_key_file
from fedpipe.links.options import COORDINATOR
from fedpipe.system.certificate_requests import request, sign
from fedpipe.system.certificates import FEDERATION, ends, files, soon


def make_noise_key(folder: Path, name: str) -> None:
    """Makes a site's key for the noise of its clients if it has none: a service may write no file beside it."""
    file = noise_key_file(folder, name)
    SiteKey.of_noise(file)
    print(f"{file} stays here, too: with it this site draws the noise of local_dp")


def run(args: argparse.Namespace) -> None:
    """Does what ``args.command`` says.

    Raises:
      PipelineError: A file is missing or not as it should be, or the certificate ends soon.
    """
    if args.command == "request":
        made = request(args.certificates, args.name)
        print(f"request: bring {made.file} to the CA, and keep {args.name}.key here")
        print(f"request: the CA sees the fingerprint {made.fingerprint} when it signs")
        if args.name != COORDINATOR:
            make_noise_key(args.certificates, args.name)
    elif args.command == "sign":
        made = sign(args.certificates, args.file, COORDINATOR if args.coordinator else None)
        print(f"sign: wrote {made.file} for {made.name}: bring it and ca.pem there")
        print(f"sign: {made.name} must have seen the fingerprint {made.fingerprint}; else `revoke {made.name}` at once")
    else:
        files(args.certificates, args.name, FEDERATION)
        if sentence := soon(args.certificates, args.name, args.days):
            raise PipelineError(sentence)
        file, end = ends(args.certificates, args.name)
        print(f"expiry: {file} is valid until {end:%Y-%m-%d}")
