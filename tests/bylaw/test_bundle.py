"""`bylaw bundle` as its users meet it: words in, files, words and exit codes out."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bylaw.cli import main
from engine import BylawError
from engine.bundle import LOCK_NAME, parse_lock, show_key
from store.signatures import parse_public_keys

STUDIO = Path(__file__).parents[2] / "policies" / "studio"
PEM, PKCS8, OPEN = (
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the example studio, to bundle."""
    shutil.copytree(STUDIO, tmp_path / "studio")
    return tmp_path / "studio"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A private key of `bylaw bundle keygen`; its public key stands beside it."""
    path = tmp_path / "release.pem"
    assert main(["bundle", "keygen", str(path)]) == 0
    made = serialization.load_pem_private_key(path.read_bytes(), None)
    assert isinstance(made, Ed25519PrivateKey)
    path.with_suffix(".pub").write_text(show_key(made.public_key().public_bytes_raw()) + "\n")
    return path


def build(folder: Path, version: int = 1, *words: str) -> int:
    return main(["bundle", "build", str(folder), "--version", str(version), *words])


def sign(folder: Path, key: Path, *words: str) -> int:
    return main(["bundle", "sign", str(folder), "--key", str(key), *words])


def verify(folder: Path, *words: str | Path) -> int:
    return main(["bundle", "verify", str(folder), *map(str, words)])


def test_from_a_folder_to_a_verified_bundle(folder: Path, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was built and signed is good by the public key, which may be named by its line or its file."""
    public = key.with_suffix(".pub")
    capsys.readouterr()

    codes = [build(folder, 3), sign(folder, key), verify(folder, "--key", public), verify(folder)]

    said = capsys.readouterr()
    assert codes == [0, 0, 0, 0]
    assert said.err == ""
    built, signed, verified, not_judged = said.out.splitlines()
    assert "version 3, 2 files, not signed, policy sha256:" in built
    assert signed.endswith(f"version 3, 2 files, signed by {public.read_text().strip()}")
    assert verified == f"good: version 3, 2 files, signed by {public.read_text().strip()}"
    assert not_judged == "good: version 3, 2 files, signatures not judged: no `--key` is named"
    assert verify(folder, "--key", public.read_text().strip()) == 0


def test_what_is_printed_for_machines(folder: Path, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json each command prints the lock, and verify whether it is good, by which key, or why not."""
    public = key.with_suffix(".pub").read_text().strip()
    capsys.readouterr()
    found = []

    for words in (
        ["build", str(folder), "--version", "4", "--rollback"],
        ["sign", str(folder), "--key", str(key)],
        ["verify", str(folder), "--key", public],
        ["verify", str(folder)],
    ):
        main(["bundle", *words, "--json"])
        found.append(json.loads(capsys.readouterr().out))
    (folder / "studio.bylaw").unlink()
    code = verify(folder, "--json")
    broken = json.loads(capsys.readouterr().out)

    built, signed, verified, not_judged = found
    assert (built["version"], built["rollback"], built["signatures"]) == (4, True, [])
    assert list(built["files"]) == ["studio.bylaw", "studio_test.bylaw"]
    assert signed == built | {"signatures": [public]}
    assert verified == signed | {"verified": True, "key": public}
    assert not_judged == signed | {"verified": True, "key": None}
    assert code == 1
    assert (broken["verified"], broken["error"]) == (False, "bundle_mismatch")


def test_a_private_key_is_for_its_owner_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """keygen prints the public key and nothing of the private one, whose file only its owner may read."""
    path = tmp_path / "key.pem"

    code = main(["bundle", "keygen", str(path)])

    said = capsys.readouterr()
    assert code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert parse_public_keys(said.out.strip())
    assert said.out.count("\n") == 1
    assert path.read_text().startswith("-----BEGIN PRIVATE KEY-----\n")
    assert path.read_text().splitlines()[1] not in said.out + said.err


def test_a_key_is_never_written_over(key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """keygen leaves a file that is there as it is, and fails."""
    before = key.read_bytes()

    code = main(["bundle", "keygen", str(key)])

    assert code == 2
    assert "is there already" in capsys.readouterr().err
    assert key.read_bytes() == before


def test_a_policy_with_errors_is_not_bundled(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """build shows the errors with their places, and writes nothing."""
    (folder / "extra.bylaw").write_text("allow oops: anyone to task.fly\n")

    code = build(folder)

    assert code == 2
    assert "extra.bylaw:1" in capsys.readouterr().err
    assert not (folder / LOCK_NAME).exists()


def test_the_lock_is_replaced_whole(folder: Path, key: Path) -> None:
    """A lock is written beside and put in place: who has the old one open keeps it, everybody may read the new one."""
    build(folder, 1)
    with (folder / LOCK_NAME).open("rb") as old:
        build(folder, 2)
        sign(folder, key)

        assert parse_lock(old.read()).version == 1
    assert parse_lock((folder / LOCK_NAME).read_bytes()).version == 2
    assert stat.S_IMODE((folder / LOCK_NAME).stat().st_mode) == 0o644
    assert {path.name for path in folder.iterdir()} - {path.name for path in STUDIO.iterdir()} == {LOCK_NAME}


def test_what_is_not_the_bundle_is_not_signed(folder: Path, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """sign looks at the files first: what changed since it was built gets no signature."""
    build(folder)
    before = (folder / LOCK_NAME).read_bytes()
    (folder / "studio.bylaw").write_text("# nothing\n")

    code = sign(folder, key)

    assert code == 2
    assert "`studio.bylaw` differs" in capsys.readouterr().err
    assert (folder / LOCK_NAME).read_bytes() == before


def test_several_may_sign(folder: Path, key: Path, tmp_path: Path) -> None:
    """A second key adds its signature, and a key that signs again replaces its own."""
    main(["bundle", "keygen", str(tmp_path / "next.pem")])
    build(folder)

    for each in (key, tmp_path / "next.pem", key):
        assert sign(folder, each) == 0

    assert len(parse_lock((folder / LOCK_NAME).read_bytes()).signatures) == 2
    assert verify(folder, "--key", key.with_suffix(".pub")) == 0


def test_a_new_build_has_no_signature(folder: Path, key: Path) -> None:
    """Who signed one version has not signed the next."""
    build(folder, 1)
    sign(folder, key)

    build(folder, 2)

    assert verify(folder, "--key", key.with_suffix(".pub")) == 1


def test_what_is_not_good_is_exit_code_one(folder: Path, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """verify exits 1 where the directory does not hold a good bundle, and says why."""
    public = key.with_suffix(".pub")
    other = show_key(Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    capsys.readouterr()

    codes = [verify(folder)]
    build(folder)
    codes.append(verify(folder, "--key", public))
    sign(folder, key)
    codes.append(verify(folder, "--key", other))
    (folder / LOCK_NAME).write_text((folder / LOCK_NAME).read_text().replace('"version": 1', '"version": 9'))
    codes.append(verify(folder, "--key", public))
    (folder / LOCK_NAME).write_text("{}")
    codes.append(verify(folder))

    assert codes == [1, 1, 1, 1, 1]
    reasons = [line for line in capsys.readouterr().out.splitlines() if line.startswith("not good: ")]
    expected = ["has no bylaw.lock", "is not signed", "no key that is trusted", "something was changed", "is missing"]
    assert all(each in reason for each, reason in zip(expected, reasons, strict=True))


@pytest.mark.parametrize(
    "words",
    [
        ["build", "nowhere", "--version", "1"],
        ["build", "studio", "--version", "0"],
        ["build", "studio", "--version", "-1"],
        ["build", "studio", "--version", "1.5"],
        ["build", "studio", "--version", "9" * 20],
        ["build", "studio/studio.bylaw", "--version", "1"],
        ["sign", "studio", "--key", "release.pem"],
        ["sign", "nowhere", "--key", "release.pem"],
        ["verify", "nowhere"],
        ["verify", "studio", "--key", "release.pem"],
        ["verify", "studio", "--key", "ed25519:" + "A" * 43],
        ["verify", "studio", "--key", "A" * 43],
        ["keygen", "nowhere/key.pem"],
    ],
    ids=" ".join,
)
def test_what_cannot_run_is_exit_code_two(
    words: list[str], folder: Path, key: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot run says so in one line on standard error, and writes nothing."""
    monkeypatch.chdir(folder.parent)
    before = sorted(folder.parent.rglob("*"))
    capsys.readouterr()

    code = main(["bundle", *words])

    said = capsys.readouterr()
    assert code == 2
    assert said.out == ""
    assert said.err.startswith("bylaw: ")
    assert said.err.count("\n") == 1
    assert sorted(folder.parent.rglob("*")) == before


def test_no_message_repeats_a_private_key(folder: Path, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A private key where a public one belongs is refused, however it was named, without showing any of it."""
    build(folder)
    text = key.read_text()
    secret = text.splitlines()[1]
    capsys.readouterr()

    codes = [verify(folder, "--key", each) for each in (text, str(key), secret)]

    said = capsys.readouterr()
    assert codes == [2, 2, 2]
    assert said.err.count("the key is a private one") == 2
    assert secret not in said.out + said.err


def test_keys_that_cannot_sign(folder: Path, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An encrypted key, one of another kind, a public one and no key at all are refused, each with its reason."""
    build(folder)
    made = Ed25519PrivateKey.generate()
    capsys.readouterr()
    path = tmp_path / "other.pem"
    contents = {
        "is encrypted": made.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"secret")),
        "none of Ed25519": generate_private_key(SECP256R1()).private_bytes(PEM, PKCS8, OPEN),
        "no private key": key.with_suffix(".pub").read_bytes(),
    }

    for reason, content in contents.items():
        path.write_bytes(content)
        assert sign(folder, path) == 2
        assert reason in capsys.readouterr().err
    assert sign(folder, tmp_path / "none.pem") == 2
    assert "No such file" in capsys.readouterr().err


def test_ways_to_write_a_public_key(key: Path, tmp_path: Path) -> None:
    """A public key is its line, PEM, or a file that holds one of them; several stand between commas."""
    made = serialization.load_pem_private_key(key.read_bytes(), None)
    pem = made.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "public.pem").write_bytes(pem)
    line = key.with_suffix(".pub").read_text().strip()
    other = show_key(Ed25519PrivateKey.generate().public_key().public_bytes_raw())

    ways: list[str | bytes] = [
        line,
        f" {line}\n",
        pem,
        pem.decode(),
        str(tmp_path / "public.pem"),
        str(key.with_suffix(".pub")),
    ]

    (one,) = {parse_public_keys(way) for way in ways}
    assert [show_key(each) for each in one] == [line]
    assert parse_public_keys(f"{line},{tmp_path / 'public.pem'}") == one
    assert parse_public_keys(f"{other}, {line}") == (*parse_public_keys(other), *one)


def test_another_kind_of_public_key_is_refused(tmp_path: Path) -> None:
    """A public key of another algorithm, and PEM that holds none, are refused by what they are."""
    other = generate_private_key(SECP256R1()).public_key()
    pem = other.public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    for written, reason in [
        (pem, "none of Ed25519"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "holds no public key"),
    ]:
        with pytest.raises(BylawError, match=reason):
            parse_public_keys(written)
