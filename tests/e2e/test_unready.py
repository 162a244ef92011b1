"""A bundle that cannot be served takes nobody along: it is listed, counted, and named in the log."""

import json
import shutil
import subprocess
import sys

import pytest

from chairlift import Client, Unavailable


@pytest.fixture
def models(tiny_models, tmp_path):
    """tiny/1, sound; tiny/2 and other/1, which are not what their manifests say."""
    for place in ("tiny/1", "tiny/2", "other/1"):
        shutil.copytree(tiny_models / "tiny" / "1", tmp_path / "models" / place)
    return tmp_path / "models"


def test_what_is_broken_is_listed_and_the_rest_answers(serve, models):
    server = serve("--default-model", "tiny", "--lame-duck-seconds", "0", models=models).ready()
    with Client(server.listen) as client:
        listed = {(model.reference.name, model.reference.version): model for model in client.models()}
        assert {place: model.ready for place, model in listed.items()} == {
            ("other", 1): False,
            ("tiny", 1): True,
            ("tiny", 2): False,
        }
        assert list(listed) == sorted(listed)
        assert [place for place, model in listed.items() if model.is_default] == [("tiny", 1)]
        (answer,) = client.generate(["abc"])
        assert answer.model.version == 1
        for name, version in (("tiny", 2), ("other", 1), ("other", 0)):
            with pytest.raises(Unavailable, match="not ready here"):
                client.generate(["abc"], model=name, version=version)
    command = [sys.executable, "-m", "chairlift", "--server", server.listen, "--list"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    models = [
        line for line in shown.splitlines() if not line.startswith(" ")
    ]  # below one, what its card says
    assert [line.split()[:4] for line in models] == [
        ["other", "1", "not", "ready"],
        ["tiny*", "1", "ready", "int8"],
        ["tiny", "2", "not", "ready"],
    ]
    assert {line for line in server.metrics().splitlines() if line.startswith("chairlift_model_ready{")} == {
        'chairlift_model_ready{model="other",version="1"} 0.0',
        'chairlift_model_ready{model="tiny",version="1"} 1.0',
        'chairlift_model_ready{model="tiny",version="2"} 0.0',
    }
    reasons = [json.loads(line) for line in server.lines if '"not ready"' in line]
    assert [record["model"] for record in reasons] == ["other/1", "tiny/2"]
    assert all("describes tiny/1" in record["reason"] for record in reasons)
    server.terminate()
    assert server.exit_status() == 0


def test_without_the_default_model_there_is_no_server(serve, models):
    server = serve("--default-model", "other", models=models)
    assert server.exit_status() == 2
    assert server.lines[-1].startswith("service: model other/1: ")
