"""Certificates: what is in them, who may read the keys, and what is refused. That they work is in test_sockets."""

import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from callboard import errors
from callboard.rpc import certs


def test_an_authority_signs_for_servers(tmp_path):
    made = certs.init(tmp_path / "certs", cluster="test")
    issued = certs.issue(tmp_path / "certs", "one.example")
    authority = x509.load_pem_x509_certificate(made.certificate.read_bytes())
    server = x509.load_pem_x509_certificate(issued.certificate.read_bytes())
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    usages = server.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert names.get_values_for_type(x509.DNSName) == ["one.example"] and len(list(usages)) == 2
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert issued.valid_until - datetime.now(UTC) > timedelta(days=certs.SERVER_DAYS - 1)


def test_keys_are_for_their_owner_alone(tmp_path):
    certs.init(tmp_path / "certs")
    certs.issue(tmp_path / "certs", "one")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "certs").iterdir()}
    assert modes == {"cluster-ca.key": 0o600, "cluster-ca.pem": 0o644, "one.key": 0o600, "one.pem": 0o644}


def test_nothing_is_written_over(tmp_path):
    certs.init(tmp_path)
    certs.issue(tmp_path, "one")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(errors.InvalidInput, match="exists already"):
        certs.init(tmp_path)
    with pytest.raises(errors.InvalidInput, match="exists already"):
        certs.issue(tmp_path, "one")
    (tmp_path / "one.key").unlink()
    with pytest.raises(errors.InvalidInput, match="exists already"):
        certs.issue(tmp_path, "one")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()}.items() <= before.items()


def test_without_an_authority_nothing_is_signed(tmp_path):
    with pytest.raises(errors.InvalidInput, match="certs init"):
        certs.issue(tmp_path, "one")
    (tmp_path / "cluster-ca.pem").write_text("x")
    (tmp_path / "cluster-ca.key").write_text("x")
    with pytest.raises(errors.DataUnusable):
        certs.issue(tmp_path, "one")


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "cluster-ca", "-x", "x" * 64, "*.example"])
def test_names_that_no_server_may_have(tmp_path, name):
    certs.init(tmp_path)
    with pytest.raises(errors.InvalidName):
        certs.issue(tmp_path, name)


def test_a_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((errors.DataUnusable, errors.InvalidInput)):
        certs.init(tmp_path / "file")


def test_without_the_extra_it_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from callboard.cli import program\n"
        f"sys.exit(program.run(['certs', 'init', '--dir', {str(tmp_path)!r}]))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode != 0 and ran.stdout == ""
    assert ran.stderr.count("\n") == 1 and "pip install callboard[cluster]" in ran.stderr
