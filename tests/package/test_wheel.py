"""What lands in site-packages, and that it works from there."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--disable-pip-version-check", "-w", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = folder.glob("edgese-*.whl")
    return path


def test_only_edgese_is_installed(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"edgese"}
    assert not [name for name in names if "test" in name or "__pycache__" in name]


def test_data_and_typing_marker_travel_inside_the_package(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    data = {
        f"edgese/_data/{path.relative_to(ROOT)}"
        for folder in ("targets", "calibration")
        for kind in ("*.toml", "*.csv")
        for path in (ROOT / folder).rglob(kind)
    }
    assert data
    assert data <= names
    assert "edgese/py.typed" in names


def test_an_installed_wheel_finds_its_data(wheel, tmp_path):
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # In front of everything else, the checkout included.
    script = f"""
import sys
sys.path.insert(0, {str(site)!r})
import edgese
from edgese.catalog import recipe_names, target_names
print(edgese.__file__, *recipe_names(), *target_names())
"""
    outcome = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    path, *names = outcome.stdout.split()
    assert Path(path).is_relative_to(site)
    assert {"fp32", "fp16", "coreml", "executorch", "onnxruntime", "tflite"} <= set(names)
