"""GPUs, as far as they can be tested without one: fake devices, flags, and what is refused."""

from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from features.contracts.documents import InferenceRuntime
from features.errors import InputError
from pipelines.runtime import accelerator, launch, model, process_pool
from pipelines.runtime.finding import Level

L4 = "type:nvidia-l4;count:1;install-nvidia-driver"
ONE_PROCESS = "--experiments=no_use_multiple_sdk_containers"


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Device files of a machine with two GPUs."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in ("null", "nvidiactl", "nvidia0", "nvidia1"):
        (tmp_path / name).touch()
    return tmp_path


def dataflow(*flags: str) -> PipelineOptions:
    return PipelineOptions(["--runner=DataflowRunner", *flags])


def test_a_gpu_is_a_device_that_is_not_hidden(
    devices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert accelerator.find_gpus(devices) == ["0", "1"]
    visible = {"-1": [], "": [], "1": ["1"], "GPU-a,0": ["GPU-a", "0"], "1,-1,0": ["1"]}
    for names, expected in visible.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names)
        assert accelerator.find_gpus(devices) == expected
        assert accelerator.has_gpu(devices) == bool(expected)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    for path in devices.glob("nvidia[01]"):
        path.unlink()
    assert not accelerator.has_gpu(devices)  # a driver alone


def test_a_gpu_has_the_name_that_its_driver_gives(tmp_path: Path) -> None:
    assert accelerator.gpu_name(tmp_path) == "gpu"
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "information").write_text("Model: \t\t NVIDIA L4\nIRQ: 9\n")
    assert accelerator.gpu_name(tmp_path) == "NVIDIA L4"


def test_processes_get_the_gpus_by_turns() -> None:
    chosen = [accelerator.assign_gpu(number, ["0", "GPU-a"]) for number in range(3)]
    assert chosen == [{"CUDA_VISIBLE_DEVICES": name} for name in ("0", "GPU-a", "0")]
    assert accelerator.assign_gpu(0, []) == {}


def test_there_is_a_process_for_each_gpu(devices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = accelerator.find_gpus(devices)
    monkeypatch.setattr(accelerator, "find_gpus", lambda: found)
    here = PipelineOptions(["--runner=FnApiRunner"])
    cpu = InferenceRuntime("openvino", "1", "int8")
    gpu = InferenceRuntime("tensorflow", "1", "float32", device="gpu")

    assert process_pool.num_network_workers(None, here, gpu) == 2
    assert process_pool.num_network_workers(3, here, gpu) == 3
    assert process_pool.num_network_workers(None, here, cpu) == 1
    assert process_pool.num_network_workers(None, dataflow(), gpu) == 1


def test_a_gpu_without_cuda_is_a_problem(devices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert accelerator.this_machine(devices / "none").level is Level.OK
    monkeypatch.setattr(accelerator, "_has_cuda", lambda: False)
    found = accelerator.this_machine(devices)
    assert found.level is Level.PROBLEM
    assert "pip install 'tensorflow[and-cuda]'" in found.cure
    monkeypatch.setattr(accelerator, "_has_cuda", lambda: True)
    assert accelerator.this_machine(devices).level is Level.OK


def test_libraries_of_pip_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator.ctypes.util, "find_library", lambda name: None)
    assert not accelerator._has_cuda()
    (tmp_path / "nvidia/cudnn").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert accelerator._has_cuda()


@pytest.mark.parametrize(
    "flag",
    [
        f"--dataflow_service_options=worker_accelerator={L4}",
        f"--experiments=worker_accelerator={L4}",
        f"--resource_hints=accelerator={L4}",
    ],
)
def test_dataflow_has_a_gpu_by_any_of_its_flags(flag: str) -> None:
    assert accelerator.workers_have_gpu(dataflow(flag))
    found = accelerator.dataflow_gpu(dataflow(flag, ONE_PROCESS))
    assert (found.level, L4 in found.found) == (Level.OK, True)
    missing = accelerator.dataflow_gpu(dataflow(flag))
    assert (missing.level, missing.cure) == (Level.PROBLEM, ONE_PROCESS)


def test_dataflow_without_a_gpu_needs_nothing() -> None:
    options = dataflow("--dataflow_service_options=enable_preflight_validation=false")
    assert not accelerator.workers_have_gpu(options)
    assert accelerator.dataflow_gpu(options).level is Level.OK


@pytest.mark.parametrize(
    ("accelerated", "more", "said"),
    [
        ("type:nvidia-l4;count:1", [], "no driver"),
        ("type:nvidia-l4;count:2;install-nvidia-driver", [], "a worker uses one GPU"),
        ("count:1;install-nvidia-driver", [], "a worker uses one GPU"),
        (L4, ["--flexrs_goal=COST_OPTIMIZED"], "FlexRS has no GPUs"),
    ],
)
def test_a_job_with_a_gpu_that_would_not_work_is_refused_first(
    accelerated: str, more: list[str], said: str
) -> None:
    flags = [
        "--runner=DataflowRunner",
        "--project=a-project",
        "--region=europe-west4",
        "--temp_location=gs://bucket/tmp",
        "--sdk_container_image=gcr.io/p/soundtrack",
        f"--dataflow_service_options=worker_accelerator={accelerated}",
        ONE_PROCESS,
        *more,
    ]
    _, options = launch.parse(launch.parser("pipelines.test", "", "A job."), flags)
    with pytest.raises(InputError, match=f"Dataflow GPU: .*{said}"):
        launch.run(lambda pipeline: pytest.fail("built"), options, "gs://b/o", clear=lambda: None)


def test_workers_with_a_gpu_get_tensorflow_on_it() -> None:
    runtime = model.choose_runtime("export", "float32", here=False, gpu=True)
    assert (runtime.name, runtime.device) == ("tensorflow", "gpu")
    assert str(runtime).endswith("in float32 on a GPU")
    on_cpu = InferenceRuntime("tensorflow", runtime.version, "float32")
    with pytest.raises(InputError, match="on a GPU; run it on the same device, or name another"):
        model.choose_runtime("export", "float32", on_cpu, here=False, gpu=True)
    with pytest.raises(InputError, match="int8: runs on processors, and the GPUs of the workers"):
        model.choose_runtime("export", "int8", here=False, gpu=True)
