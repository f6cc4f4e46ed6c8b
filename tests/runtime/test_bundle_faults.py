"""A bundle that is not, to the last byte, what was approved is refused, and what is served stays served."""

import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promptops.core.errors import DataError, RefusedError
from promptops.release.export import archive, bundle_files, sign_files
from promptops.release.sshsig import open_signer
from promptops.runtime import Runtime
from promptops.runtime.bundle import MAX_FILES, SIGNATURE_NAMESPACE, Trust, load_bundle, parse_bundle, read_files
from promptops.runtime.pointer import POINTER, install
from runtime.bundles import INPUTS, NAME, Scripted, make_bundle, make_project, make_served

ANY = Trust(unsigned=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("p") / "project", {"deadline_s": 2})


@pytest.fixture(scope="module")
def files(project: Path) -> dict[str, bytes]:
    return bundle_files([make_served(project)], channel="prod", development=True)


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    key = tmp_path_factory.mktemp("k") / "key"
    key.write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return open_signer(str(key))


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def listed(files: dict[str, bytes], **changes: bytes) -> dict[str, bytes]:
    """The files with these changed and the manifest made to fit them, as somebody who can write would do it."""
    found = {**files, **changes}
    manifest = json.loads(found.pop("manifest.json"))
    manifest["files"] = {name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)} for name, content in found.items() if name != "manifest.sig"}  # fmt: skip
    return {**found, "manifest.json": json.dumps(manifest).encode()}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_R1_one_changed_byte_anywhere_is_refused(files: dict[str, bytes], signer: Any, data: st.DataObject) -> None:
    """Every byte of every file, the manifest and the signature included."""
    signed = sign_files(files, signer.sign)
    name = data.draw(st.sampled_from(sorted(signed)))
    place = data.draw(st.integers(0, len(signed[name]) - 1))
    content = bytearray(signed[name])
    content[place] ^= data.draw(st.integers(1, 255))
    trust = Trust(keys=(str(signer.key),))

    assert parse_bundle(signed, trust, where="b").channels.keys() == {NAME}
    try:
        found = parse_bundle({**signed, name: bytes(content)}, trust, where="b")
    except RefusedError:
        return
    assert ("manifest.sig", parse_bundle(signed, trust, where="b").digest) == (name, found.digest), (
        "only blanks of the armour may differ"
    )


def test_R2_a_file_changed_together_with_its_hash_is_refused(files: dict[str, bytes], signer: Any) -> None:
    """The manifest is then not the one that was signed, or whose digest was pinned."""
    signed = sign_files(files, signer.sign)
    digest = "sha256:" + hashlib.sha256(files["manifest.json"]).hexdigest()
    forged = listed(signed, **{"models.json": files["models.json"] + b" "})

    assert digest == parse_bundle(signed, Trust(digest=digest), where="b").digest
    for trust, why in ((Trust(keys=(str(signer.key),)), "does not belong"), (Trust(digest=digest), "not the one that was pinned")):  # fmt: skip
        with pytest.raises(RefusedError, match=why):
            parse_bundle(forged, trust, where="b")


def test_R2_a_signature_by_a_stranger_or_for_something_else_is_refused(files: dict[str, bytes], signer: Any) -> None:
    """The key must be trusted and must have signed a bundle."""
    other = str(Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())
    wrong = {**files, "manifest.sig": signer.sign(files["manifest.json"], "git").encode()}

    for found, keys, why in ((sign_files(files, signer.sign), (other,), "not trusted"), (wrong, (str(signer.key),), "does not belong"),
                             (files, (str(signer.key),), "not signed")):  # fmt: skip
        with pytest.raises(RefusedError, match=why):
            parse_bundle(found, Trust(keys=keys), where="b")
    with pytest.raises(DataError, match="nothing says why"):
        parse_bundle(files, Trust(), where="b")


def test_ssh_keygen_accepts_the_signature_of_a_bundle(files: dict[str, bytes], signer: Any, tmp_path: Path) -> None:
    """Other tools can verify what we sign."""
    signed = sign_files(files, signer.sign)
    (tmp_path / "sig").write_bytes(signed["manifest.sig"])
    (tmp_path / "allowed").write_text(f"me {signer.key}\n")
    found = subprocess.run(["ssh-keygen", "-Y", "verify", "-f", tmp_path / "allowed", "-I", "me", "-n", SIGNATURE_NAMESPACE, "-s", tmp_path / "sig"],
                           input=signed["manifest.json"], capture_output=True, check=False)  # fmt: skip
    assert 0 == found.returncode, found.stderr


def test_R3_extra_missing_swapped_and_colliding_files_are_listed(files: dict[str, bytes], tmp_path: Path) -> None:
    """Each is named in the refusal."""
    folder = f"prompts/{NAME}/v1.0.0"
    broken = {
        **files,
        "extra.json": b"{}",
        f"{folder}/runtime.json": files["models.json"],
        "models.json": files[f"{folder}/runtime.json"],
    }
    del broken[f"{folder}/guardrails.json"]
    with pytest.raises(RefusedError) as caught:
        load_bundle(write(tmp_path / "a", broken), ANY)
    said = str(caught.value)

    assert all(word in said for word in ("extra.json is not in the manifest", f"{folder}/guardrails.json is missing", f"{folder}/runtime.json was changed", "models.json was changed"))  # fmt: skip
    for name in ("Models.json", "mOdels.json"):
        with pytest.raises(RefusedError, match=r"not a name|twice"):
            load_bundle(write(tmp_path / name, {**files, name: b"{}"}), ANY)
    unused = listed(files, **{"prompts/other/v1.0.0/prompt.json": b"{}"})
    with pytest.raises(RefusedError, match="belongs to no release"):
        parse_bundle(unused, ANY, where="b")


def tar_of(members: list[tuple[tarfile.TarInfo, bytes]], tmp_path: Path) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    place = tmp_path / "bad.tar"
    place.write_bytes(buffer.getvalue())
    return place


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


@pytest.mark.parametrize(
    "bad",
    [member("../x"), member("/etc/x"), member("a/../../x"), member("x", tarfile.SYMTYPE, "/etc/passwd"), member("x", tarfile.LNKTYPE, "manifest.json"),
     member("x", tarfile.FIFOTYPE), member("x", tarfile.CHRTYPE), member("d", tarfile.DIRTYPE), member("a\\b"), member("a//b"), member("./x"), member("x\n"),
     member("X"), member("a" * 400), member("a/b/c/d/e/f/g")],
    ids=lambda info: f"{info.name[:12]!r}-{info.type.decode()}",
)  # fmt: skip
def test_R4_members_that_leave_the_bundle_or_are_no_files_are_refused(files: dict[str, bytes], bad: tarfile.TarInfo, tmp_path: Path) -> None:  # fmt: skip
    """Nothing is written anywhere."""
    good = [(member(name, size=len(content)), content) for name, content in files.items()]
    before = sorted(tmp_path.iterdir())
    place = tar_of([*good, (bad, b"")], tmp_path)

    with pytest.raises(RefusedError):
        load_bundle(place, ANY)
    assert [*before, place] == sorted(tmp_path.iterdir())


@pytest.mark.parametrize("make", [lambda p: p.symlink_to("/etc/passwd"), os.mkfifo, lambda p: p.hardlink_to(p.parent / "manifest.json"),
                                  lambda p: p.symlink_to(p.parent, target_is_directory=True)], ids=["symlink", "fifo", "hardlink", "folder link"])  # fmt: skip
def test_R4_links_and_pipes_in_a_folder_are_refused(files: dict[str, bytes], make: Callable[[Path], None], tmp_path: Path) -> None:  # fmt: skip
    """None of them is followed or opened."""
    folder = write(tmp_path / "b", files)
    make(folder / "x")

    with pytest.raises(RefusedError, match="plain file"):
        load_bundle(folder, ANY)


def test_R5_what_is_too_large_is_refused_by_what_is_really_read(files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """The caps count bytes and files as they come; deep JSON and compressed archives are refused too."""
    deep = listed(files, **{f"prompts/{NAME}/v1.0.0/prompt.json": b"[" * 100_000})
    with pytest.raises(RefusedError, match="not JSON"):
        parse_bundle(deep, ANY, where="b")
    import gzip

    (tmp_path / "z.tar").write_bytes(gzip.compress(archive(files)))
    with pytest.raises(RefusedError, match="uncompressed"):
        load_bundle(tmp_path / "z.tar", ANY)
    sparse = tmp_path / "sparse"
    sparse.mkdir()
    with (sparse / "big.json").open("wb") as file:
        file.truncate(200 * 2**20)
    with pytest.raises(RefusedError, match="more than"):
        load_bundle(sparse, ANY)
    many = tar_of([(member(f"f{number}"), b"") for number in range(MAX_FILES + 1)], tmp_path)
    with pytest.raises(RefusedError, match="too large"):
        load_bundle(many, ANY)


class Boom:
    """Makes a folder when unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("pwned",)


def test_R6_a_pickle_is_never_read(files: dict[str, bytes], tmp_path: Path) -> None:
    """Under any name it is refused, and nothing that could unpickle is even loaded."""
    poison = pickle.dumps(Boom())
    for name in ("router.json", "cache.json", "prompt.json", "model.pkl", "router.joblib"):
        place = write(tmp_path / name.replace(".", "-"), listed(files, **{f"prompts/{NAME}/v1.0.0/{name}": poison}))
        code = ("import sys; from promptops.runtime import Runtime\ntry: Runtime.load(sys.argv[1], allow_unsigned=True)\n"
                "except Exception as e: print(type(e).__name__, {'joblib','sklearn','numpy'} & set(sys.modules), 'pickle' in sys.modules)")  # fmt: skip
        found = subprocess.run([sys.executable, "-c", code, str(place)], capture_output=True, text=True, cwd=tmp_path, check=False)  # fmt: skip
        assert ("RefusedError", "set()") == tuple(found.stdout.split()[:2]), found.stdout + found.stderr
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "router", [b"{}", b"[]", b'{"format": "promptops.router/1"}', b'{"threshold": 1e999}', b"\x80\x04"]
)
def test_R7_a_hostile_router_is_refused_with_its_faults(files: dict[str, bytes], router: bytes, tmp_path: Path) -> None:
    """A bundle with a router that cannot be believed is not served."""
    place = write(tmp_path / "b", listed(files, **{f"prompts/{NAME}/v1.0.0/router.json": router}))

    with pytest.raises(RefusedError):
        Runtime.load(place, allow_unsigned=True, clients={"small": Scripted()})


def test_R16_a_bundle_for_a_newer_runtime_is_refused_with_both_versions(files: dict[str, bytes]) -> None:
    """So is one with a field nobody here knows."""
    manifest = json.loads(files["manifest.json"])
    newer = {**files, "manifest.json": json.dumps({**manifest, "min_runtime": "99.0.0"}).encode()}
    unknown = {**files, "manifest.json": json.dumps({**manifest, "must_encrypt": True}).encode()}

    with pytest.raises(RefusedError, match=r"needs promptops >= 99\.0\.0, this is promptops 0\.1"):
        parse_bundle(newer, ANY, where="b")
    with pytest.raises(RefusedError, match="must_encrypt"):
        parse_bundle(unknown, ANY, where="b")


def test_R16_what_is_new_in_a_newer_bundle_is_not_told_as_a_fault(files: dict[str, bytes]) -> None:
    """A manifest with new fields and another format, a new file, a setting and a check that nobody here knows: the version alone is told."""
    manifest = json.loads(files["manifest.json"])
    settings = json.dumps({"teleport": True}).encode()
    changed = listed(files, **{f"prompts/{NAME}/v1.0.0/runtime.json": settings})
    stated = json.loads(changed["manifest.json"]) | {"min_runtime": "1.2.3", "must_encrypt": True}
    newer = {**changed, "manifest.json": json.dumps(stated).encode(), "new.json": b"{}"}
    other = {**files, "manifest.json": json.dumps({"promptops": 2, "everything": manifest}).encode()}

    for bundle, what in (
        (newer, r"needs promptops >= 1\.2\.3"),
        (other, r"has format 2, this is promptops .*, which reads format 1"),
    ):
        with pytest.raises(RefusedError, match=what) as caught:
            parse_bundle(bundle, ANY, where="b")
        assert 1 == len(caught.value.problems)
    with pytest.raises(RefusedError, match="teleport"):
        parse_bundle(changed, ANY, where="b")


@pytest.mark.parametrize("stated", ["", "9", "9.9", "9.9.9-rc1", 99, None, "1" * 5000, ["9.9.9"]])
def test_R16_a_version_that_is_none_is_a_fault_of_the_manifest(files: dict[str, bytes], stated: object) -> None:
    """It is neither believed nor compared."""
    manifest = json.loads(files["manifest.json"]) | {"min_runtime": stated}
    with pytest.raises(RefusedError, match="min_runtime"):
        parse_bundle({**files, "manifest.json": json.dumps(manifest).encode()}, ANY, where="b")


def test_R18_the_same_release_gives_the_same_bytes(project: Path, files: dict[str, bytes], tmp_path: Path) -> None:
    """In another time zone, process and folder, with another hash seed."""
    code = ("import sys; sys.path.insert(0, 'tests'); from pathlib import Path; from runtime.bundles import make_served\n"
            "from promptops.release.export import archive, bundle_files\nimport hashlib\n"
            "print(hashlib.sha256(archive(bundle_files([make_served(Path(sys.argv[1]))], channel='prod', development=True))).hexdigest())")  # fmt: skip
    root = Path(__file__).parents[2]
    found = {
        subprocess.run([sys.executable, "-c", code, str(project)], cwd=root, capture_output=True, text=True, check=True,
                       env={**os.environ, "TZ": zone, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}).stdout.strip()
        for zone, seed in (("UTC", "1"), ("Asia/Tokyo", "2"))
    }  # fmt: skip

    assert {hashlib.sha256(archive(files)).hexdigest()} == found
    assert files == read_files(write_tar(tmp_path, files))


def write_tar(tmp_path: Path, files: dict[str, bytes]) -> Path:
    place = tmp_path / "b.tar"
    place.write_bytes(archive(files))
    return place


def test_a_bundle_without_evidence_is_for_development_only(files: dict[str, bytes]) -> None:
    """A manifest that hides it is refused."""
    manifest = json.loads(files["manifest.json"])
    with pytest.raises(RefusedError, match="has no evidence"):
        parse_bundle({**files, "manifest.json": json.dumps({**manifest, "development": False}).encode()}, ANY, where="b")  # fmt: skip


def test_a_prompt_that_was_changed_with_manifest_and_all_is_not_the_approved_one(files: dict[str, bytes]) -> None:
    """The prompt digest is computed from what is in the bundle."""
    name = f"prompts/{NAME}/v1.0.0/prompt.json"
    changed = files[name].replace(b"You label", b"You mislabel")
    with pytest.raises(RefusedError, match="not the prompt that was approved"):
        parse_bundle(listed(files, **{name: changed}), ANY, where="b")


class Ear:
    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def replied(self, *_: Any) -> None: ...

    def noticed(self, event: str, reason: str) -> None:
        self.heard.append((event, reason))


def test_R1_R8_T31_a_running_service_follows_the_pointer_and_ignores_what_is_bad(tmp_path: Path) -> None:
    """A newer bundle is taken over; a broken, an older and a half-written one are ignored and told; requests go on."""
    from runtime.clock import FakeClock

    watched, clock, ear, model = tmp_path / "watched", FakeClock(), Ear(), Scripted()
    first, second = make_bundle(tmp_path, {}, seq=5), make_bundle(tmp_path, {}, seq=6, version="v1.1.0")
    install(first, watched, ANY)
    runtime = Runtime.load(watched, allow_unsigned=True, clients={"small": model}, observers=[ear], clock=clock)

    def after_a_look() -> str:
        clock.advance(2)
        runtime.complete(NAME, INPUTS)
        runtime._shared.workers.pool.submit(lambda: None).result(30)
        with runtime._reloading:
            return runtime.complete(NAME, INPUTS).version

    versions = [runtime.complete(NAME, INPUTS).version]
    install(second, watched, ANY)
    versions.append(after_a_look())
    (watched / POINTER).write_text('{"bundle": "')
    versions.append(after_a_look())
    older = json.dumps({"bundle": load_bundle(first, ANY).digest.removeprefix("sha256:")[:32], "digest": load_bundle(first, ANY).digest})  # fmt: skip
    (watched / POINTER).write_text(older)
    versions.append(after_a_look())

    assert ["v1.0.0", "v1.1.0", "v1.1.0", "v1.1.0"] == versions
    assert ["bundle_loaded", "bundle_refused", "bundle_refused"] == [event for event, _ in ear.heard]
    assert "an older bundle is not a rollback" in ear.heard[-1][1]
    with pytest.raises(RefusedError, match="would go back from event 6 to 5"):
        install(first, _installed(tmp_path, second), ANY)
    runtime.close()


@pytest.mark.parametrize("left", [0, 1, 40, -3])
def test_R10_a_torn_pointer_is_refused_as_it_is(tmp_path: Path, left: int) -> None:
    """Neither an older nor a newer bundle is taken for the first one; what to do is said."""
    first, second = make_bundle(tmp_path, {}, seq=1), make_bundle(tmp_path, {}, seq=2, version="v2.0.0")
    watched = _installed(tmp_path, first)
    pointer = watched / POINTER
    pointer.write_bytes(pointer.read_bytes()[:left])

    for bundle in (first, second):
        with pytest.raises(RefusedError, match=r"not a pointer to a bundle.*delete it"):
            install(bundle, watched, ANY)


def test_R10_a_lost_pointer_does_not_let_an_older_bundle_in(tmp_path: Path) -> None:
    """What was installed in the folder still counts; the bundle that was served, or a newer one, repairs it."""
    first, second = make_bundle(tmp_path, {}, seq=1), make_bundle(tmp_path, {}, seq=2, version="v2.0.0")
    watched = _installed(tmp_path, second)
    (watched / POINTER).unlink()

    with pytest.raises(RefusedError, match="go back from event 2 to 1"):
        install(first, watched, ANY)
    assert not (watched / POINTER).exists()
    install(second, watched, ANY)
    served = Runtime.load(watched, allow_unsigned=True, clients={"small": Scripted()}).bundle

    assert "v2.0.0" == served.channels[NAME].live.version


def _installed(tmp_path: Path, bundle: Path) -> Path:
    folder = tmp_path / "other"
    install(bundle, folder, ANY)
    return folder


def test_T31_requests_in_flight_end_on_the_bundle_they_began_with(tmp_path: Path) -> None:
    """The change-over happens between requests, never within one."""
    import asyncio

    watched, model = tmp_path / "watched", Scripted()
    install(make_bundle(tmp_path, {}, seq=1), watched, ANY)
    runtime = Runtime.load(watched, allow_unsigned=True, clients={"small": model})

    async def main() -> tuple[str, str]:
        model.held = asyncio.Event()
        task = asyncio.ensure_future(runtime.acomplete(NAME, INPUTS))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        install(make_bundle(tmp_path, {}, seq=2, version="v2.0.0"), watched, ANY)
        runtime.reload()
        model.held.set()
        return (await task).version, (await runtime.acomplete(NAME, INPUTS)).version

    assert ("v1.0.0", "v2.0.0") == asyncio.run(main())


def test_R12_a_killed_installation_leaves_a_whole_bundle(tmp_path: Path) -> None:
    """Killed at any moment, the pointer names the old or the new bundle, and that one is whole."""
    bundles = [make_bundle(tmp_path, {}, seq=number, version=f"v1.{number}.0") for number in (1, 2)]
    watched = tmp_path / "watched"
    install(bundles[0], watched, ANY)
    code = ("import sys, os, signal; from pathlib import Path; from promptops.runtime.pointer import install; from promptops.runtime.bundle import Trust\n"
            "count = [int(sys.argv[3])]\n"
            "def step(event, args):\n    if event in ('open', 'os.rename', 'os.mkdir', 'shutil.rmtree', 'tempfile.mkstemp'):\n        count[0] -= 1\n"
            "        if count[0] == 0: os.kill(os.getpid(), signal.SIGKILL)\n"
            "import promptops.runtime.formats, filelock, jsonschema_rs, minijinja, orjson\nsys.addaudithook(step)\n"
            "install(Path(sys.argv[1]), Path(sys.argv[2]), Trust(unsigned=True))")  # fmt: skip
    seen = set()
    for step in range(20, 75, 6):
        subprocess.run([sys.executable, "-c", code, str(bundles[1]), str(watched), str(step)], capture_output=True, check=False)  # fmt: skip
        runtime = Runtime.load(watched, allow_unsigned=True, clients={"small": Scripted()})
        seen.add(runtime.bundle.channels[NAME].live.version)
    install(bundles[1], watched, ANY)

    assert seen <= {"v1.1.0", "v1.2.0"}
    assert "v1.2.0" == Runtime.load(watched, allow_unsigned=True, clients={"small": Scripted()}).bundle.channels[NAME].live.version  # fmt: skip


def test_a_canary_is_sticky_by_tenant_and_gets_its_share(tmp_path: Path) -> None:
    """The same tenant always gets the same version; about a third of many tenants gets the canary."""
    from dataclasses import replace

    project = make_project(tmp_path / "p", {})
    canary = make_served(project, version="v1.1.0").live
    served = replace(make_served(project), canary=canary, percent=33)
    place = write(tmp_path / "b", bundle_files([served], channel="prod", development=True))
    runtime = Runtime.load(place, allow_unsigned=True, clients={"small": Scripted()})
    rounds = [[runtime.complete(NAME, INPUTS, tenant=f"t{number}").version for number in range(300)] for _ in range(2)]

    assert rounds[0] == rounds[1]
    assert 70 <= rounds[0].count("v1.1.0") <= 130


def test_importing_the_runtime_loads_the_standard_library_only() -> None:
    """`from promptops.runtime import Runtime` in a fresh process."""
    code = "import sys; from promptops.runtime import Runtime, Endpoint, Reply; print([m for m in sys.modules if m.split('.')[0] not in sys.stdlib_module_names and not m.startswith(('promptops', '__', '_'))])"  # fmt: skip
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]" == found.stdout.strip()
