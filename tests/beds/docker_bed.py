"""A Docker engine of the tests' own, for `docker compose up` on a machine that has none.

    python tests/beds/docker_bed.py                  start, build the image, compose up, stop; with timings
    python tests/beds/docker_bed.py -- COMMAND ...   start, build the image, run COMMAND with DOCKER_HOST set, stop

Needs root on a Debian machine; the first time also Debian's packages and the package index that pip is set up for. It
declares `MINUTES`; most of them pass the first time only, because `default_root()` keeps base image and torch's layer.

The engine lives in network, mount and process namespaces of its own: its bridges and firewall rules are not this
machine's, and when its first process ends so does everything that it started. An engine that runs here already is
neither used nor disturbed. No image is pulled: debootstrap makes a stand-in for `python:3.11-slim`, and pip in the
build finds what pip here has fetched.
"""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from machine import DIES_WITH_US, NoBedError, install, need_root

MINUTES = 10
PROJECT = Path(__file__).resolve().parents[2]
BASE_IMAGE = "gossipdistill-bed-base:bookworm"
COMPOSE_PROJECT = "gossipdistill-bed"
CGROUP = "gossipdistill-bed"
WHEELS_PORT = 8000  # in the engine's own network namespace, so always free
PACKAGES = {"docker.io": "dockerd", "debootstrap": "debootstrap", "iptables": "iptables", "iproute2": "ip"}
PLUGINS = {"compose": "docker-compose", "buildx": "docker-buildx"}  # subcommand of docker -> Debian package
SOCKET_PATH_MAX_BYTES = 60  # the kernel takes 107, and the engine appends folders and names of its own


# In namespaces of its own, and gone with all that it has started as soon as this process is, even if that is killed.
APART = [*DIES_WITH_US, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def default_root() -> Path:
    return Path(tempfile.gettempdir()) / "gossipdistill-beds" / "docker"


class DockerBed:
    """`with DockerBed(say=print) as bed: bed.compose("up")`. What can be kept for the next time stays in `root`."""

    def __init__(self, root: Path | None = None, say: Callable[[str], None] = print) -> None:
        self.root = root or default_root()
        self.say = say
        self.timings: dict[str, float] = {}
        self._engine: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._ends_at = time.monotonic() + MINUTES * 60

    # ---- up and down

    def __enter__(self) -> "DockerBed":
        self._check_machine()
        self.root.mkdir(parents=True, exist_ok=True)
        self._lock = (self.root / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise NoBedError(f"another test run holds {self.root}") from None
        try:
            self._remove_cgroups()  # of a run that was killed
            with self._stage("packages"):
                install(PACKAGES)
            with self._stage("compose and buildx"):
                self._install_plugins()
            with self._stage("engine"):
                self._start_engine()
            with self._stage("base image"):
                self._make_base_image()
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            self._down()
            raise NoBedError(str(error)) from error  # a part of the bed is missing, which is no fault of the project
        except BaseException:
            self._down()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        with self._stage("stop"):
            self._down()

    def build(self) -> None:
        """The project's image, by `docker compose build` as a user would, except for where the packages come from."""
        with self._stage("wheels"):
            wheels = self._fetch_wheels()
        find_links = f"http://127.0.0.1:{WHEELS_PORT}/"
        build = {"network": "host", "args": {"BASE": BASE_IMAGE, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": find_links}}
        (self.root / "override.json").write_text(json.dumps({"services": {"ada": {"build": build}}}))
        with self._stage("image"), self._serve(wheels):
            self.compose("build", "--progress", "plain", "ada", timeout_s=420, check=True)
        self._docker("image", "prune", "--force")  # the image that this one replaces

    def compose(self, *arguments: str, timeout_s: float = 60, check: bool = False) -> subprocess.CompletedProcess[str]:
        done = self._run(["docker", "compose", *arguments], timeout_s, env=self.environment(), check=check)
        done.stdout = done.stdout.replace("\x1b[2K", "")  # compose 2.26 clears lines even where there is no terminal
        return done

    @contextmanager
    def in_background(self, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
        """`docker compose ...` that goes on while the test does something else."""
        command = ["docker", "compose", *arguments]
        environment = self.environment() | variables
        null = subprocess.DEVNULL
        with subprocess.Popen(command, env=environment, cwd=PROJECT, stdin=null, stdout=null, stderr=null) as process:
            try:
                yield process
            finally:
                process.kill()

    def environment(self) -> dict[str, str]:
        """What a `docker` command line needs to reach this engine and this project."""
        foreign = ("DOCKER_", "COMPOSE_", "GOSSIPDISTILL_", "BUILDX_")
        return {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | {
            "DOCKER_HOST": f"unix://{self.root / 'docker.sock'}",
            "DOCKER_CONFIG": str(self.root / "config"),
            "COMPOSE_PROJECT_NAME": COMPOSE_PROJECT,
            "COMPOSE_FILE": f"{PROJECT / 'docker-compose.yml'}:{self.root / 'override.json'}",
        }

    # ---- what the machine must have

    def _check_machine(self) -> None:
        need_root("a Docker engine of one's own", ("apt-get", "dpkg", "setpriv", "unshare", "nsenter"))
        if len(os.fsencode(self.root)) > SOCKET_PATH_MAX_BYTES:
            raise NoBedError(f"{self.root} is too long for a Unix socket: set TMPDIR to a shorter folder")

    def _install_plugins(self) -> None:
        """Debian 12 has compose v1 only. The plugins of Debian 13 need but libc, so unpacked is installed enough."""
        (self.root / "config").mkdir(exist_ok=True)
        missing = [
            package
            for plugin, package in PLUGINS.items()
            if self._docker(plugin, "version", check=False).returncode != 0
        ]
        if not missing:
            return
        with tempfile.TemporaryDirectory(dir=self.root) as name:
            folder = Path(name)
            (folder / "lists/partial").mkdir(parents=True)
            (folder / "sources.list").write_text(
                f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {self._debian_mirror()} trixie main\n"
            )
            apt = ["apt-get", "-qq"]
            for option in (
                f"Dir::Etc::sourcelist={folder / 'sources.list'}",
                "Dir::Etc::sourceparts=-",
                f"Dir::State::lists={folder / 'lists'}",
                f"Dir::Cache={folder}",
                "APT::Sandbox::User=root",
            ):
                apt += ["-o", option]
            self._run([*apt, "update"], 120)
            self._run([*apt, "download", *missing], 120, cwd=folder)
            for archive in folder.glob("*.deb"):
                self._run(["dpkg", "-x", str(archive), str(folder / "unpacked")], 60)
            plugins = self.root / "config/cli-plugins"
            shutil.copytree(folder / "unpacked/usr/libexec/docker/cli-plugins", plugins, dirs_exist_ok=True)

    def _debian_mirror(self) -> str:
        """The mirror that this machine is set up for: apt knows it."""
        question = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian"]
        for _ in range(2):
            if mirrors := self._run(question, 30).stdout.split():
                return mirrors[0]
            self._run(["apt-get", "update", "-qq"], 120)  # it has forgotten, or never looked
        raise NoBedError("apt is not set up for a Debian mirror here")

    # ---- the engine

    def _start_engine(self) -> None:
        (self.root / "daemon.json").write_text("{}")  # whatever /etc/docker says is not meant for this engine
        (self.root / "dockerd.pid").unlink(missing_ok=True)
        daemon = [
            "dockerd",
            f"--config-file={self.root / 'daemon.json'}",
            f"--data-root={self.root / 'data'}",
            f"--exec-root={self.root / 'exec'}",
            f"--pidfile={self.root / 'dockerd.pid'}",
            f"--host=unix://{self.root / 'docker.sock'}",
            f"--cgroup-parent=/{CGROUP}",
        ]
        with (self.root / "dockerd.log").open("wb") as log:
            self._engine = subprocess.Popen(
                [*APART, "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *daemon],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        give_up_at = time.monotonic() + 40
        while self._docker("info", check=False).returncode != 0:
            if self._engine.poll() is not None or time.monotonic() > give_up_at:
                last = (self.root / "dockerd.log").read_text(errors="replace").splitlines()[-3:]
                raise NoBedError("dockerd does not start: " + " | ".join(last))
            time.sleep(0.2)

    def _down(self) -> None:
        if self._engine is not None:
            first = dockerd_of(self._engine.pid)
            if first is not None and self._engine.poll() is None:
                os.kill(first, signal.SIGTERM)
                try:
                    self._engine.wait(20)
                except subprocess.TimeoutExpired:
                    self.say("docker bed: dockerd does not stop when asked: killed")
            self._engine.kill()  # with it go the namespaces and all that is left in them
            self._engine.wait()
            self._engine = None
            self._remove_cgroups()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _remove_cgroups(self) -> None:
        hierarchies = Path("/sys/fs/cgroup")
        for top in (*hierarchies.glob(f"*/{CGROUP}"), *hierarchies.glob(CGROUP)):
            for folder, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError as error:
                    self.say(f"docker bed: {folder} stays behind: {error.strerror}")

    # ---- images

    def _make_base_image(self) -> None:
        if self._docker("image", "inspect", BASE_IMAGE, check=False).returncode == 0:
            return
        with tempfile.TemporaryDirectory(dir=self.root) as name:
            packages = "--include=python3,python3-pip,ca-certificates"
            make = ["debootstrap", "--variant=minbase", packages, "bookworm", name, self._debian_mirror()]
            self._run([*APART, *make], 300)
            folder = Path(name)
            for marker in folder.glob("usr/lib/python3.*/EXTERNALLY-MANAGED"):
                marker.unlink()  # in the official image pip installs for all, too
            (folder / "usr/bin/python").symlink_to("python3")
            for useless in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"):
                shutil.rmtree(folder / useless, ignore_errors=True)
            with subprocess.Popen(["tar", "-C", name, "-c", "."], stdout=subprocess.PIPE) as tar:
                self._docker("import", "--change", 'CMD ["python3"]', "-", BASE_IMAGE, stdin=tar.stdout)

    def _fetch_wheels(self) -> Path:
        """Let pip here, as it is set up here, fetch all that pip in the build will ask for."""
        project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
        wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
        constraints = [PROJECT / "constraints.txt", PROJECT / "constraints-image.txt"]
        pins = [file.read_text() for file in constraints]
        digest = hashlib.sha256(f"{wanted}{pins}".encode()).hexdigest()[:12]
        wheels = self.root / f"wheels-{digest}"
        if not (wheels / "complete").exists():
            for stale in self.root.glob("wheels-*"):
                shutil.rmtree(stale)
            wheels.mkdir()
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--python-version", "3.11"]
            pip += ["--only-binary", ":all:", "--dest", str(wheels)]
            for file in constraints:
                pip += ["--constraint", str(file)]
            self._run([*pip, *wanted], 400)
            (wheels / "complete").touch()
        return wheels

    @contextmanager
    def _serve(self, folder: Path) -> Iterator[None]:
        """On the loopback of the engine's own network."""
        assert self._engine is not None
        inside = [*DIES_WITH_US, "nsenter", f"--net=/proc/{dockerd_of(self._engine.pid)}/ns/net"]
        server = [sys.executable, "-m", "http.server", "--bind=127.0.0.1", f"--directory={folder}", str(WHEELS_PORT)]
        with subprocess.Popen([*inside, *server], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                yield
            finally:
                process.kill()

    # ---- running things

    def _docker(self, *arguments: str, **how: Any) -> subprocess.CompletedProcess[str]:
        return self._run(["docker", *arguments], 60, env=self.environment(), **how)

    def _run(
        self,
        command: list[str],
        timeout_s: float,
        env: dict[str, str] | None = None,
        cwd: Path = PROJECT,
        check: bool = True,
        stdin: IO[bytes] | int | None = subprocess.DEVNULL,
    ) -> subprocess.CompletedProcess[str]:
        left_s = self._ends_at - time.monotonic()
        if left_s <= 0:
            raise TimeoutError(f"the docker bed has used up its {MINUTES} minutes: {self.timings}")
        done = subprocess.run(
            command,
            check=False,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=env,
            cwd=cwd,
            timeout=min(timeout_s, left_s),
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(command[:4])} ... exit {done.returncode}: {done.stdout[-1500:].strip()}")
        return done

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.timings[name] = time.monotonic() - start
            self.say(f"docker bed: {name:<20} {self.timings[name]:6.1f} s")


def dockerd_of(unshare_pid: int) -> int | None:
    """`unshare --fork` waits outside the process namespace; its one child is the first process inside."""
    try:
        children = Path(f"/proc/{unshare_pid}/task/{unshare_pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(children[0]) if children else None


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.2)
    return True


def main(arguments: list[str]) -> int:
    command = arguments[1:] if arguments[:1] == ["--"] else []
    if arguments and not command:
        print(__doc__)
        return 2
    try:
        with DockerBed() as bed:
            bed.build()
            if command:
                return subprocess.run(command, env=bed.environment(), check=False).returncode
            up = bed.compose("up", timeout_s=240)
            print(up.stdout)
            bed.compose("down", "--volumes")
            return up.returncode
    except NoBedError as reason:
        print(f"SKIP docker bed: {reason}")
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
