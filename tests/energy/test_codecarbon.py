"""The real codecarbon: its readings, their labels, and that it touches no network, file or setting."""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import infertune.energy.codecarbon as ours
from infertune.domain.device import cpu
from infertune.domain.measurement import Energy
from infertune.energy.base import CarbonOptions
from infertune.energy.codecarbon import (
    CodeCarbonMeter,
    carbon_factor,
    check_country,
    codecarbon_status,
    country_names,
    with_co2,
)
from infertune.errors import UsageError

ROOT = Path(__file__).parents[2]

# A meter from its first import to its end, watched by an audit hook: its connections, the files it opens for writing.
LIFE = """
import sys
attempts, written = [], []
def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        attempts.append(event)
    elif event == "open" and isinstance(args[0], str) and set(args[1] or "") & set("wax+") and args[0] != "/dev/null":
        written.append(str(args[0]))
sys.addaudithook(watch)
import json, logging, socket, threading, time
before = logging.getLogger().level, list(logging.getLogger().handlers), logging.getLogger("infertune").level
from infertune.domain.device import cpu
from infertune.energy.base import CarbonOptions
from infertune.energy.codecarbon import CodeCarbonMeter, carbon_factor
meter = CodeCarbonMeter(cpu(), CarbonOptions(country="DEU"))
def count_threads():
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join(2)  # a timer that was cancelled ends at once, one that runs on is followed by another
    return threading.active_count()
threads = [count_threads()]
windows = []
for _ in range(2):
    meter.begin()
    started = time.perf_counter()
    while time.perf_counter() - started < 0.6:
        pass
    windows.append(meter.end().energy)
threads.append(count_threads())
hardware = [type(part).__name__ for part in meter._tracker._hardware]
factor = carbon_factor(CarbonOptions(country="DEU"))
meter.close()
after = logging.getLogger().level, list(logging.getLogger().handlers), logging.getLogger("infertune").level
seen = list(attempts)
try:
    socket.getaddrinfo("localhost", 1)  # the watch itself works
except OSError:
    pass
print(json.dumps({
    "windows": [window.model_dump() for window in windows], "attempts": seen, "watching": len(attempts) > len(seen),
    "written": written, "threads": threads, "loggers_same": before == after, "factor": factor,
    "hardware": hardware,
}))
"""


def _live(folder: Path, **environment: str) -> dict[str, object]:
    """The script above with empty home, working and temporary folders: its output, and that it left no file there."""
    places = {name: folder / name for name in ("HOME", "TMPDIR", "cwd")}
    for place in places.values():
        place.mkdir(exist_ok=True)
    files = set(folder.rglob("*"))
    run = subprocess.run(
        [sys.executable, "-c", LIFE],
        cwd=places["cwd"],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(places["HOME"]),
            "TMPDIR": str(places["TMPDIR"]),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert set(folder.rglob("*")) == files
    assert run.stderr == ""
    answer: dict[str, object] = json.loads(run.stdout)
    assert answer["watching"]
    return answer


@pytest.fixture(scope="module")
def meter() -> Iterator[CodeCarbonMeter]:
    started = time.perf_counter()
    opened = CodeCarbonMeter(cpu(), CarbonOptions())
    print(f"\nopen a meter: {time.perf_counter() - started:.2f} s")
    yield opened
    opened.close()


def _window(meter: CodeCarbonMeter, seconds: float, busy: bool = False) -> tuple[Energy, float]:
    """A window and its length: energy is power over real time, which therefore has to pass."""
    spin = f"import time\nwhile time.time() < {time.time() + seconds}: pass"
    others = [subprocess.Popen([sys.executable, "-S", "-c", spin]) for _ in range(busy * (os.cpu_count() or 1))]
    meter.begin()
    started = time.perf_counter()
    time.sleep(seconds)
    lasted = time.perf_counter() - started
    energy = meter.end().energy
    for other in others:
        other.wait()
    return energy, lasted


def _watts(meter: CodeCarbonMeter, seconds: float) -> float:
    energy, lasted = _window(meter, seconds)
    return (energy.ram_j or 0) / lasted


class TestIsolation:
    def test_it_uses_no_network_writes_no_file_changes_no_logger_and_prints_nothing(self, tmp_path: Path) -> None:
        life = _live(tmp_path)
        assert life["attempts"] == []
        assert life["written"] == []
        assert life["loggers_same"]
        assert life["threads"] == [1, 1]
        assert life["hardware"] == ["RAM", "CPU"]
        assert life["factor"] == list(carbon_factor(CarbonOptions(country="DEU")))

    def test_the_users_settings_change_nothing(self, tmp_path: Path) -> None:
        settings = {
            "pue": "10",
            "force_cpu_power": "9999",
            "force_ram_power": "9999",
            "tracking_mode": "process",
            "output_methods": "csv",
            "output_handlers": "x",
            "save_to_api": "true",
            "emissions_endpoint": "http://192.0.2.1/",
            "electricitymaps_api_token": "token",
            "api_call_interval": "1",
            "cloud_provider": "aws",
            "cloud_region": "nowhere",
            "country_iso_code": "ZZZ",
            "allow_multiple_runs": "false",
            "output_dir": "/nonexistent",
            "log_level": "nonsense",
        }
        for folder in ("HOME", "cwd"):
            (tmp_path / folder).mkdir()
        lines = [f"{name} = {value}" for name, value in settings.items()]
        (tmp_path / "HOME/.codecarbon.config").write_text("\n".join(["[codecarbon]", *lines]))
        (tmp_path / "cwd/.codecarbon.config").write_text("this is no configuration file at all")
        life = _live(tmp_path, **{f"CODECARBON_{name.upper()}": value for name, value in settings.items()})
        assert (life["attempts"], life["written"], life["loggers_same"]) == ([], [], True)
        for energy in (Energy.model_validate(window) for window in life["windows"]):  # type: ignore[attr-defined]
            assert energy.cpu_j and energy.ram_j
            assert energy.cpu_j < 0.6 * 1000
            assert energy.ram_j < 0.6 * 500
            assert "9999" not in energy.reason

    def test_gpus_are_neither_looked_for_nor_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from codecarbon.core import gpu, hardware_cache
        from codecarbon.external.hardware import GPU

        touched: list[str] = []
        hardware_cache.clear_cache()
        monkeypatch.setattr(gpu, "is_nvidia_system", lambda: bool(touched.append("looked for")) or True)
        monkeypatch.setattr(GPU, "from_utils", classmethod(lambda cls, ids: touched.append("opened")))
        meter = CodeCarbonMeter(cpu(), CarbonOptions())
        energy, _ = _window(meter, 0.11)
        meter.close()
        assert (energy.ram_j or 0) > 0
        assert energy.gpu_j is None
        assert touched == []

    def test_codecarbon_is_as_before_for_others_in_the_process(self) -> None:
        from codecarbon import emissions_tracker
        from codecarbon.core.config import get_hierarchical_config
        from codecarbon.core.resource_tracker import ResourceTracker

        CodeCarbonMeter(cpu(), CarbonOptions()).close()
        assert emissions_tracker.get_hierarchical_config is get_hierarchical_config
        assert ResourceTracker.set_GPU_tracking.__name__ == "set_GPU_tracking"
        assert not logging.getLogger("codecarbon").disabled

    def test_a_tracker_asks_neither_nvidia_smi_nor_nvml_which_hang_with_a_broken_driver(self, tmp_path: Path) -> None:
        asked = tmp_path / "asked"
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho x > {asked}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
        script = (
            "import subprocess, pynvml\n"
            "def called(*_): raise SystemExit('NVML was called')\n"
            "pynvml.nvmlInit, check_output = called, subprocess.check_output\n"
            "from infertune.energy.codecarbon import codecarbon_status\n"
            "print(len(codecarbon_status()))\n"
            "import sys; assert sys.modules['pynvml'] is pynvml and subprocess.check_output is check_output\n"
        )
        environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
        answer = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, env=environment
        )
        assert answer.stdout.strip() == "2" and not asked.exists()

    def test_importing_the_module_and_naming_a_factor_do_not_import_codecarbon(self) -> None:
        script = (
            "import sys; from infertune.energy.codecarbon import *; check_country('DEU')\n"
            "carbon_factor(CarbonOptions(country='DEU')); print('codecarbon' in sys.modules)"
        )
        answer = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
        assert answer.stdout.strip() == "False"


class TestWindows:
    def test_energy_follows_the_load_of_the_machine(self, meter: CodeCarbonMeter) -> None:
        if meter._cpu.source != "modelled":
            pytest.skip("a counter is read here")
        tdp_w = next(part for part in meter._tracker._hardware if type(part).__name__ == "CPU")._tdp  # type: ignore[union-attr]
        for busy in (False, True):
            before = psutil.cpu_times()
            energy, lasted = _window(meter, 0.8, busy)
            spent = [now - then for now, then in zip(psutil.cpu_times(), before, strict=True)][:8]
            load = 1 - (spent[3] + spent[4]) / sum(spent)
            print(f"\nload {load:.2f}: CPU {energy.cpu_j} J, memory {energy.ram_j} J; {energy.reason}")
            assert energy.cpu_j == pytest.approx(lasted * tdp_w * (0.1 + 0.9 * load**3), rel=0.2)
            assert energy.ram_j

    def test_energy_is_that_of_the_window_alone(self, meter: CodeCarbonMeter) -> None:
        watts = [_watts(meter, seconds) for seconds in (0.2, 0.6, 0.2)]
        assert watts == pytest.approx([watts[0]] * 3, rel=0.1)

    def test_modelled_figures_are_labelled_modelled(self, meter: CodeCarbonMeter) -> None:
        energy, _ = _window(meter, 0.2)
        assert energy.ram_source == "modelled"
        assert "codecarbon 3" in energy.reason
        if not any(ours._POWERCAP.glob("intel-rapl*/energy_uj")):
            assert energy.cpu_source == "modelled"
            assert "TDP" in energy.reason and "no RAPL" in energy.reason

    def test_a_window_too_short_to_read_the_load_has_no_modelled_cpu_energy(self, meter: CodeCarbonMeter) -> None:
        if meter._cpu.source != "modelled":
            pytest.skip("a counter is read here")
        energy, _ = _window(meter, 0.02)
        assert (energy.cpu_j, energy.cpu_source) == (None, "none")
        assert "too short" in energy.reason
        assert energy.ram_j

    def test_a_window_whose_engine_failed_is_dropped_by_the_next(self, meter: CodeCarbonMeter) -> None:
        meter.begin()
        time.sleep(0.5)
        assert _watts(meter, 0.2) == pytest.approx(_watts(meter, 0.2), rel=0.1)

    @pytest.mark.slow
    @pytest.mark.timed
    def test_begin_end_and_the_thread_cost_little(self, meter: CodeCarbonMeter) -> None:
        begins, ends = [], []
        for _ in range(20):
            started = time.perf_counter()
            meter.begin()
            begins.append(time.perf_counter() - started)
            started = time.perf_counter()
            meter.end()
            ends.append(time.perf_counter() - started)
        before = time.process_time()
        time.sleep(2.1)
        none = time.process_time() - before
        meter.begin()
        before = time.process_time()
        time.sleep(2.1)
        within = time.process_time() - before
        meter.end()
        print(
            f"\nbegin {sorted(begins)[10] * 1e3:.2f} ms, end {sorted(ends)[10] * 1e3:.2f} ms; "
            f"CPU time a second: {within / 2.1 * 1e3:.2f} ms in a window, {none / 2.1 * 1e3:.2f} ms without"
        )
        assert sorted(begins)[10] < 0.02
        assert sorted(ends)[10] < 0.02
        assert within - none < 0.02 * 2.1


class TestFailures:
    def test_an_end_without_a_begin_is_unknown_with_a_reason(self, meter: CodeCarbonMeter) -> None:
        assert meter.end().energy == Energy(reason="CPU and memory energy unknown: no window is open")

    def test_a_codecarbon_that_cannot_be_opened_leaves_a_meter_that_says_so(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import codecarbon

        monkeypatch.delattr(codecarbon, "OfflineEmissionsTracker")
        meter = CodeCarbonMeter(cpu(), CarbonOptions())
        meter.measure_idle()
        meter.begin()
        energy = meter.end().energy
        meter.close()
        assert energy == Energy(reason=energy.reason)
        assert "codecarbon failed: ImportError" in energy.reason
        status = codecarbon_status()
        assert [(source.kind, "ImportError" in source.reason) for source in status] == [("none", True)]

    @pytest.mark.parametrize("method", ["start_task", "stop_task", "stop"])
    def test_no_error_of_codecarbon_leaves_the_meter(self, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
        meter = CodeCarbonMeter(cpu(), CarbonOptions())

        error = RuntimeError("no such sensor")

        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr(meter._tracker, method, fail)
        energy, _ = _window(meter, 0.11)
        meter.close()
        meter.close()
        if method != "stop":
            assert energy == Energy(reason="CPU and memory energy unknown: codecarbon failed: " + repr(error))

    def test_a_missing_answer_of_codecarbon_is_unknown_energy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        meter = CodeCarbonMeter(cpu(), CarbonOptions())
        monkeypatch.setattr(meter._tracker, "stop_task", lambda: None)
        meter.begin()
        energy = meter.end().energy
        assert energy.total_j is None
        assert "unknown" in energy.reason


@pytest.fixture
def rapl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A RAPL package domain as Linux shows it, where codecarbon looks; its counter file."""
    from codecarbon.core import cpu as their_cpu
    from codecarbon.core import hardware_cache

    folder = tmp_path / "intel-rapl"
    domain = folder / "intel-rapl:0"
    domain.mkdir(parents=True)
    (domain / "name").write_text("package-0\n")
    (domain / "energy_uj").write_text("1000000000\n")
    (domain / "max_energy_range_uj").write_text("262143328850\n")
    real = their_cpu.IntelRAPL.__init__

    def here(self: object, rapl_dir: str = "", **options: bool) -> None:
        real(self, rapl_dir=str(folder), **options)

    monkeypatch.setattr(their_cpu.IntelRAPL, "__init__", here)
    monkeypatch.setattr(their_cpu, "is_rapl_available", lambda: True)
    hardware_cache.clear_cache()
    yield domain / "energy_uj"
    hardware_cache.clear_cache()


class TestRapl:
    def test_its_joules_are_exact_and_labelled_measured_however_short_the_window(self, rapl: Path) -> None:
        meter = CodeCarbonMeter(cpu(), CarbonOptions())
        for joules in (50, 7):
            meter.begin()
            rapl.write_text(str(int(rapl.read_text()) + joules * 1_000_000))
            energy = meter.end().energy
            assert energy.cpu_j == pytest.approx(joules, rel=1e-6)
            assert energy.cpu_source == "measured"
            assert "measured through RAPL by codecarbon" in energy.reason
            assert energy.ram_source == "modelled"
        meter.close()
        assert codecarbon_status()[0].kind == "counter"

    def test_a_counter_that_cannot_be_read_any_more_is_unknown_and_not_0_joules(self, rapl: Path) -> None:
        meter = CodeCarbonMeter(cpu(), CarbonOptions())
        meter.begin()
        rapl.unlink()
        energy = meter.end().energy
        meter.close()
        assert (energy.cpu_j, energy.cpu_source) == (None, "none")
        assert "codecarbon gave 0 J" in energy.reason

    def test_a_window_in_which_the_counter_may_wrap_is_doubted(
        self, rapl: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ours, "_LONGEST_COUNTER_S", 0.0)
        meter = CodeCarbonMeter(cpu(), CarbonOptions())
        meter.begin()
        rapl.write_text("1000001000")
        assert "may be low" in meter.end().energy.reason
        meter.close()

    def test_counters_that_only_root_may_read_are_named_with_the_cure(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "intel-rapl:0").mkdir()
        (tmp_path / "intel-rapl:0/energy_uj").write_text("1")
        monkeypatch.setattr(ours, "_POWERCAP", tmp_path)
        if codecarbon_status()[0].kind == "modelled":
            assert "sudo chmod a+r" in codecarbon_status()[0].reason


class TestStatus:
    def test_it_names_processors_and_memory_and_how_they_are_read(self) -> None:
        processors, memory = codecarbon_status()
        assert processors.kind in ("counter", "modelled")
        assert processors.resolution and processors.reason
        assert memory.kind == "modelled"
        assert " W by codecarbon" in memory.reason


class TestCountries:
    def test_every_factor_is_the_one_that_codecarbon_itself_would_use(self) -> None:
        from codecarbon.core.emissions import Emissions
        from codecarbon.core.units import Energy as TheirEnergy
        from codecarbon.external.geography import GeoMetadata
        from codecarbon.input import DataSource

        theirs = Emissions(DataSource())
        names = country_names()
        assert set(names) == set(DataSource().get_global_energy_mix_data())
        for code, name in names.items():
            place = GeoMetadata(country_iso_code=code, country_name=name)
            kg = theirs.get_country_emissions(TheirEnergy.from_energy(kWh=1.0), place)
            assert carbon_factor(CarbonOptions(country=code))[0] == pytest.approx(kg * 1000)

    def test_a_country_is_taken_in_either_case(self) -> None:
        assert check_country("deu") == check_country(" DEU ") == "DEU"
        assert country_names()["DEU"] == "Germany"

    @pytest.mark.parametrize("asked", ["Germany", "GER", "DE", "germny"])
    def test_an_unknown_country_is_refused_with_the_code_that_was_meant(self, asked: str) -> None:
        with pytest.raises(UsageError, match=r"DEU \(Germany\).*--carbon-intensity"):
            check_country(asked)

    @pytest.mark.parametrize("asked", ["", "ZZZ", "\N{SNOWMAN}"])
    def test_a_country_without_a_similar_name_is_refused_with_examples(self, asked: str) -> None:
        with pytest.raises(UsageError, match=r"such as \w{3} \("):
            check_country(asked)


class TestCo2:
    def test_a_factor_given_wins_over_the_country(self) -> None:
        options = CarbonOptions(country="DEU", intensity_g_per_kwh=56.0)
        assert carbon_factor(options) == (56.0, "56 g/kWh, given")

    def test_a_factor_of_zero_is_a_factor(self) -> None:
        assert carbon_factor(CarbonOptions(intensity_g_per_kwh=0.0))[0] == 0.0
        assert with_co2(Energy(gpu_j=1.0, gpu_source="measured"), 0.0, "0 g/kWh, given").co2e_g == 0.0

    def test_a_countrys_factor_names_its_year_and_source(self) -> None:
        factor, words = carbon_factor(CarbonOptions(country="FRA"))
        assert factor == pytest.approx(56, abs=20)
        assert words.startswith(f"{factor:.0f} g/kWh, FRA 20")
        assert ", codecarbon 3" in words

    @pytest.mark.parametrize(
        ("options", "why"), [(CarbonOptions(), "no --country or --carbon"), (CarbonOptions(country="ZZZ"), "'ZZZ'")]
    )
    def test_without_a_factor_there_is_a_reason_and_no_world_average(self, options: CarbonOptions, why: str) -> None:
        factor, words = carbon_factor(options)
        assert factor is None
        assert why in words
        energy = with_co2(Energy(gpu_j=1.0, gpu_source="measured", reason="so"), factor, words)
        assert energy == Energy(gpu_j=1.0, gpu_source="measured", reason=f"so; CO₂ unknown: {words}")

    def test_it_covers_all_energy_that_is_known_the_gpus_too(self) -> None:
        energy = Energy(
            gpu_j=3.0e6, gpu_source="measured", cpu_j=0.5e6, cpu_source="modelled", ram_j=0.1e6, ram_source="modelled"
        )
        full = with_co2(energy, 400.0, "400 g/kWh, given")
        assert full.co2e_g == pytest.approx(400.0)
        assert (full.co2e_source, full.co2e_factor) == ("modelled", "400 g/kWh, given")
        assert full.model_copy(update={"co2e_g": None, "co2e_source": "none", "co2e_factor": ""}) == energy

    def test_it_is_measured_only_if_every_part_is(self) -> None:
        energy = Energy(gpu_j=3.6e6, gpu_source="measured", cpu_j=3.6e6, cpu_source="measured")
        full = with_co2(energy, 100.0, "100 g/kWh, given")
        assert (full.co2e_g, full.co2e_source) == (pytest.approx(200.0), "measured")

    def test_of_no_energy_it_is_unknown(self) -> None:
        assert with_co2(Energy(), 100.0, "100 g/kWh, given") == Energy(reason="CO₂ unknown: no energy is known")
