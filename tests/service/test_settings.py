"""Flags win over variables, variables over defaults; whatever is wrong is named with its key and value."""

import pytest

from service.errors import StartError
from service.settings import HELP, Settings, read_settings


def test_defaults():
    settings = read_settings([], {"PATH": "/bin"})
    assert (settings.listen, settings.http, settings.models) == (
        "127.0.0.1:50051",
        "127.0.0.1:8080",
        "models",
    )


def test_a_flag_wins_over_its_variable():
    environment = {"CHAIRLIFT_MAX_ROWS": "16", "CHAIRLIFT_DEVICE": "cpu", "CHAIRLIFT_REFLECTION": "true"}
    settings = read_settings(["--max-rows", "32"], environment)
    assert (settings.max_rows, settings.device, settings.reflection) == (32, "cpu", True)


def test_a_switch_may_stand_alone():
    settings = read_settings(["--reflection", "--tf32", "--kernels", "false"], {})
    assert (settings.reflection, settings.tf32, settings.kernels) == (True, True, False)


def test_every_setting_has_a_help_text():
    assert set(HELP) == set(Settings.__struct_fields__)


@pytest.mark.parametrize(
    ("arguments", "environment", "key"),
    [
        (["--max-rows", "many"], {}, "--max-rows='many'"),
        (["--max-rows", "0"], {}, "--max-rows='0'"),
        (["--max-rows", "1"], {}, "--max-rows='1'"),
        (["--engines", "0"], {}, "--engines='0'"),
        (
            ["--profile", "fp64"],
            {},
            "--profile='fp64': Invalid enum value 'fp64'; allowed are fp16, fp32, int8",
        ),
        (
            ["--reflection", "yes"],
            {},
            "--reflection='yes': Expected `bool`, got `str`; allowed are true and false",
        ),
        (
            ["--http", "127.0.0.1:65536"],
            {},
            "--http='127.0.0.1:65536': HOST:PORT is wanted, with a port from 0 to 65535",
        ),
        (["--answer-cache", "-1"], {}, "--answer-cache='-1'"),
        (["--device", "tpu"], {}, "--device='tpu'"),
        (["--listen", "here"], {}, "--listen='here'"),
        (["--drain-seconds", "nan"], {}, "--drain-seconds='nan'"),
        ([], {"CHAIRLIFT_MAX_WAITING": "-1"}, "CHAIRLIFT_MAX_WAITING='-1'"),
        ([], {"CHAIRLIFT_MAX_ROW": "8"}, "CHAIRLIFT_MAX_ROW: no such setting"),
    ],
    ids=[
        *("word", "zero", "one-row", "no-engine", "profile", "switch", "port", "cache"),
        *("device", "address", "nan", "negative", "typo"),
    ],
)
def test_what_is_wrong_is_named(arguments, environment, key):
    with pytest.raises(StartError) as refusal:
        read_settings(arguments, environment)
    assert key in str(refusal.value)


def test_a_flag_has_one_name(capsys):
    with pytest.raises(SystemExit):
        read_settings(["--max-row", "8"], {})
    assert "--max-row" in capsys.readouterr().err


def test_the_clients_own_variable_is_no_mistake():
    assert read_settings([], {"CHAIRLIFT_SERVER": "localhost:1"}) == Settings()
