"""``python -m operations.federation``: what a site and a coordinator run (docs/federation.md).

certificates         makes a CA, and certificates and keys for the coordinator and for sites: to try it on one machine
request NAME         makes this site's key, and the request for its certificate, which goes to the CA
sign FILE            signs a request where the CA's key is
expiry NAME          says until when a certificate is valid; an error if it ends within 30 days
revoke NAME          takes the right to join away from a certificate
identity NAME        makes a site's key for secure sums, and prints its line of roster.yaml
site ADDRESS NAME    stays connected to the coordinator at host:port, and answers within policy.yaml
flare-kit KIT...     changes kits of NVIDIA FLARE so that they are safe to use
flare-start KIT...   runs the kits' start.sh
flare-site KIT       answers within policy.yaml the questions that come through the kit of a site
show ADDRESS NAME... waits at host:port for sites, and prints what they have and allow
audit                prints what this site's audit log says, and whether it is whole
demo                 runs a coordinator and some sites on this machine, and compares with the simulation
"""

import argparse
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fedpipe import installed
from fedpipe.command_line import make_command
from fedpipe.errors import PipelineError, run_stage
from fedpipe.federation.audit import AUDIT_LOG
from fedpipe.federation.messages import SITE_NAME
from fedpipe.federation.policy import Policy
from fedpipe.runtime.facts import LIBRARIES
from fedpipe.system.certificates import SOON_DAYS, make_certificates, revoke
from fedpipe.system.locks import LockTaken, locked_file
from fedpipe.tracking.git_state import git_tags
from layout import (
    CLIENT_TESTS,
    CLIENTS,
    FEDERATION_CERTIFICATES,
    FEDERATION_LOGS,
    PARAMS,
    PERSONAL_AT_SITE,
    POLICY,
    ROSTER,
    WRITTEN,
)
from operations.federation.flare import COMMANDS as FLARE_COMMANDS
from operations.federation.flare import add_flare_commands
from operations.federation.own_samples import make_shards

if TYPE_CHECKING:
    from fedpipe.federation.secure_site import Party

_COORDINATOR = "coordinator"
_PATIENCE_SECONDS = 5.0  # how long a site that was killed may take to end


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments of the command line, or ``argv`` in their place."""
    parser = argparse.ArgumentParser(
        prog="python -m operations.federation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    certificates = FEDERATION_CERTIFICATES
    parser.add_argument("--certificates", type=Path, default=certificates, help=f"their folder ({certificates})")
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("certificates", **make_command("federation-certificates"))
    make.add_argument("names", nargs="*", type=_site, metavar="SITE", help="the names of the sites")
    commands.add_parser("revoke").add_argument("name", help="of the certificate")
    commands.add_parser("identity").add_argument("name", type=_site, help="of the site")
    commands.add_parser("request").add_argument("name", type=_certified, help="of the site, or coordinator")
    sign = commands.add_parser("sign")
    sign.add_argument("file", type=Path, help="the request, NAME.csr")
    sign.add_argument("--coordinator", action="store_true", help="it is the coordinator's")
    expiry = commands.add_parser("expiry")
    expiry.add_argument("name", type=_certified, help="of the certificate")
    expiry.add_argument("--days", type=_count, default=SOON_DAYS, help=f"an error if it ends sooner ({SOON_DAYS})")
    site = commands.add_parser("site", **make_command("site", "ADDRESS", "NAME"))
    site.add_argument("address", help="host:port of the coordinator")
    site.add_argument("name", help="the site's name, as in its certificate")
    add_flare_commands(commands)
    for answering in (site, commands.choices["flare-site"]):
        _add_site_options(answering)
    site.add_argument("--dry-run", action="store_true", help="check and show what would be sent, and send nothing")
    site.add_argument("--params", type=Path, default=PARAMS, help=f"of the training, for --dry-run ({PARAMS})")
    at = commands.add_parser("show", **make_command("federation", "ADDRESS", "SITES"))
    at.add_argument("address", help="host:port to listen at, or flare: through the kits of federation.yaml")
    at.add_argument("names", nargs="+", metavar="SITE", help="the names of the sites")
    at.add_argument("--wait", type=float, default=600.0, metavar="SECONDS", help="for a site to come (600)")
    at.add_argument("--params", type=Path, default=PARAMS, help=f"of the training that is to be joined ({PARAMS})")
    audit = commands.add_parser("audit")
    audit.add_argument("--logs", type=Path, default=FEDERATION_LOGS, help=f"of the site ({FEDERATION_LOGS})")
    audit.add_argument("--noted", type=_chain, default="", metavar="CHAIN", help="of a line that the log once had")
    demo = commands.add_parser("demo", **make_command("federation-demo"))
    demo.add_argument("--sites", type=_count, metavar="N", default=3, help="how many (3)")
    demo.add_argument("--rounds", type=_count, metavar="N", default=3, help="how many (3)")
    demo.add_argument("--link", choices=["grpc", "flare"], default="grpc", help="flare: through NVIDIA FLARE")
    return parser.parse_args(argv)


def main() -> None:
    """Runs the command that the first argument names."""
    args = arguments()
    if args.command in ("request", "sign", "expiry"):
        from operations.federation import certificates

        certificates.run(args)
    elif args.command == "certificates":
        for file in make_certificates(args.certificates, [_COORDINATOR, *args.names]):
            print(f"certificates: wrote {file}")
    elif args.command == "revoke":
        print(f"revoke: {args.name} is in {revoke(args.certificates, args.name)}: bring it to the coordinator")
    elif args.command == "identity":
        print_identity(args.certificates, args.name)
    elif args.command in ("site", "flare-site"):
        run_site(args)
    elif args.command in FLARE_COMMANDS:
        FLARE_COMMANDS[args.command](args.kits)
    elif args.command == "show":
        from operations.federation.show import show

        show(args.address, args.certificates, args.names, args.wait, args.params)
    elif args.command == "audit":
        from operations.federation.audit import show_audit

        show_audit(args.logs / AUDIT_LOG, args.noted)
    else:
        from operations.federation.demo import run_demo

        run_demo(args.sites, args.rounds, args.link)


def print_identity(folder: Path, name: str) -> None:
    """Makes a site's identity if it has none, and prints its public key."""
    from fedpipe.federation.pinned_roster import identity_file, make_identity
    from operations.federation.certificates import make_noise_key

    key = make_identity(folder, name)
    print(f"identity: {identity_file(folder, name)} stays here; give the other sites this line of roster.yaml:")
    print(f"  {name}: {key}")
    make_noise_key(folder, name)


def party_of(args: argparse.Namespace, name: str) -> "Party | None":
    """The site's part in secure sums; None if it has no roster.

    Raises:
      PipelineError: The roster is none, or the site has no identity.
    """
    from fedpipe.federation.pinned_roster import PinnedRoster, read_identity
    from fedpipe.federation.secure_site import Party

    if not args.roster.exists():
        return None
    return Party(read_identity(args.certificates, name), PinnedRoster.read(args.roster))


def run_site(args: argparse.Namespace) -> None:
    """Answers until Ctrl-C or SIGTERM.

    Raises:
      PipelineError: A certificate, the policy or a library is missing or not as it should be; or another process
        answers with the same logs.
    """
    installed.require(LIBRARIES)
    policy, ending = Policy.read(args.policy), threading.Event()
    if args.command == "site" and args.dry_run:
        from operations.federation.dry_run import dry_run

        party = party_of(args, args.name)
        dry_run(args.name, args.certificates, args.shards, policy, args.logs, args.params, _checkout(), party)
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())

    name, way = _way_to_coordinator(args)

    from fedpipe.federation.site import Site  # TensorFlow loads
    from fedpipe.federation.site_folder import SiteFolder
    from fedpipe.federation.site_key import noise_key_file

    def say(line: str) -> None:
        print(f"site {name}: {line}", flush=True)

    with alone(args.logs):
        if args.shards == CLIENTS:  # else another command made them
            make_shards()
        noise_key = noise_key_file(args.certificates, name)
        folder = SiteFolder(args.shards, args.logs / "state", args.personal, args.logs, noise_key, args.tests)
        site = Site(name, folder, policy, _checkout, party_of(args, name))
        try:
            say(f"answers the coordinator within {args.policy}; audit log {args.logs / AUDIT_LOG}")
            way(site.answer, say, ending)
        finally:
            site.close()


Way = Callable[[Callable[[bytes], bytes], Callable[[str], None], threading.Event], None]


def _way_to_coordinator(args: argparse.Namespace) -> tuple[str, Way]:
    """The site's name, and what connects its answers with the coordinator: gRPC, or a kit of NVIDIA FLARE."""
    if args.command == "flare-site":
        from fedpipe.links.flare.kit import site_name
        from fedpipe.links.flare_site import stay_at_kit

        return site_name(args.kit), partial(stay_at_kit, args.kit)
    from fedpipe.links.site_side import stay

    return args.name, partial(stay, args.address, args.certificates, args.name)


def _add_site_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shards", type=Path, default=CLIENTS, help=f"folder of its shards ({CLIENTS})")
    parser.add_argument("--tests", type=Path, default=CLIENT_TESTS, help=f"of held-out samples ({CLIENT_TESTS})")
    parser.add_argument("--policy", type=Path, default=POLICY, help=f"what it allows ({POLICY})")
    parser.add_argument("--roster", type=Path, default=ROSTER, help=f"the sites of secure sums ({ROSTER})")
    parser.add_argument("--logs", type=Path, default=FEDERATION_LOGS, help=f"for its audit log ({FEDERATION_LOGS})")
    parser.add_argument("--personal", type=Path, default=PERSONAL_AT_SITE, help=f"for models ({PERSONAL_AT_SITE})")


@contextmanager
def alone(logs: Path) -> Iterator[None]:
    """Keeps other processes from answering with these ``logs``: each would count the rounds without the other's."""
    logs.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked_file(logs / "lock", _PATIENCE_SECONDS))
        except LockTaken:
            raise PipelineError(
                f"another process answers a coordinator with the logs in {logs}: end it, or name another folder of "
                "logs with --logs"
            ) from None
        yield


def _checkout() -> tuple[str, bool]:
    """The commit of this checkout, and whether files differ from it; params.yaml has this site's own samples."""
    tags = git_tags((*WRITTEN, PARAMS))
    return tags["mlflow.source.git.commit"], tags["fedpipe.git_dirty"] != "false"


def _certified(text: str) -> str:
    return text if text == _COORDINATOR else _site(text)


def _site(text: str) -> str:
    if text == _COORDINATOR:  # whose certificate it would be
        raise argparse.ArgumentTypeError(f"no site can be called {_COORDINATOR}")
    if not re.fullmatch(SITE_NAME, text):
        raise argparse.ArgumentTypeError(f"a site's name has lower-case letters, digits and hyphens, and not {text!r}")
    return text


def _chain(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{8,64}", text):
        raise argparse.ArgumentTypeError(f"a chain has 8 to 64 hexadecimal digits, and not {text!r}")
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"should be a number from 1 on, not {text}")
    return int(text)


if __name__ == "__main__":
    run_stage(main)
