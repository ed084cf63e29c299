"""The wheel: three import packages, whole, with no framework unless its extra is asked for."""

import re
import tomllib
import zipfile
from email import message_from_string
from email.message import Message

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from wheels import PACKAGES, build
from wings import ROOT

import parity
from parity import data

FRAMEWORKS = {"torch", "jax", "jaxlib", "flax", "optax"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of the working tree."""
    with zipfile.ZipFile(build(tmp_path_factory.mktemp("wheel"))) as archive:
        yield archive


@pytest.fixture
def metadata(wheel) -> Message:
    (name,) = (each for each in wheel.namelist() if each.endswith(".dist-info/METADATA"))
    return message_from_string(wheel.read(name).decode())


def test_the_wheel_holds_three_packages_and_every_file_of_them(wheel):
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in inside} == set(PACKAGES)
    ours = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == ours
    assert {f"{package}/__init__.py" for package in PACKAGES} <= inside
    assert {f"{package}/py.typed" for package in PACKAGES} <= inside


def test_the_wheel_brings_the_small_data_set_and_its_notice(wheel):
    data = [name for name in wheel.namelist() if name.startswith("parity/data/")]
    assert any(name.endswith(".npz") for name in data)
    notices = [name for name in data if name.endswith(".txt")]
    assert any("LeCun" in wheel.read(name).decode() for name in notices)


def test_the_wheel_says_what_it_is(wheel, metadata):
    assert metadata["Name"] == "twincaps"
    assert metadata["License-Expression"] == "MIT AND CC-BY-SA-3.0"
    assert metadata["Requires-Python"] == ">=3.11"
    extras = {"torch", "jax", "figures", "data", "onnx", "hub", "docs", "dev"}
    assert set(metadata.get_all("Provides-Extra", [])) == extras
    notices = ("LICENSE", "parity/data/sets/mnist_mini_licence.txt")
    for notice in notices:
        assert any(name.endswith(f"licenses/{notice}") for name in wheel.namelist())
    (scripts,) = (name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    assert "twincaps = parity.__main__:script" in wheel.read(scripts).decode().splitlines()


def test_the_description_reads_where_there_is_no_repository(metadata):
    text = metadata.get_payload()
    assert "# twincaps" in text
    assert "docs/training.md" in text
    targets = re.findall(r"\]\(([^)]*)\)", text)
    assert [each for each in targets if not each.startswith("https://")] == []
    assert len(targets) == (ROOT / "README.md").read_text().count("](https://")


def wanted(metadata: Message, extra: str) -> set[str]:
    requirements = [Requirement(each) for each in metadata.get_all("Requires-Dist", [])]
    return {
        each.name
        for each in requirements
        if each.marker is None or each.marker.evaluate({"extra": extra})
    }


@pytest.mark.parametrize(
    ("extra", "frameworks"),
    [
        ("", set()),
        ("torch", {"torch"}),
        ("jax", {"jax", "flax", "optax"}),
        ("figures", set()),
        ("data", set()),
        ("onnx", set()),
        ("hub", set()),
        ("docs", set()),
        ("dev", set()),
    ],
)
def test_an_extra_brings_its_own_framework_alone(metadata, extra, frameworks):
    assert wanted(metadata, extra) & FRAMEWORKS == frameworks


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_every_direct_dependency_is_pinned_to_a_version_it_allows():
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    listed = [Requirement(each) for group in groups for each in group]
    direct = [each for each in listed if each.name != "twincaps"]
    missing = {each.name for each in direct} - set(pins())
    assert missing == set()
    assert [str(each) for each in direct if Version(pins()[each.name]) not in each.specifier] == []


def test_the_version_is_the_same_wherever_it_is_written():
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.+)$", citation, re.M)[1] == PROJECT["version"]  # type: ignore
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("name", parity.MOVED)
def test_a_module_that_moved_is_found_and_its_new_name_told(name):
    with pytest.warns(DeprecationWarning, match=rf"parity.{name} is {parity.MOVED[name]} since"):
        module = getattr(parity, name)
    assert module.__name__ == parity.MOVED[name]


@pytest.mark.parametrize("name", ["folder", "mnist_mini", "idx"])
def test_data_sets_and_formats_are_found_where_they_were(name):
    with pytest.warns(
        DeprecationWarning, match=rf"parity.data.{name} is parity.data.(sets|formats)"
    ):
        assert getattr(data, name).__name__.endswith(f".{name}")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        data.nothing  # noqa: B018
