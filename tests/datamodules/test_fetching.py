"""Against a server on this machine with PhysioNet's file tree."""

import functools
import hashlib
import threading
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from datamodules import fetching
from datamodules.errors import ConfigError, DataError, IntegrityError
from datamodules.fetching import fetch
from datamodules.signals import WfdbFolder, write_recording
from tests.datamodules.annotation.drawing import bumpy_recording
from tests.datamodules.rendering.recordings import marked


class Handler(SimpleHTTPRequestHandler):
    """Serves ranges, counts requests, and can break off in the middle of a file."""

    asked: list[tuple[str, str | None]]
    breaks_at: int | None

    def log_message(self, *_):
        pass

    def do_GET(self):
        wanted = self.headers.get("Range")
        path = self.translate_path(self.path)
        self.server.asked.append((self.path, wanted))
        try:
            with open(path, "rb") as file:  # noqa: PTH123
                content = file.read()
        except OSError:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        if self.server.breaks_at is not None and path.endswith(".dat"):
            rest, self.server.breaks_at = rest[: self.server.breaks_at], None
        self.wfile.write(rest)


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching.time, "sleep", lambda _: None)
    root = tmp_path / "server"
    ludb, ptb = root / "ludb/1.0.1", root / "ptb-xl/1.0.3"
    for number in (1, 2, 3):
        (ludb / "data").mkdir(parents=True, exist_ok=True)
        write_recording(
            ludb / f"data/{number}", replace(bumpy_recording(number), marks={"V1": marked([1.0])})
        )
    (ludb / "RECORDS").write_text("data/1\ndata/2\ndata/3\n")
    (ptb / "records500/00000").mkdir(parents=True)
    table = "ecg_id,patient_id,filename_lr,filename_hr\n"
    for number, patient in ((1, "7.0"), (2, "7.0"), (3, "8.0")):
        stem = f"records500/00000/{number:05d}_hr"
        write_recording(ptb / stem, bumpy_recording(number))
        table += f"{number},{patient},,{stem}\n"
    (ptb / "ptbxl_database.csv").write_text(table)
    for folder in (ludb, ptb):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        (folder / "SHA256SUMS.txt").write_text(
            "".join(
                f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.relative_to(folder).as_posix()}\n"
                for path in files
            )
        )
    http = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(root)))
    http.asked, http.breaks_at = [], None
    http.root, http.url = root, f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield http
    http.shutdown()
    thread.join()
    http.server_close()


def test_records_come_whole_and_can_be_drawn(server, tmp_path):
    seen = []
    records = fetch(
        "ludb", 2, tmp_path / "out", server=server.url, on_progress=lambda *done: seen.append(done)
    )
    assert seen == [(1, 2), (2, 2)]
    source = WfdbFolder(tmp_path / "out")
    assert len(source.record_ids()) == 2
    for record in records:
        there = server.root / "ludb/1.0.1" / record.relative_to(tmp_path / "out")
        assert record.with_suffix(".dat").read_bytes() == there.with_suffix(".dat").read_bytes()
    recording = source.load(source.record_ids()[0])
    assert recording.mv.shape == (12, 5000)
    assert set(recording.marks) == {"V1"}  # and no file that the server does not list was asked for
    assert not list((tmp_path / "out").rglob("*.part"))


def test_fewer_records_are_among_more(server, tmp_path):
    few = fetch("ludb", 1, tmp_path / "out", server=server.url)
    server.asked.clear()
    many = fetch("ludb", 3, tmp_path / "out", server=server.url)
    assert set(few) < set(many)
    assert not any(few[0].name + ".dat" in path for path, _ in server.asked)  # hashed, not fetched again


def test_no_patient_comes_twice(server, tmp_path):
    records = fetch("ptb-xl", 2, tmp_path / "out", server=server.url)
    assert {record.name for record in records} == {"00001_hr", "00003_hr"}
    with pytest.raises(ConfigError, match="at most 2, one per patient"):
        fetch("ptb-xl", 3, tmp_path / "out", server=server.url)


def test_a_broken_line_is_continued_where_it_broke(server, tmp_path):
    server.breaks_at = 1000
    (record,) = fetch("ludb", 1, tmp_path / "out", server=server.url)
    ranges = [wanted for path, wanted in server.asked if path.endswith(".dat")]
    assert ranges == [None, "bytes=1000-"]
    assert record.with_suffix(".dat").stat().st_size == 12 * 5000 * 2


def test_a_killed_download_is_continued_by_the_next_run(server, tmp_path):
    (record,) = fetch("ludb", 1, tmp_path / "out", server=server.url)
    data = record.with_suffix(".dat")
    whole = data.read_bytes()
    data.unlink()
    data.with_name(data.name + ".part").write_bytes(whole[:500])
    server.asked.clear()
    fetch("ludb", 1, tmp_path / "out", server=server.url)
    assert data.read_bytes() == whole
    assert [wanted for path, wanted in server.asked if path.endswith(".dat")] == ["bytes=500-"]


def test_a_file_that_is_not_the_listed_one_is_refused(server, tmp_path):
    for path in (server.root / "ludb/1.0.1/data").glob("*.dat"):
        path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(IntegrityError, match="SHA256_MISMATCH"):
        fetch("ludb", 1, tmp_path / "out", server=server.url)
    assert not list((tmp_path / "out").rglob("*.dat*"))


def test_a_record_that_leaves_the_folder_is_refused(server, tmp_path):
    (server.root / "ludb/1.0.1/RECORDS").write_text("../../evil\n")
    with pytest.raises(IntegrityError, match="PATH_ESCAPE"):
        fetch("ludb", 1, tmp_path / "out", server=server.url)


def test_an_unlisted_file_is_refused(server, tmp_path):
    (server.root / "ludb/1.0.1/SHA256SUMS.txt").write_text("")
    with pytest.raises(IntegrityError, match="SHA256_ABSENT"):
        fetch("ludb", 1, tmp_path / "out", server=server.url)


def test_a_missing_file_and_a_wrong_address_are_told(server, tmp_path):
    (server.root / "ludb/1.0.1/RECORDS").unlink()
    with pytest.raises(DataError, match="HTTP 404"):
        fetch("ludb", 1, tmp_path / "out", server=server.url)
    with pytest.raises(ConfigError, match="SERVER_INVALID"):
        fetch("ludb", 1, tmp_path / "out", server="file:///etc/")
    with pytest.raises(ConfigError, match="SOURCE_UNKNOWN"):
        fetch("mine", 1, tmp_path / "out", server=server.url)
