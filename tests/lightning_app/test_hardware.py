"""Which number format `precision: auto` stands for."""

import pytest

from lightning_app import hardware
from lightning_app.specs import Training


@pytest.mark.parametrize(
    ("flags", "answer"),
    [
        ("flags : fpu avx2 avx512_bf16 amx_bf16", True),
        ("flags : fpu avx2 avx512_bf16", False),
        ("flags : fpu avx2", False),
        ("Features : fp bf16", True),
    ],
)
def test_bf16_needs_instructions_for_it(tmp_path, monkeypatch, flags, answer):
    monkeypatch.setattr(hardware.shutil, "which", lambda name: None)
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n")
    assert hardware.computes_bf16(tmp_path / "cpuinfo") is answer


def test_a_machine_that_does_not_tell_gets_float32(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware.shutil, "which", lambda name: None)
    assert hardware.computes_bf16(tmp_path / "missing") is False


@pytest.mark.parametrize(("has_bf16", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_is_decided_before_it_is_hashed(monkeypatch, has_bf16, precision):
    monkeypatch.setattr("lightning_app.specs.computes_bf16", lambda: has_bf16)
    assert Training(precision="auto").resolved().precision == precision
    assert Training(precision="32-true").resolved().precision == "32-true"
