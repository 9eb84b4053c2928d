"""The pages are true: their links lead somewhere, and each command in them runs here or says why not.

A block of commands has the language `sh` and says in its info string what happens to it here:

    sh run                  run in order, in one shell for the page, in an empty folder; must succeed
    sh run fails            the same, and its last command must fail
    sh run background       started, and waited for until it listens
    sh run background paste the `unset` and `export` lines that it prints are pasted into the page's shell
    sh stop: REASON         not run, for this reason; what runs in the background is ended by SIGTERM
    sh start: REASON        not run, for this reason; `brevet serve` is started with $BREVET_CONFIG
    sh example: REASON      not run, for this reason

`text output` is what the block before it prints, line by line; `…` stands for anything, and lines may be
left out. BREVET names the program; `aws` is taken from the environment that pytest runs in.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tomllib

import pytest

from pages import PAGES, ROOT, anchors, blocks, links

COMMANDS = {"sh"}
DATA = {"text", "json", "jsonl", "toml", "ini", "yaml", "http", "xml", "python", "rust", "promql", "hcl"}
KINDS = {"run", "start", "stop", "example"}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page):
    wrong = []
    for target in links(page):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        file = (ROOT / page.parent / path).resolve() if path else ROOT / page
        if not file.exists() or ROOT not in (file, *file.parents):
            wrong.append(target)
        elif fragment and file.suffix == ".md" and fragment not in anchors(file.relative_to(ROOT)):
            wrong.append(target)
    assert not wrong, f"{page} links to what is not there: {wrong}"


def test_every_page_is_in_the_index():
    index = ROOT / "docs/README.md"
    named = {(index.parent / target.partition("#")[0]).resolve() for target in links("docs/README.md")}
    missing = [str(p) for p in PAGES if p.parts[0] == "docs" and ROOT / p != index and ROOT / p not in named]
    assert not missing, f"docs/README.md does not name {missing}"


def test_the_front_page_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_block_says_what_it_is(page):
    wrong = []
    for block in blocks(page):
        where = f"{page}:{block.line}"
        if block.language in COMMANDS:
            if block.kind not in KINDS:
                wrong.append(f"{where}: say `run` or `example: REASON`")
            elif block.kind != "run" and len(block.reason) < 10:
                wrong.append(f"{where}: say why it is not run")
        elif block.language not in DATA:
            wrong.append(f"{where}: `{block.language}` is no language that is known here")
        elif block.kind == "example":
            pass
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "toml":
            tomllib.loads(block.text)
    assert not wrong, "\n".join(wrong)


def named_in(reason):
    """The files that a reason names; below a folder that it names, the rest may be without it."""
    folder, found = "", []
    for name in re.findall(r"[\w./-]+\.(?:py|rs|md)\b", reason):
        folder = name.rpartition("/")[0] if "/" in name else folder
        found.append(ROOT / folder / name.rpartition("/")[2])
    return found


def runs(file):
    """What a file runs: a page's commands that are run here, or a file of tests with the text of its pages."""
    text = file.read_text()
    if file.suffix == ".md":
        return "\n".join(b.text for b in blocks(file.relative_to(ROOT)) if b.kind == "run")
    return text if re.search(r"#\[(tokio::)?test|^(async )?def test_", text, re.MULTILINE) else ""


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_what_is_said_to_run_a_command_does(page):
    wrong = []
    for block in (b for b in blocks(page) if b.language in COMMANDS and b.kind == "example"):
        where, files = f"{page}:{block.line}", named_in(block.reason)
        wrong += [f"{where}: there is no {file.relative_to(ROOT)}" for file in files if not file.exists()]
        texts = [runs(file) for file in files if file.exists()]
        wrong += [f"{where}: {file.relative_to(ROOT)} runs nothing" for file, text in zip(files, texts) if not text]
    assert not wrong, "\n".join(wrong)


# Commands that print a secret. A file that others can read is refused where it is used.
SECRET = re.compile(
    r"(create-access-key|create-virtual-mfa-device|openssl (rand|gen)|brevet (init|assume-role|export)|get-session-token"
    r"|cat \S*administrator\.env).*[^2&]> *(?!/dev/null)[\w\"$/]"
)
# Commands that print a secret which is stored nowhere else unsealed, and whatever is written to the file with the first one.
PRINTED_ONCE = re.compile(r"(create-access-key|brevet init).*[^2&]> *(?!/dev/null)[\w\"$/]|> *administrator\.env")


def code(file):
    """The commands of a file: blocks, code between backticks (which may go over a line's end), comments of a setting."""
    text = file.read_text()
    if re.search("^umask 077$", text, re.MULTILINE):
        return []
    if file.suffix != ".md":
        return re.findall(r"`([^`]+)`", re.sub(r"\n# ", " ", text)) + text.splitlines()
    found = [b.text.replace("\\\n", " ") for b in blocks(file.relative_to(ROOT)) if b.language in COMMANDS]
    text = re.sub(r"^( *)```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return found + [re.sub(r"\s+", " ", words) for words in re.findall(r"`([^`]+)`", text)]


SETTINGS = sorted(path.relative_to(ROOT) for folder in ("config", "deploy") for path in (ROOT / folder).rglob("*") if path.is_file())


@pytest.mark.parametrize("file", [*PAGES, *SETTINGS], ids=str)
def test_a_secret_is_written_for_its_owner_only(file):
    wrong = [words for words in code(ROOT / file) if SECRET.search(words) and "umask 077" not in words]
    assert not wrong, f"{file}: others can read the file that this makes: {wrong}"
    wrong = [words for words in code(ROOT / file) if PRINTED_ONCE.search(words) and "set -C" not in words]
    assert not wrong, f"{file}: the shell empties an older file before this runs, and so loses a key: {wrong}"


KEPT = [(page, b) for page in PAGES for b in blocks(page) if b.kind == "run" and re.search("brevet init .*> administrator.env", b.text)]


@pytest.mark.parametrize("page, block", KEPT, ids=[str(page) for page, _ in KEPT])
def test_a_page_that_is_begun_twice_keeps_the_administrators_key(page, block, tmp_path, isolation):
    program = pathlib.Path(os.environ.get("BREVET") or ROOT / "target/debug/brevet").resolve()
    twice = f"{block.text}\ncp administrator.env first\n{block.text}\ntest -s first && cmp first administrator.env"
    env = {"HOME": str(tmp_path), "PATH": f"{program.parent}:/usr/bin:/bin"}
    done = subprocess.run([*isolation, "bash", "-c", twice], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{page}:{block.line}: {done.stdout}{done.stderr}"


@pytest.fixture(scope="session")
def helps():
    """The help of a command of Brevet, by its words; None if there is no such command."""
    program, known = os.environ.get("BREVET") or ROOT / "target/debug/brevet", {}

    def of(words):
        if words not in known:
            done = subprocess.run([program, *words, "--help"], capture_output=True, text=True)
            known[words] = done.stdout if done.returncode == 0 else None
        return known[words]

    return of


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_in_the_text_exist(page, helps):
    """What stands between backticks may be a part of a command: its words and its options are there."""
    wrong = []
    for span in code(ROOT / page):
        for command in re.findall(r"(?:^ *|[;|(] ?|\$ |-- )brevet ((?:[^;|`()\n]|\\\n)*)", span, re.MULTILINE):
            words, rest = [], command.split()
            while rest and re.fullmatch(r"[a-z][a-z-]*", rest[0]) and (not words or "\nCommands:\n" in helps(tuple(words))):
                words.append(rest.pop(0))
                if helps(tuple(words)) is None:
                    wrong.append(" ".join(words))
                    break
            else:
                text = helps(tuple(words)) or ""
                options = {option.partition("=")[0] for option in rest[: rest.index("--") if "--" in rest else None] if re.match("--[a-z]", option)}
                wrong += [f"{' '.join(words)} {option}" for option in options if not re.search(rf"{option}\b", text)]
    assert not wrong, f"{page} has commands or options that do not exist: {wrong}"


RUNNABLE = [page for page in PAGES if any(b.language in COMMANDS and b.kind == "run" for b in blocks(page))]


def script(page, folder):
    """The page's commands as one script, which leaves the output of each block in a file."""
    lines = [
        "set -e",
        "pids=()",
        "await() { for _ in $(seq 600); do grep -qE 'brevet listens|the agent listens' \"$1\" && return; kill -0 \"$2\" || return 1; "
        "sleep 0.1; done; return 1; }",
        "stop() { for pid in \"${pids[@]}\"; do kill -TERM \"$pid\"; wait \"$pid\" || true; done; pids=(); }",
    ]
    for number, block in enumerate(b for b in blocks(page) if b.language in COMMANDS):
        words = set(block.info.partition(":")[0].split())
        out = f"{folder}/out.{block.line}"
        lines.append(f"echo {page}:{block.line} >&3")
        if block.kind == "stop":
            lines.append("stop")
        elif block.kind == "start" or "background" in words:
            text = block.text if block.kind == "run" else 'brevet serve --config "$BREVET_CONFIG"\n'
            text = re.sub(r"^brevet (serve|agent)", r"exec brevet \1", text, flags=re.MULTILINE)
            lines += [f"( {text}) >{out} 2>&1 3>&- &", f"pids+=($!); await {out} $!"]
            if "paste" in words:
                lines.append(f"eval \"$(grep -E '^ +(unset|export) ' {out})\"")
        elif block.kind == "run" and "fails" in words:
            lines.append(f"if {{\n{block.text}}} >{out} 2>&1; then cat {out}; echo 'it should have failed'; exit 1; fi")
        elif block.kind == "run":
            lines.append(f"{{\n{block.text}}} >{out} 2>&1")
    return "\n".join(lines + ["stop", "echo done >&3", ""])


@pytest.fixture(scope="session")
def isolation():
    """A network of its own, and an empty /var/lib and /var/backups, so that pages may name real ports and paths."""
    command = ["unshare", "--user", "--map-root-user", "--net", "--mount", sys.executable]
    command.append(str(pathlib.Path(__file__).with_name("isolate.py")))
    tried = subprocess.run([*command, "true"], capture_output=True, text=True)
    reason = f"no namespaces for users, networks and mounts here: {tried.stderr.strip()}"
    if tried.returncode and os.environ.get("BREVET_MAY_SKIP") == "1":
        pytest.skip(reason)
    assert not tried.returncode, f"{reason}. With BREVET_MAY_SKIP=1 such tests are skipped."
    return command


@pytest.mark.parametrize("page", RUNNABLE, ids=str)
def test_commands_do_what_the_page_says(page, tmp_path, isolation):
    program = os.environ.get("BREVET") or ROOT / "target/debug/brevet"
    folder, results = tmp_path / "folder", tmp_path / "results"
    for new in (folder / "target/debug", tmp_path / "home", results):
        new.mkdir(parents=True)
    (folder / "target/debug/brevet").symlink_to(pathlib.Path(program).resolve())
    for name in ("tests", "config", "deploy", "examples", "proto"):
        (folder / name).symlink_to(ROOT / name)
    aws = shutil.which("aws", path=f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}")
    assert aws, "the AWS CLI is not installed; tests/clients/requirements.txt has it"
    env = {
        "HOME": str(tmp_path / "home"),
        "LANG": "C.UTF-8",
        "PATH": f"{folder / 'target/debug'}:{pathlib.Path(aws).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "TERM": "dumb",
        # botocore waits for one second, and asks once: more on a slow machine.
        "AWS_METADATA_SERVICE_TIMEOUT": "20",
    }
    (tmp_path / "page.sh").write_text(script(page, results))
    with open(tmp_path / "steps", "wb") as steps, open(tmp_path / "rest", "wb") as rest:
        process = subprocess.Popen(
            [*isolation, "bash", "-c", 'exec bash "$0" 3>"$1"', tmp_path / "page.sh", tmp_path / "steps"],
            cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=rest, stderr=rest, start_new_session=True,
        )
        try:
            status = process.wait(timeout=300)
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    steps = (tmp_path / "steps").read_text().splitlines()
    last = steps[-1] if steps else "no step"
    said = results / f"out.{last.rpartition(':')[2]}"
    assert status == 0 and last == "done", (
        f"{last} ended with {status}:\n{said.read_text() if said.exists() else ''}{(tmp_path / 'rest').read_text()}"
    )
    before = None
    for block in blocks(page):
        if block.language == "text" and block.info == "output":
            printed = said = " ".join((results / f"out.{before.line}").read_text().split())
            for part in (part for line in block.text.splitlines() for part in line.split("…")):
                part = " ".join(part.split())
                _, found, said = said.partition(part) if part else ("", " ", said)
                assert found, f"{page}:{block.line}: `{part}` is not in what was printed:\n{printed}"
        before = block


def names_in(page):
    """What a page of the reference has between backticks, word by word."""
    return {word for code in re.findall(r"`([^`\n]+)`", (ROOT / page).read_text()) for word in re.findall(r"[\w.]+", code)}


def test_the_reference_has_every_setting():
    text = re.sub(r"^# (\w+ = )", r"\1", (ROOT / "config/brevet.toml").read_text(), flags=re.MULTILINE)
    keys = set(re.findall(r"^(\w+) = ", text, flags=re.MULTILINE))
    known = {name.rpartition(".")[2] for name in names_in("docs/reference/configuration.md")}
    assert len(keys) > 45, keys
    assert not keys - known, f"docs/reference/configuration.md lacks {keys - known}"


def test_the_reference_has_every_metric():
    names = re.findall(r'(?:made|registered)\(\s*of,\s*"(\w+)"', (ROOT / "src/metrics.rs").read_text())
    known = names_in("docs/reference/metrics.md")
    missing = [n for n in names if not {f"brevet_{n}", f"brevet_{n}_total"} & known]
    assert len(names) > 25, names
    assert not missing, f"docs/reference/metrics.md lacks {missing}"


def test_the_reference_has_every_error():
    table = (ROOT / "src/error.rs").read_text().partition("fn kind(&self)")[2].partition("\n    }\n")[0]
    codes = set(re.findall(r'"(\w+)"', table))
    missing = codes - names_in("docs/reference/api.md")
    assert len(codes) > 30, codes
    assert not missing, f"docs/reference/api.md lacks {missing}"


def test_each_dependency_has_its_reason_and_its_place():
    section, before, missing, unsorted = "", "", [], []
    for line in (ROOT / "Cargo.toml").read_text().splitlines():
        if line.startswith("["):
            section, before = line, ""
        elif section.endswith("dependencies]") and (found := re.match(r"([\w-]+) = ", line)):
            name = found[1]
            # A crate and its parts have one reason.
            if not comment and re.split("[-_]", name)[0] != re.split("[-_]", before)[0]:
                missing.append(name)
            if before > name:
                unsorted.append(name)
            before = name
        elif not line:
            before = ""
        comment = line.startswith("#")
    assert not missing and not unsorted, f"Cargo.toml: without a reason: {missing}; not in order: {unsorted}"
