import math
import os
import re
from pathlib import Path

import pytest

from warmd.daemon import config
from warmd.daemon.config import ConfigError, load
from warmd.daemon.core.policy import Limits
from warmd.daemon.settings import Settings
from warmd.http import options

NO_FILES: list[Path] = []


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_defaults_are_those_of_the_design():
    settings = load({}, {}, NO_FILES)
    assert (settings.session_timeout, settings.max_session_timeout, settings.call_timeout) == (60, 3600, 3600)
    assert (settings.start_timeout, settings.drain_timeout, settings.end_grace) == (600, 30, 10)
    assert (settings.max_sessions, settings.max_queue, settings.max_message_bytes) == (256, 256, 2**28)
    assert (settings.classes, settings.app_folders, settings.log_keep) == (True, (), 100)
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    assert settings.limits() == Limits(dispatch_ahead=32, max_templates=16, park_bytes=half)
    assert settings.origin("call_timeout") == "default"


def test_a_programs_own_settings_come_before_the_environment():
    settings = load({"max_queue": 1}, {"WARMD_MAX_QUEUE": "3"}, NO_FILES, {"max_queue": "2", "log_keep": "2"})
    assert (settings.max_queue, settings.log_keep) == (1, 2)
    settings = load({}, {"WARMD_MAX_QUEUE": "3"}, NO_FILES, {"max_queue": "2"})
    assert (settings.max_queue, settings.origin("max_queue")) == (2, "setting max_queue")


def test_every_limit_reaches_the_rule_book():
    flags = {
        "max_sessions": 1, "max_queue": 2, "max_pool_workers": 3, "session_timeout": 4,
        "max_session_timeout": "never", "call_timeout": 6, "start_timeout": 7, "end_grace": 8,
        "cancel_grace": 9, "dispatch_ahead": 10, "max_templates": 11, "template_memory": "12MiB",
        "template_timeout": 13, "gpu_wait": 14, "park_memory": 15,
    }  # fmt: skip
    assert load(flags, {}, NO_FILES).limits() == Limits(
        max_sessions=1, max_queue=2, max_pool_workers=3, session_timeout_seconds=4,
        max_session_timeout_seconds=math.inf, call_timeout_seconds=6, start_timeout_seconds=7,
        end_grace_seconds=8, cancel_grace_seconds=9, dispatch_ahead=10, max_templates=11,
        template_bytes=12 * 2**20, template_seconds=13, gpu_wait_seconds=14, park_bytes=15,
    )  # fmt: skip


def test_memory_is_a_size_or_never():
    assert load({}, {}, NO_FILES).worker_memory == math.inf
    assert load({"worker_memory": "2GiB"}, {}, NO_FILES).worker_memory == 2**31
    environ = {"WARMD_WORKER_MEMORY": "2GiB"}
    assert load({"worker_memory": "never"}, environ, NO_FILES).worker_memory == math.inf


def test_the_stronger_source_wins_and_is_named(tmp_path):
    project = write(tmp_path / "warmd.toml", 'session_timeout = "5m"\nmax_queue = 3\nlog_keep = 4')
    user = write(tmp_path / "user.toml", "session_timeout = 1\nmax_queue = 1\nlog_keep = 1\nmax_sessions = 9")
    environ = {"WARMD_SESSION_TIMEOUT": "2m", "WARMD_MAX_QUEUE": "5"}
    settings = load({"session_timeout": "90s", "max_queue": None}, environ, [project, user])
    assert (settings.session_timeout, settings.origin("session_timeout")) == (90, "flag --session-timeout")
    assert (settings.max_queue, settings.origin("max_queue")) == (5, "environment WARMD_MAX_QUEUE")
    assert (settings.log_keep, settings.origin("log_keep")) == (4, str(project))
    assert (settings.max_sessions, settings.origin("max_sessions")) == (9, str(user))


def test_standard_files(tmp_path):
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert config.standard_files(environ)[0] == tmp_path / "warmd" / "config.toml"
    assert config.standard_files({"HOME": "/h"})[0] == Path("/h/.config/warmd/config.toml")
    write(tmp_path / "warmd" / "config.toml", "max_queue = 7")
    assert load({}, environ).max_queue == 7
    only = write(tmp_path / "only.toml", "max_queue = 8")
    assert load({}, environ | {"WARMD_CONFIG": str(only)}).max_queue == 8
    with pytest.raises(ConfigError, match=r"WARMD_CONFIG: there is no file .*gone\.toml"):
        load({}, {"WARMD_CONFIG": str(tmp_path / "gone.toml")})


def test_a_project_is_read_only_when_asked_for(tmp_path, monkeypatch):
    write(tmp_path / "warmd.toml", "max_queue = 3")
    write(tmp_path / "pyproject.toml", "[tool.warmd]\nmax_queue = 4\nlog_keep = 5\n[tool.warmd.app]\nx = 1")
    monkeypatch.chdir(tmp_path)
    assert load({}, {"HOME": "/nowhere"}).max_queue == 256
    settings = load({}, {}, config.project_files(tmp_path))
    assert (settings.max_queue, settings.log_keep) == (3, 5)


@pytest.mark.parametrize(
    ("flags", "environ", "text", "expected"),
    [
        ({"sesion_timeout": 1}, {}, "", "unknown flag --sesion-timeout; did you mean --session-timeout?"),
        ({}, {"WARMD_MAX_SESSION": "1"}, "", "WARMD_MAX_SESSION: no such setting; did you mean"),
        ({}, {"WARMD_XYZZY": "1"}, "", "environment WARMD_XYZZY: no such setting; there are WARMD_"),
        ({}, {}, "max_seesions = 1", "unknown key 'max_seesions'; did you mean max_sessions?"),
        ({}, {}, "max_sessions = ", "not valid TOML"),
        ({}, {"WARMD_MAX_SESSIONS": "many"}, "", "environment WARMD_MAX_SESSIONS: 'many' is"),
        ({"max_sessions": 0}, {}, "", "flag --max-sessions: 0 is not a count"),
        ({}, {}, "max_sessions = true", "True is not a count"),
        ({}, {}, "session_timeout = 0", "0 is refused"),
        ({}, {}, "session_timeout = -1", "-1 is refused"),
        ({}, {}, "session_timeout = 0.5", "under the minimum of 1s"),
        ({}, {}, "session_timeout = true", "True is not a duration"),
        ({}, {}, "session_timeout = nan", "nan is not a duration"),
        ({}, {}, 'call_timeout = "never"', "not possible here"),
        ({"max_message_bytes": "4GiB"}, {}, "", "over the limit of 4294967295B"),
        ({"log_max_bytes": "10B"}, {}, "", "under the minimum of 64KiB"),
        ({"worker_memory": "8MiB"}, {}, "", "under the minimum of 64MiB"),
        ({"worker_memory": "much"}, {}, "", 'or "never"'),
        ({"classes": "maybe"}, {}, "", "not a switch"),
        ({"log_level": "loud"}, {}, "", "give one of debug, info, warning, error"),
        ({"session_timeout": "2h"}, {}, "", "(2h, flag --session-timeout) is over max_session_"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_its_source(tmp_path, flags, environ, text, expected):
    with pytest.raises(ConfigError, match=re.escape(expected)):
        load(flags, environ, [write(tmp_path / "config.toml", text)])


def test_an_error_in_a_file_names_the_file(tmp_path):
    path = write(tmp_path / "warmd.toml", "max_queue = 0")
    with pytest.raises(ConfigError, match=re.escape(str(path))):
        load({}, {}, [path])


def test_a_weaker_source_is_checked_too(tmp_path):
    with pytest.raises(ConfigError, match="not a count"):
        load({"max_queue": 3}, {}, [write(tmp_path / "config.toml", 'max_queue = "x"')])


def test_other_variables_of_ours_are_no_settings():
    others = dict.fromkeys(config.NOT_SETTINGS - {"WARMD_CONFIG"}, "x")
    assert load({}, others, NO_FILES) == load({}, {}, NO_FILES)
    assert {"WARMD_HOST", "WARMD_WORKER_TOKEN", "WARMD_SESSION_ID"} <= config.NOT_SETTINGS


def test_the_gateways_variables_are_the_gateways():
    assert load({}, {"WARMD_HTTP_RATE": "5"}, NO_FILES) == load({}, {}, NO_FILES)
    assert config.GATEWAY_PREFIX == options.VARIABLE


def test_paths_and_switches(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/h")
    monkeypatch.chdir(tmp_path)
    settings = load(
        {}, {"WARMD_APPS": "~/apps:/b:", "WARMD_CLASSES": "off", "WARMD_RUN_DIR": "run"}, NO_FILES
    )
    assert settings.app_folders == ("/h/apps", "/b")
    assert settings.classes is False
    assert settings.run_path == tmp_path / "run"
    file = write(tmp_path / "c.toml", 'app_folders = ["/x", "/y"]\nclasses = true')
    assert load({}, {}, [file]).app_folders == ("/x", "/y")
    assert load({"app_folders": ("/z",)}, {}, [file]).app_folders == ("/z",)


def test_an_empty_variable_counts_as_absent():
    assert load({}, {"WARMD_MAX_QUEUE": ""}, NO_FILES).max_queue == 256


@pytest.mark.parametrize("row", config.schema(), ids=lambda row: row.name)
def test_every_setting_is_described_and_its_spelled_default_reads_back(row):
    assert row.doc
    assert row.variable.startswith("WARMD_")
    settings = load({}, {row.variable: row.shown}, NO_FILES)
    assert getattr(settings, row.name) == row.default == getattr(Settings(), row.name)


def test_a_table_of_settings_that_is_none(tmp_path):
    write(tmp_path / "pyproject.toml", '[tool]\nwarmd = "x"')
    with pytest.raises(ConfigError, match=r"\[tool.warmd\] must be a table of settings, not 'x'"):
        load({}, {}, config.project_files(tmp_path))
