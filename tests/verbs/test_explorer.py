"""explore: the page as a file, what it holds and what is refused; and its server."""

import base64
import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import specs
import wings
from wings import ROOT

import parity.__main__ as door
from parity import data, reference, saved, weights
from parity.explorer import page, server
from parity.spec import NetworkSpec, TrainedOn


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder is new."""
    monkeypatch.chdir(tmp_path)


def network(path: str, spec: NetworkSpec = specs.PRIMES, about: TrainedOn | None = None) -> str:
    weights.save(path, spec, weights.draw(spec, 5), about)
    return path


def part(content: bytes, name: str) -> str:
    """The text of one of the page's elements of data."""
    (text,) = re.findall(rf'<script id="{name}" [^>]*>(.*?)</script>', content.decode(), re.S)
    return text


def refused(capsys, *argv: object) -> str:
    before = sorted(Path().iterdir())
    assert door.main(["explore", *map(str, argv)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sorted(Path().iterdir()) == before
    return line


def test_the_default_page_is_the_small_network_whole_and_light(capsys):
    assert door.main(["explore", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    content = Path("small-mnist.html").read_bytes()
    assert said == {"page": "small-mnist.html", "bytes": len(content)}
    assert len(content) < page.LARGEST == 6_000_000
    Path("weights").write_bytes(base64.b64decode(part(content, "weights")))
    spec, arrays = weights.load("weights")
    known = saved.find("small-mnist")
    assert spec == known.spec
    assert all(specs.same_bits(a, known.arrays[name]) for name, a in arrays.items())
    test, facts = data.load("mnist-mini").test, json.loads(part(content, "facts"))
    assert zlib.decompress(base64.b64decode(part(content, "images"))) == test.images.tobytes()
    assert facts["labels"] == test.labels.tolist()
    assert any("CC BY-SA 3.0" in note for note in facts["notes"])


def test_the_page_asks_nobody_for_anything():
    text = page.build(saved.find("small-mnist")).decode()
    assert "connect-src 'none'" in text
    assert not re.findall(r"(?:src|href)\s*=\s*[\"'](?!data:)", text)
    assert not re.findall(r"https?://|@import|url\(", text)
    assert "{{" not in re.sub(r"\$\{.*?\}", "", text.split("<script>")[0])
    assert "<noscript>" in text


@pytest.mark.parametrize(
    ("about", "images", "says"),
    [
        (TrainedOn("mnist", "digit"), True, "MNIST"),
        (None, True, "does not say what it was trained on"),
        (TrainedOn("fashion-mnist", "garment"), False, ""),
        (TrainedOn("mine"), False, ""),
    ],
)
def test_only_networks_of_digits_see_test_images(about, images, says):
    spec = replace(specs.PRIMES, image=(28, 28, 1), classes=10)
    content = page.build(saved.find(network("net.safetensors", spec, about)))
    assert bool(part(content, "images")) == images == ("labels" in part(content, "facts"))
    assert says in part(content, "facts")


def test_names_cannot_end_the_data_they_stand_in():
    names = ("</script><script>alert(1)</script>", "{{weights}}", "\x1b[1mc")
    about = TrainedOn("mine", class_names=names)
    content = page.build(saved.find(network("net.safetensors", about=about)))
    assert json.loads(part(content, "facts"))["classes"] == [*names[:2], "\\x1b[1mc"]
    assert b"<script>alert" not in content


def test_a_page_too_large_is_rounded_and_says_so(monkeypatch):
    known = saved.find(network("net.safetensors"))
    whole = page.build(known)
    monkeypatch.setattr(page, "LARGEST", len(whole) - 1)
    rounded = page.build(known)
    assert len(rounded) < len(whole)
    assert "bfloat16, rounded" in part(rounded, "facts")
    assert "bfloat16" not in part(whole, "facts")
    Path("weights").write_bytes(base64.b64decode(part(rounded, "weights")))
    for name, array in weights.load("weights")[1].items():
        assert specs.same_bits(array, known.arrays[name].astype("bfloat16"))
    assert page.build(known, ["torch"]) != rounded  # a server may send all of it


def test_what_cannot_be_shown_is_refused_in_one_line(capsys, monkeypatch):
    Path("there.html").write_text("kept")
    Path("folder").mkdir()
    network("net.safetensors")
    network("two.safetensors", replace(specs.PRIMES, image=(13, 11, 2)))
    assert "there.html: exists; --force" in refused(capsys, "--out", "there.html")
    assert Path("there.html").read_text() == "kept"
    assert "it is a folder" in refused(capsys, "--out", "folder", "--force")
    assert "could not be written" in refused(capsys, "--out", "nowhere/page.html")
    assert "no such run or file" in refused(capsys, "nothing")
    assert "2 channels" in refused(capsys, "two.safetensors")
    assert "one of them" in refused(capsys, "--serve", "--out", "page.html")
    for port in (-1, 65536):
        assert f"--port {port}: cannot" in refused(capsys, "--serve", "--port", port)
    with socket.socket() as taken:
        taken.bind((server.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"--port {port}: cannot" in refused(capsys, "--serve", "--port", port)
    monkeypatch.setattr(page, "LARGEST", 1000)
    assert "look at it with --serve" in refused(capsys, "net.safetensors")
    monkeypatch.setattr(page, "ROUTINGS", ())
    assert "routes by dynamic; the page" in refused(capsys, "net.safetensors")
    monkeypatch.setattr(page, "NETWORKS", ())
    assert "is a sabour2017 network; the page" in refused(capsys, "net.safetensors")


def test_force_replaces_a_file(capsys):
    Path("there.html").write_text("old")
    assert door.main(["explore", network("net.safetensors"), "--out", "there.html", "--force"]) == 0
    assert Path("there.html").read_text().startswith("<!doctype html>")
    assert "wrote there.html" in capsys.readouterr().out


@pytest.fixture(scope="module")
def serving():
    """The port of a server whose only wing says the sums of rows."""
    with server.make_server(
        b"a page", specs.PRIMES, lambda image: {"one": image.sum((1, 2))[:, None]}, 0
    ) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made.server_port
        made.shutdown()
        thread.join()


def asked(port: int, method: str, path: str, body: str | None = None, **headers: str):
    connection = http.client.HTTPConnection(server.HOST, port, timeout=60)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    content = answer.read().decode()
    connection.close()
    return answer.status, content


def test_the_server_answers_with_poses(serving):
    assert asked(serving, "GET", "/") == (200, "a page")
    image = np.random.default_rng(3).uniform(0, 1, specs.PRIMES.image).astype(np.float32)
    status, said = asked(serving, "POST", "/poses", json.dumps({"image": image.ravel().tolist()}))
    assert status == 200
    assert json.loads(said) == {"one": image.sum((1, 2)).tolist()}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("", "0 bytes; expected 429"),
        ("{", "no image"),
        ("[]", "no image"),
        ("{}", "no image"),
        ('{"image": [1, 2]}', "expected 429 numbers"),
        ('{"image": "x"}', "no image"),
        (json.dumps({"image": [1.5] * 429}), "from 0 to 1"),
        ('{"image": [NaN' + ", 0" * 428 + "]}", "from 0 to 1"),
        ("[" * 9000, "no image"),
        ("0" * 99999, "99999 bytes"),
    ],
)
def test_what_is_no_image_is_refused(body, says, serving):
    status, said = asked(serving, "POST", "/poses", body)
    assert status == 400
    assert says in said


def test_other_sites_and_paths_are_refused(serving):
    assert asked(serving, "GET", "/etc/passwd")[0] == 404
    assert asked(serving, "POST", "/")[0] == 404
    assert asked(serving, "GET", "/", Host="evil.example")[0] == 403
    for origin, status in (("http://evil.example", 403), (f"http://localhost:{serving}", 400)):
        assert asked(serving, "POST", "/poses", "x", Origin=origin)[0] == status


@contextlib.contextmanager
def served():
    """The address of the default page, served by a process of its own, and the process."""
    command = [sys.executable, "-m", "parity", "explore", "--serve", "--port", "0", "--json"]
    # What nohup and shells in the background leave ignored, a user at a terminal has.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        started = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with started as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["address"], process
        finally:
            process.kill()


@pytest.mark.slow
def test_a_served_network_is_answered_for_by_every_wing():
    known, test = saved.find("small-mnist"), data.load("mnist-mini").test
    image = test.images[:1] / np.float32(255)
    with served() as (address, process):
        port = int(address.strip("/").split(":")[-1])
        assert asked(port, "GET", "/")[1].startswith("<!doctype html>")
        body = json.dumps({"image": image.ravel().tolist()})
        status, poses = asked(port, "POST", "/poses", body)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    assert status == 200
    assert set(json.loads(poses)) >= set(wings.NAMES)
    expected = reference.encode(known.spec, known.arrays, image).ravel()
    for found in json.loads(poses).values():
        assert wings.difference(np.array(found), expected) < 1e-5


def test_without_a_framework_nothing_is_served(monkeypatch, capsys):
    monkeypatch.setattr("parity.predict.verb.importlib.util.find_spec", lambda name: None)
    assert "neither framework is installed" in refused(capsys, "--serve")
