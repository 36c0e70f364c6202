"""The stand-in for GitHub's command `gh` (tests/github_repository.py): ``gh_command.py FOLDER ARGUMENTS``.

It answers from FOLDER/state.json, and from the real git repository that the state names. Calls that it does not know
fail, and so does what `gh` refuses: a label that is not there, an issue that is not there.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

State = dict[str, Any]
ADDRESS = "https://github.example/team/fedpipe"
REPEATED = ("--label", "--add-label", "--remove-label")


def fail(reason: str) -> None:
    sys.exit(f"gh: {reason}")


def options(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """Positional arguments, and options with their values; one that is a switch has the value ``yes``."""
    positional, named = [], {}
    left = list(arguments)
    while left:
        word = left.pop(0)
        if not word.startswith("--"):
            positional.append(word)
        elif word in ("--force", "--clobber"):
            named[word] = "yes"
        elif word in REPEATED and word in named:
            named[word] += "," + left.pop(0)
        else:
            named[word] = left.pop(0)
    return positional, named


def answer(content: Any, named: dict[str, str]) -> None:
    """Prints JSON: its fields of --json."""
    if fields := named.get("--json"):
        names = fields.split(",")
        wanted = content if isinstance(content, list) else [content]
        unknown = {name for each in wanted for name in names if name not in each}
        if unknown:
            fail(f"Unknown JSON field: {', '.join(sorted(unknown))}")
        picked = [{name: each[name] for name in names} for each in wanted]
        content = picked if isinstance(content, list) else picked[0]
    print(json.dumps(content))


def text_of(named: dict[str, str]) -> str | None:
    if "--body-file" in named:
        return sys.stdin.read() if named["--body-file"] == "-" else Path(named["--body-file"]).read_text()
    return named.get("--body")


def labelled(state: State, names: str) -> list[dict[str, str]]:
    wanted = [name for name in names.split(",") if name]
    for name in wanted:
        if name not in state["labels"]:
            fail(f"could not add label: '{name}' not found")
    return [{"name": name} for name in wanted]


def thing(state: State, kind: str, number: str) -> dict[str, Any]:
    for each in state[kind]:
        if str(each["number"]) == number:
            return each
    fail(f"GraphQL: Could not resolve to an issue or pull request with the number of {number}.")
    raise AssertionError


def create(state: State, kind: str, path: str, **fields: Any) -> None:
    state["last_number"] += 1
    number = state["last_number"]
    url = f"{ADDRESS}/{path}/{number}"
    state[kind].append({"number": number, "state": "OPEN", "comments": [], "url": url, **fields})
    print(url)


def edit(state: State, entry: dict[str, Any], named: dict[str, str]) -> None:
    for option, key in (("--title", "title"),):
        if option in named:
            entry[key] = named[option]
    if (text := text_of(named)) is not None:
        entry["body"] = text
    removed = named.get("--remove-label", "").split(",")
    kept = [label for label in entry["labels"] if label["name"] not in removed]
    added = labelled(state, named.get("--add-label", ""))
    entry["labels"] = [*kept, *(label for label in added if label not in kept)]


def listed(state: State, kind: str, named: dict[str, str]) -> list[dict[str, Any]]:
    wanted = named.get("--state", "open").upper()
    entries = [each for each in state[kind] if wanted == "ALL" or each["state"] == wanted]
    for option, key in (("--head", "headRefName"), ("--base", "baseRefName")):
        entries = [each for each in entries if option not in named or each[key] == named[option]]
    if label := named.get("--label"):
        entries = [each for each in entries if label in [worn["name"] for worn in each["labels"]]]
    return entries[::-1][: int(named.get("--limit", "30"))]


def on_entry(state: State, kind: str, verb: str, positional: list[str], named: dict[str, str]) -> None:
    """What `gh issue` and `gh pr` have in common."""
    if verb == "list":
        answer(listed(state, kind, named), named)
        return
    entry = thing(state, kind, positional[0])
    if verb == "view":
        answer(entry, named)
    elif verb == "edit":
        edit(state, entry, named)
    elif verb == "comment":
        entry["comments"].append({"body": text_of(named)})
        print(f"{entry['url']}#comment")
    elif verb in ("close", "reopen"):
        entry["state"] = "CLOSED" if verb == "close" else "OPEN"
        if "--comment" in named:
            entry["comments"].append({"body": named["--comment"]})
    else:
        fail(f"the stand-in does not know `{verb}`")


def api(state: State, path: str, named: dict[str, str]) -> None:
    parts = urlsplit(path)
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    place = (
        parts.path.removeprefix("/")
        .replace("repos/{owner}/{repo}", "repos/team/fedpipe")
        .removeprefix("repos/team/fedpipe")
    )
    if place == "":
        answer({"private": state["private"], "pushed_at": state["pushed_at"]}, named)
        return
    if match := re.fullmatch(r"/actions/runs/(\d+)/artifacts", place):
        artifacts = [each for each in state["artifacts"] if each["run"] == int(match[1])]
        answer({"total_count": len(artifacts), "artifacts": artifacts}, named)
        return
    if place == "/actions/artifacts":
        artifacts = [each for each in state["artifacts"] if query.get("name") in (None, each["name"])][::-1]
        answer({"total_count": len(artifacts), "artifacts": artifacts}, named)
        return
    if place == "/commits":
        command = ["git", "log", f"-{query.get('per_page', 30)}", "--format=%H %cI", query.get("sha", "HEAD")]
        command += ["--", query["path"]] if "path" in query else []
        done = subprocess.run(command, cwd=state["repository"], capture_output=True, text=True, check=False)
        lines = [line.split() for line in done.stdout.splitlines()]
        answer([{"sha": sha, "commit": {"committer": {"date": date}}} for sha, date in lines], named)
        return
    fail(f"HTTP 404: Not Found ({path})")


def run_command(state: State, group: str, verb: str, rest: list[str]) -> None:
    positional, named = options(rest)
    match group, verb:
        case "auth", "status":
            sys.exit(0 if state["login"] else 1)
        case "auth", "git-credential":
            print(f"username=x-access-token\npassword={os.environ.get('GH_TOKEN', '')}")
        case "label", "create":
            if positional[0] in state["labels"] and "--force" not in named:
                fail(f'label with name "{positional[0]}" already exists; use `--force` to update it')
            state["labels"][positional[0]] = {"color": named.get("--color"), "description": named.get("--description")}
        case "issue", "create":
            worn = labelled(state, named.get("--label", ""))
            create(state, "issues", "issues", title=named["--title"], body=text_of(named), labels=worn)
        case "pr", "create":
            worn = labelled(state, named.get("--label", ""))
            ends = {"headRefName": named["--head"], "baseRefName": named["--base"], "isCrossRepository": False}
            create(state, "pulls", "pull", title=named["--title"], body=text_of(named), labels=worn, **ends)
        case (("issue" | "pr"), _):
            on_entry(state, {"issue": "issues", "pr": "pulls"}[group], verb, positional, named)
        case "workflow", "run":
            return
        case "run", "list":
            runs = [each for each in state["runs"] if named.get("--branch") in (None, each["headBranch"])]
            answer(runs[::-1][: int(named.get("--limit", "20"))], named)
        case "run", "download":
            for each in state["artifacts"]:
                is_meant = str(each["run"]) == positional[0] and each["name"] == named["--name"]
                if is_meant and not each["expired"] and Path(each["folder"]).is_dir():
                    shutil.copytree(each["folder"], named.get("--dir", "."), dirs_exist_ok=True)
                    return
            fail("no valid artifacts found to download")
        case "api", path:
            api(state, path, named)
        case _:
            fail(f"the stand-in does not know `{group} {verb}`")


def main() -> None:
    folder = Path(sys.argv[1])
    state = json.loads((folder / "state.json").read_text())
    arguments = sys.argv[2:]
    with (folder / "calls").open("a") as calls:
        calls.write(json.dumps(arguments) + "\n")
    refusal = {"issue": state["no_issues"], "api": state["no_api"]}.get(arguments[0])
    if state["broken"] or refusal:
        fail(str(state["broken"] or refusal))
    run_command(state, arguments[0], arguments[1], arguments[2:])
    (folder / "state.json").write_text(json.dumps(state, indent=1))


if __name__ == "__main__":
    main()
