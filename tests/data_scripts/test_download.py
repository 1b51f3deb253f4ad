import hashlib
import io
import tarfile
import time
import zipfile

import numpy as np
import pytest

from data_scripts import download
from data_scripts.download import DataError, Gone, fetch, unpack

CONTENT = np.random.default_rng(0).bytes(300_000)
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def quick(url, path, digest=DIGEST, tries=3):
    return fetch(url, path, digest, tries, pause=0.01)


def test_fetch_leaves_the_file_and_nothing_else(server, tmp_path):
    path = quick(server.put("a.bin", CONTENT), tmp_path / "new" / "a.bin")
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["a.bin"]


@pytest.mark.parametrize("digest", [DIGEST, None])
def test_goes_on_after_a_cut(server, tmp_path, digest):
    url = server.put("a.bin", CONTENT)
    server.cuts = [100_000, 50_000]
    assert quick(url, tmp_path / "a.bin", digest).read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [None, "bytes=100000-", "bytes=150000-"]


def test_a_later_run_goes_on(server, tmp_path):
    url = server.put("a.bin", CONTENT)
    server.cuts = [100_000, 50_000]
    with pytest.raises(DataError, match=r"150,000 of 300,000 bytes.*run the same command again"):
        quick(url, tmp_path / "a.bin", tries=2)
    assert names(tmp_path) == ["a.bin.part", "a.bin.part.etag"]
    assert quick(url, tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.asked[-1] == ("/a.bin", "bytes=150000-")


def test_begins_again_where_the_file_changed(server, tmp_path):
    url = server.put("a.bin", b"old" * 100_000)
    server.cuts = [1000]
    with pytest.raises(DataError):
        quick(url, tmp_path / "a.bin", None, tries=1)
    server.put("a.bin", CONTENT)
    server.etag = '"two"'
    assert quick(url, tmp_path / "a.bin", None).read_bytes() == CONTENT


def test_begins_again_without_a_hash_or_etag(server, tmp_path):
    url = server.put("a.bin", CONTENT)
    server.etag, server.cuts = "", [1000]
    assert quick(url, tmp_path / "a.bin", None).read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [None, None]


def test_server_that_cannot_go_on(server, tmp_path):
    url = server.put("a.bin", CONTENT)
    server.ranges, server.cuts = False, [1000]
    assert quick(url, tmp_path / "a.bin").read_bytes() == CONTENT


def test_all_was_there_but_the_renaming(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    assert quick(server.put("a.bin", CONTENT), tmp_path / "a.bin").read_bytes() == CONTENT
    (tmp_path / "b.bin.part").write_bytes(CONTENT + b"too much")
    assert quick(server.put("b.bin", CONTENT), tmp_path / "b.bin").read_bytes() == CONTENT


def test_wrong_hash_is_thrown_away(server, tmp_path):
    url = server.put("a.bin", CONTENT[:-1] + b"x")
    with pytest.raises(Gone, match=f"expected {DIGEST}, got sha256:.*run the same command again"):
        quick(url, tmp_path / "a.bin")
    assert names(tmp_path) == []


def test_truncated_at_the_server_without_a_length(server, tmp_path):
    url = server.put("a.bin", CONTENT)
    server.length, server.cuts = False, [1000]  # looks like the end of the file: only the hash can tell
    with pytest.raises(DataError, match="expected"):
        quick(url, tmp_path / "a.bin")
    assert names(tmp_path) == []


def test_404_is_not_tried_again(server, tmp_path):
    with pytest.raises(Gone, match=r"missing.bin: the server answers 404.*other sources"):
        quick(server.put("a.bin", CONTENT).replace("a.bin", "missing.bin"), tmp_path / "a.bin")
    assert len(server.asked) == 1
    assert names(tmp_path) == []


def test_a_busy_server_is_tried_again(server, tmp_path):
    url = server.put("a.bin", CONTENT)
    server.errors = [503, 429]
    assert quick(url, tmp_path / "a.bin").read_bytes() == CONTENT
    server.errors = [503] * 3
    with pytest.raises(DataError, match="503.*3 times") as raised:
        quick(url, tmp_path / "b.bin")
    assert not isinstance(raised.value, Gone)


def test_no_server(tmp_path):
    with pytest.raises(DataError, match="2 times"):
        quick("http://127.0.0.1:1/a.bin", tmp_path / "a.bin", tries=2)
    assert names(tmp_path) == []


def test_progress_says_how_far_it_is(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(download, "QUIET", {"mininterval": 0, "ascii": True})
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:60_000])
    url = server.put("a.bin", CONTENT)
    fetch(url, tmp_path / "b.bin", shown=False)
    assert capsys.readouterr().err == ""
    quick(url, tmp_path / "a.bin")
    shown = capsys.readouterr().err
    assert "a.bin:  20%|" in shown
    assert "60.0k/300k" in shown
    assert "300k/300k" in shown
    assert list(download.progress([1, 2], "reading")) == [1, 2]
    assert "reading: 100%|##########| 2/2" in capsys.readouterr().err


def test_a_file_of_this_computer(tmp_path):
    (tmp_path / "ä b.tgz").write_bytes(CONTENT)
    path = tmp_path / "ä b.tgz"
    for number, url in enumerate((str(path), f"file://{path}", path.as_uri())):
        assert quick(url, tmp_path / f"{number}").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "url", ["file:///no/such.tgz", "/no/such.tgz", "such.tgz", "s3://bucket/a.tgz", "file:///dev/zero", "/"]
)
def test_what_is_no_file_and_no_address_is_said_at_once(tmp_path, url):
    start = time.monotonic()
    with pytest.raises(DataError, match=f"{url} is neither a file on this computer nor an address"):
        fetch(url, tmp_path / "a.tgz")
    assert time.monotonic() - start < 1
    assert names(tmp_path) == []


def test_waiting_is_said(server, tmp_path, capsys):
    server.errors = [503]
    quick(server.put("a.bin", CONTENT), tmp_path / "a.bin")
    assert "a.bin: the server answers 503 Service Unavailable; trying again in 0.01 s" in capsys.readouterr().err


def archive(path, files, kind):
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in files.items():
                file.writestr(name, content)
    else:
        with tarfile.open(path, f"w:{kind}") as file:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", ["gz", "", "xz", "zip"])
class TestUnpack:
    def test_smoke(self, tmp_path, kind):
        path = archive(tmp_path / "a", {"top/x.jpg": b"x", "top/y.txt": b"y"}, kind)
        folder = unpack(path, tmp_path / "out", keep=lambda name: name.endswith(".jpg"))
        assert [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()] == ["top/x.jpg"]
        with pytest.raises(DataError, match="there already"):
            unpack(path, folder)

    def test_climbing_path(self, tmp_path, kind):
        path = archive(tmp_path / "a", {"good.jpg": b"x", "../../evil.txt": b"y"}, kind)
        with pytest.raises(DataError, match=r"evil\.txt.*not safe to unpack"):
            unpack(path, tmp_path / "deep" / "out")
        assert not list(tmp_path.rglob("evil.txt"))
        assert names(tmp_path / "deep") == []

    def test_truncated(self, tmp_path, kind):
        path = archive(tmp_path / "a", {"x.bin": CONTENT, "y.bin": CONTENT}, kind)
        path.write_bytes(path.read_bytes()[:-350_000])
        with pytest.raises(DataError, match="delete the archive and run the same command again"):
            unpack(path, tmp_path / "out")
        assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        member = tarfile.TarInfo("innocent")
        member.type, member.linkname = kind, "../../etc/passwd"
        file.addfile(member)
    with pytest.raises(DataError, match="not safe to unpack"):
        unpack(tmp_path / "a.tar", tmp_path / "out")
    assert names(tmp_path) == ["a.tar"]


def test_not_an_archive(tmp_path):
    (tmp_path / "a.tgz").write_bytes(b"<html>Please log in</html>")
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(tmp_path / "a.tgz", tmp_path / "out")
