"""Downloads that resume and are checked by their SHA-256, and archives that cannot write outside their folder."""

import gzip
import hashlib
import io
import os
import re
import stat
import tarfile
import threading
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from stages.sources import archives, download
from stages.system.errors import InputError

CONTENT = os.urandom(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content` at any path but /none; a response ends after `limit` bytes; Range is honoured if `ranges`."""

    content, limit, ranges = CONTENT, None, True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []  # their Range headers
        self.url = f"http://127.0.0.1:{self.server_port}/faces.zip"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.headers.get("Range"))
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
        self.wfile.write(data[start:][: self.server.limit])

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


def downloaded(folder):
    """The files in the folder except for locks."""
    return sorted(name for name in os.listdir(folder) if name != ".a.lock")


# ---- downloads


def test_a_file_is_downloaded_once(server, tmp_path):
    for _ in range(2):
        path = download.download(server.url, SHA256, tmp_path / "a")
        assert path.read_bytes() == CONTENT
    assert server.requests == [None]
    assert downloaded(tmp_path) == ["a"]


def test_simultaneous_downloads_of_one_file_share_it(server, tmp_path):
    server.limit = 1_000_000
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: download.download(server.url, SHA256, tmp_path / "a"), range(4)))
    assert [path.read_bytes() == CONTENT for path in paths] == [True] * 4
    assert server.requests == [None, "bytes=1000000-", "bytes=2000000-"]


def test_an_interrupted_connection_is_resumed(server, tmp_path):
    server.limit = 1_000_000
    assert download.download(server.url, SHA256, tmp_path / "a").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=1000000-", "bytes=2000000-"]


def test_the_download_of_a_killed_process_is_resumed(server, tmp_path):
    (tmp_path / "a.part").write_bytes(CONTENT[:1_234_567])
    assert download.download(server.url, SHA256, tmp_path / "a").read_bytes() == CONTENT
    assert server.requests == ["bytes=1234567-"]
    assert downloaded(tmp_path) == ["a"]


def test_a_part_that_is_already_complete_is_used(server, tmp_path):
    (tmp_path / "a.part").write_bytes(CONTENT)
    assert download.download(server.url, SHA256, tmp_path / "a").read_bytes() == CONTENT


def test_a_server_that_ignores_ranges_sends_the_whole_file_again(server, tmp_path):
    server.ranges = False
    (tmp_path / "a.part").write_bytes(CONTENT[:1_234_567])
    assert download.download(server.url, SHA256, tmp_path / "a").read_bytes() == CONTENT


def test_a_server_that_makes_no_progress_is_given_up_and_the_part_is_kept(server, tmp_path):
    server.ranges, server.limit = False, 1000
    with pytest.raises(InputError, match=r"broke off at 1000 of 3000000 bytes.*run the same command to continue"):
        download.download(server.url, SHA256, tmp_path / "a")
    assert downloaded(tmp_path) == ["a.part"]
    assert len(server.requests) == download.TRIES


def test_a_missing_file_is_reported_at_once(server, tmp_path):
    with pytest.raises(InputError, match="404 Not Found"):
        download.download(server.url.replace("faces.zip", "none"), SHA256, tmp_path / "a")
    assert len(server.requests) == 1
    assert downloaded(tmp_path) == []


def test_an_unreachable_server_is_reported(server, tmp_path):
    with pytest.raises(InputError, match=r"no answer.*refused"):
        download.download("http://127.0.0.1:1/faces.zip", SHA256, tmp_path / "a")


def test_a_file_with_a_wrong_checksum_is_set_aside_and_downloaded_again_by_the_next_call(server, tmp_path):
    server.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(InputError, match=f"{SHA256} was expected"):
        download.download(server.url, SHA256, tmp_path / "a")
    assert downloaded(tmp_path) == ["a.bad"]
    server.content = CONTENT
    assert download.download(server.url, SHA256, tmp_path / "a").read_bytes() == CONTENT
    assert server.requests == [None, None]


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
    archives.unpack(archive, tmp_path / "out")
    assert tree(tmp_path / "out") == FILES


@pytest.mark.parametrize(
    "name", ["../evil", "images/../../evil", "/evil", "..\\evil", "C:\\evil", "C:evil", "\\evil", "a/..", "\0"]
)
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_nothing_is_written_outside_the_folder(tmp_path, pack, name):
    inner = tmp_path / "inner"
    inner.mkdir()
    archive = pack(inner / "archive", {"good.jpg": b"good", name: b"evil"})
    # both packers cut a name at "\0": it is empty then, or the archive is damaged
    with pytest.raises(InputError, match="points outside its folder|damaged|link or a device"):
        archives.unpack(archive, inner / "out")
    assert [p.name for p in tmp_path.rglob("*")] == ["inner", "archive"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    archive = tarred(tmp_path / "archive", {"link": b""}, type=kind, linkname="/etc/passwd")
    with pytest.raises(InputError, match="link is a link or a device"):
        archives.unpack(archive, tmp_path / "out")
    assert os.listdir(tmp_path) == ["archive"]


def test_links_in_a_zip_are_refused(tmp_path):
    archive = zipped(tmp_path / "archive", {"link": b"/etc/passwd"}, external_attr=(stat.S_IFLNK | 0o777) << 16)
    with pytest.raises(InputError, match="link is a link or a device"):
        archives.unpack(archive, tmp_path / "out")
    assert os.listdir(tmp_path) == ["archive"]


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_decompression_bomb_is_stopped_before_it_fills_the_disk(tmp_path, monkeypatch, pack):
    monkeypatch.setattr(archives, "ALWAYS_ALLOWED", 1 << 20)
    archive = pack(tmp_path / "archive", {"zeros": bytes(30 << 20)})
    assert archive.stat().st_size < 60_000
    with pytest.raises(InputError, match="unpacks to more than"):
        archives.unpack(archive, tmp_path / "out")
    assert os.listdir(tmp_path) == ["archive"]


def test_a_decompression_bomb_of_empty_files_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 100)
    archive = tarred(tmp_path / "archive", {f"{i}": b"" for i in range(101)})
    with pytest.raises(InputError, match="100 files"):
        archives.unpack(archive, tmp_path / "out")


def test_a_zip_that_claims_too_much_is_refused_before_anything_is_unpacked(tmp_path, monkeypatch):
    archive = zipped(tmp_path / "archive", {f"{i}": b"" for i in range(101)})
    monkeypatch.setattr(archives, "MAX_MEMBERS", 100)
    monkeypatch.setattr(zipfile.ZipFile, "open", None)  # a member that is opened fails
    with pytest.raises(InputError, match="100 files"):
        archives.unpack(archive, tmp_path / "out")
    monkeypatch.undo()
    archive = zipped(tmp_path / "archive", {"a": b"A" * 100})
    data = bytearray(archive.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = (2**32 - 2).to_bytes(4, "little")
    archive.write_bytes(data)
    with pytest.raises(InputError, match="unpacks to more than 64 MiB"):
        archives.unpack(archive, tmp_path / "out")


def claiming(path, kind: bytes, size: int, repeats: int = 1, content: bytes = b""):
    """A tar, compressed, whose first headers of a kind claim `size` bytes each."""
    entry = tarfile.TarInfo("header")
    entry.type, entry.size = kind, size
    block = entry.tobuf(tarfile.GNU_FORMAT)
    with gzip.open(path, "wb", 1) as file:
        for _ in range(repeats):
            file.write(block + content)
        for _ in range(size >> 20 if not content else 0):
            file.write(bytes(1 << 20))
    return path


@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME]
)  # fmt: skip
def test_a_tar_whose_header_is_larger_than_memory_is_refused_before_it_is_read(tmp_path, kind):
    archive = claiming(tmp_path / "archive", kind, 64 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"archive: header: its .*claim 67108864 bytes"):
            archives.unpack(archive, tmp_path / "out")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert os.listdir(tmp_path) == ["archive"]


def test_many_global_headers_of_a_tar_are_refused(tmp_path):
    record = (b"%d a=" % (1 << 19)).ljust((1 << 19) - 1, b"x") + b"\n"
    archive = claiming(tmp_path / "archive", tarfile.XGLTYPE, len(record), 3, record)
    with pytest.raises(InputError, match="its attributes claim 1572864 bytes"):
        archives.unpack(archive, tmp_path / "out")


def test_a_sparse_file_in_a_tar_is_refused(tmp_path):
    archive = claiming(tmp_path / "archive", tarfile.GNUTYPE_SPARSE, 512, 1, bytes(512))
    with pytest.raises(InputError, match="header: it is a sparse file"):
        archives.unpack(archive, tmp_path / "out")
    pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a", "GNU.sparse.realsize": "99"}
    archive = tarred(tmp_path / "archive", {"a": b"1000000000\n" * 100}, pax_headers=pax)
    with pytest.raises(InputError, match="it is a sparse file"):
        archives.unpack(archive, tmp_path / "out")


def test_a_chain_of_headers_is_damage(tmp_path):
    archive = claiming(tmp_path / "archive", tarfile.GNUTYPE_LONGNAME, 5, 3000, b"name\0" + bytes(507))
    with pytest.raises(InputError, match="damaged"):
        archives.unpack(archive, tmp_path / "out")


def test_zeros_behind_the_end_of_a_tar_are_not_unpacked_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "ALWAYS_ALLOWED", 1 << 20)
    tar = tarred(tmp_path / "plain", mode="w").read_bytes()
    with gzip.open(tmp_path / "archive", "wb") as file:
        file.write(tar + bytes(64 << 20))
    with pytest.raises(InputError, match="unpacks to more than"):
        archives.unpack(tmp_path / "archive", tmp_path / "out")


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a")])
def test_a_name_that_is_both_a_file_and_a_folder_is_refused(tmp_path, pack, names):
    archive = pack(tmp_path / "archive", dict.fromkeys(names, b"x"))
    with pytest.raises(InputError, match="both a file and a folder"):
        archives.unpack(archive, tmp_path / "out")
    assert os.listdir(tmp_path) == ["archive"]


def test_an_attribute_header_of_usual_size_is_read(tmp_path):
    long = "/".join(["folder" * 10] * 10) + "/a.jpg"
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        with tarfile.open(tmp_path / "archive", "w", format=form, pax_headers={"comment": "ours"}) as archive:
            entry = tarfile.TarInfo(long)
            entry.size = 1
            archive.addfile(entry, io.BytesIO(b"A"))
        archives.unpack(tmp_path / "archive", tmp_path / "out")
        assert tree(tmp_path / "out") == {long: b"A"}


@pytest.mark.parametrize("kind", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_a_damaged_archive_is_refused(tmp_path, kind):
    archive, files = tmp_path / "archive", {"a": os.urandom(200_000)}
    zipped(archive, files) if kind == "zip" else tarred(archive, files, mode=kind)
    whole = bytearray(archive.read_bytes())
    for damaged in (whole[:150_000], whole[:100_000] + bytes(1000) + whole[101_000:]):
        archive.write_bytes(damaged)
        if kind == "w" and len(damaged) == len(whole):
            continue  # a plain tar has no checksums of its content: source.sha256 is for that
        with pytest.raises(InputError, match="damaged|not a zip or tar archive"):
            archives.unpack(archive, tmp_path / "out")
        assert os.listdir(tmp_path) == ["archive"]


def test_an_archive_with_a_password_is_refused(tmp_path):
    archive = zipped(tmp_path / "archive")
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(signature)
        while start >= 0:
            data[start + offset] |= 1
            start = data.find(signature, start + 1)
    archive.write_bytes(data)
    with pytest.raises(InputError, match="password"):
        archives.unpack(archive, tmp_path / "out")


def test_a_file_that_is_not_an_archive_is_refused(tmp_path):
    (tmp_path / "faces.rar").write_bytes(b"Rar!" * 100)
    with pytest.raises(InputError, match="not a zip or tar archive"):
        archives.unpack(tmp_path / "faces.rar", tmp_path / "out")
    assert os.listdir(tmp_path) == ["faces.rar"]


def test_an_archive_is_downloaded_once_and_unpacks_to_its_files(server, tmp_path):
    server.content = zipped(tmp_path / "published.zip").read_bytes()
    sha256 = hashlib.sha256(server.content).hexdigest()
    for attempt in "12":
        archive = download.download(server.url, sha256, tmp_path / "data" / "faces.zip")
        archives.unpack(archive, tmp_path / attempt)
        assert tree(tmp_path / attempt) == FILES
    assert server.requests == [None]
