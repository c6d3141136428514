"""Getting data: downloads that go on, checksums that decide, archives that cannot reach outside their folder."""

import hashlib
import io
import os
import re
import stat
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from stages.data import download
from stages.errors import InputError

CONTENT = os.urandom(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content` at any path but /none; each answer ends after `give` bytes; Range is honoured if `ranges`."""

    content, give, ranges = CONTENT, None, True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []  # the Range headers
        self.url = f"http://127.0.0.1:{self.server_port}/faces.zip"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.headers.get("Range"))
        if self.path == "/none":
            return self.send_error(404, "Not Found")
        data, start = self.server.content, 0
        if self.server.ranges and "Range" in self.headers:
            start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])
            if start >= len(data):
                return self.send_error(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:][: self.server.give])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    with Server() as serving:
        thread = threading.Thread(target=serving.serve_forever, args=[0.01])
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


# ---- downloads


def test_a_file_is_fetched_once(server, tmp_path):
    for _ in range(2):
        path = download.download(server.url, SHA256, tmp_path / "a")
        assert path.read_bytes() == CONTENT
    assert server.asked == [None]
    assert os.listdir(tmp_path) == ["a"]


def test_a_connection_that_breaks_off_goes_on_where_it_was(server, tmp_path):
    server.give = 1_000_000
    assert download.download(server.url, SHA256, tmp_path / "a").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000000-", "bytes=2000000-"]


def test_a_later_call_goes_on_where_a_killed_one_was(server, tmp_path):
    (tmp_path / "a.part").write_bytes(CONTENT[:1_234_567])
    assert download.download(server.url, SHA256, tmp_path / "a").read_bytes() == CONTENT
    assert server.asked == ["bytes=1234567-"]
    assert os.listdir(tmp_path) == ["a"]


def test_a_part_that_is_already_whole_is_used(server, tmp_path):
    (tmp_path / "a.part").write_bytes(CONTENT)
    assert download.download(server.url, SHA256, tmp_path / "a").read_bytes() == CONTENT


def test_a_server_that_ignores_ranges_sends_it_anew(server, tmp_path):
    server.ranges = False
    (tmp_path / "a.part").write_bytes(CONTENT[:1_234_567])
    assert download.download(server.url, SHA256, tmp_path / "a").read_bytes() == CONTENT


def test_a_server_that_never_gets_further_is_given_up_and_the_part_kept(server, tmp_path):
    server.ranges, server.give = False, 1000
    with pytest.raises(InputError, match=r"broke off at 1000 of 3000000 bytes.*goes on from there"):
        download.download(server.url, SHA256, tmp_path / "a")
    assert os.listdir(tmp_path) == ["a.part"]
    assert len(server.asked) == download.TRIES


def test_what_is_not_there_is_told_at_once(server, tmp_path):
    with pytest.raises(InputError, match="404 Not Found"):
        download.download(server.url.replace("faces.zip", "none"), SHA256, tmp_path / "a")
    assert len(server.asked) == 1
    assert os.listdir(tmp_path) == []


def test_no_server_is_told(server, tmp_path):
    with pytest.raises(InputError, match=r"no answer.*refused"):
        download.download("http://127.0.0.1:1/faces.zip", SHA256, tmp_path / "a")


def test_a_wrong_checksum_keeps_the_file_aside_and_the_next_call_starts_anew(server, tmp_path):
    server.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(InputError, match=f"{SHA256} was expected"):
        download.download(server.url, SHA256, tmp_path / "a")
    assert os.listdir(tmp_path) == ["a.bad"]
    server.content = CONTENT
    assert download.download(server.url, SHA256, tmp_path / "a").read_bytes() == CONTENT
    assert server.asked == [None, None]


# ---- archives

FILES = {"images/a.jpg": b"A" * 5000, "images/deep/b.jpg": b"B", "list.txt": b""}


def zipped(path, files=FILES, **info):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            for key, value in info.items():
                setattr(entry, key, value)
            archive.writestr(entry, content)
    return path


def tarred(path, files=FILES, mode="w:gz", **info):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            for key, value in info.items():
                setattr(entry, key, value)
            archive.addfile(entry, io.BytesIO(content))
    return path


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_every_kind_of_archive_unpacks_to_its_files(tmp_path, kind):
    archive = tmp_path / "no-extension"
    zipped(archive) if kind == "zip" else tarred(archive, mode=kind)
    download.unpack(archive, tmp_path / "out")
    assert tree(tmp_path / "out") == FILES


@pytest.mark.parametrize(
    "name", ["../evil", "images/../../evil", "/evil", "..\\evil", "C:\\evil", "C:evil", "\\evil", "a/..", "\0"]
)
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_nothing_outside_the_folder_is_ever_written(tmp_path, pack, name):
    inner = tmp_path / "inner"
    inner.mkdir()
    archive = pack(inner / "archive", {"good.jpg": b"good", name: b"evil"})
    if name == "\0":  # both packers cut a name there: it is empty then, or the archive is damaged
        name = ""
    with pytest.raises(InputError, match="leads out of its folder|damaged|link or a device"):
        download.unpack(archive, inner / "out")
    assert [p.name for p in tmp_path.rglob("*")] == ["inner", "archive"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    archive = tarred(tmp_path / "archive", {"link": b""}, type=kind, linkname="/etc/passwd")
    with pytest.raises(InputError, match="link is a link or a device"):
        download.unpack(archive, tmp_path / "out")
    assert os.listdir(tmp_path) == ["archive"]


def test_links_in_a_zip_are_refused(tmp_path):
    archive = zipped(tmp_path / "archive", {"link": b"/etc/passwd"}, external_attr=(stat.S_IFLNK | 0o777) << 16)
    with pytest.raises(InputError, match="link is a link or a device"):
        download.unpack(archive, tmp_path / "out")
    assert os.listdir(tmp_path) == ["archive"]


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_bomb_is_stopped_before_it_fills_the_disk(tmp_path, monkeypatch, pack):
    monkeypatch.setattr(download, "ALWAYS_ALLOWED", 1 << 20)
    archive = pack(tmp_path / "archive", {"zeros": bytes(30 << 20)})
    assert archive.stat().st_size < 60_000
    with pytest.raises(InputError, match="unpacks to more than"):
        download.unpack(archive, tmp_path / "out")
    assert os.listdir(tmp_path) == ["archive"]


def test_a_bomb_of_empty_files_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MAX_MEMBERS", 100)
    archive = tarred(tmp_path / "archive", {f"{i}": b"" for i in range(101)})
    with pytest.raises(InputError, match="100 files"):
        download.unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_a_damaged_archive_is_told(tmp_path, kind):
    archive, files = tmp_path / "archive", {"a": os.urandom(200_000)}
    zipped(archive, files) if kind == "zip" else tarred(archive, files, mode=kind)
    whole = bytearray(archive.read_bytes())
    for damaged in (whole[:150_000], whole[:100_000] + bytes(1000) + whole[101_000:]):
        archive.write_bytes(damaged)
        if kind == "w" and len(damaged) == len(whole):
            continue  # a plain tar has no checksum of its content: source.sha256 is for that
        with pytest.raises(InputError, match="damaged|neither"):
            download.unpack(archive, tmp_path / "out")
        assert os.listdir(tmp_path) == ["archive"]


def test_an_archive_with_a_password_is_told(tmp_path):
    archive = zipped(tmp_path / "archive")
    data = bytearray(archive.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(mark)
        while place >= 0:
            data[place + at] |= 1
            place = data.find(mark, place + 1)
    archive.write_bytes(data)
    with pytest.raises(InputError, match="password"):
        download.unpack(archive, tmp_path / "out")


# ---- the root of a dataset


def test_a_folder_is_itself(tmp_path):
    assert download.obtain(tmp_path, tmp_path / "store", None) == tmp_path
    assert os.listdir(tmp_path) == []


def test_an_archive_is_unpacked_once(tmp_path):
    archive = tarred(tmp_path / "faces.tar.gz")
    folder = download.obtain(archive, tmp_path / "store", None)
    assert tree(folder) == FILES
    (folder / "mark").touch()
    assert download.obtain(archive, tmp_path / "store", None) == folder
    assert (folder / "mark").exists()


def test_an_archive_with_a_wrong_checksum_is_not_used(tmp_path):
    archive = zipped(tmp_path / "faces.zip")
    with pytest.raises(InputError, match=r"faces\.zip: its SHA-256 is"):
        download.obtain(archive, tmp_path / "store", SHA256)
    assert tree(tmp_path / "store").keys() <= {".lock"}


def test_a_url_is_fetched_and_unpacked_once(server, tmp_path):
    server.content = zipped(tmp_path / "faces.zip").read_bytes()
    sha256 = hashlib.sha256(server.content).hexdigest()
    for _ in range(2):
        assert tree(download.obtain(server.url, tmp_path / "store", sha256)) == FILES
    assert server.asked == [None]
    assert sorted(os.listdir(tmp_path / "store")) == [".lock", sha256[:16]]


def test_a_url_needs_a_checksum(server, tmp_path):
    with pytest.raises(InputError, match=r"source\.sha256 is needed"):
        download.obtain(server.url, tmp_path, None)


def test_what_is_no_archive_is_told(tmp_path):
    (tmp_path / "faces.rar").write_bytes(b"Rar!" * 100)
    with pytest.raises(InputError, match="neither a folder nor a zip or tar archive"):
        download.obtain(tmp_path / "faces.rar", tmp_path / "store", None)
