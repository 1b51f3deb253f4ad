"""The scripts from end to end, on small archives and folders that are made here."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from torchvision.datasets import Imagenette

from cascade_lab import cli
from cascade_lab.data import open_photos
from cascade_lab.data.manifest import read_manifest
from data_scripts import bsd300, folder, imagenet, imagenette
from data_scripts.download import DataError


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


class TestBSD300:
    def test_committed_manifest(self):
        manifest = read_manifest(bsd300.MANIFEST)
        rows = manifest["files"]
        assert [sum(row["split"] == split for row in rows) for split in ("train", "test")] == [200, 100]
        assert len({row["file"].split("/")[1] for row in rows}) == len({row["sha256"] for row in rows}) == 300
        assert all(row["file"].startswith(row["split"] + "/") for row in rows)
        assert all(re.fullmatch("[0-9a-f]{64}", row["sha256"]) for row in rows)
        assert bsd300.COMMIT in bsd300.URL
        assert bsd300.COMMIT in manifest["source"]

    @pytest.fixture
    def mirror(self, server, tmp_path, make):
        """An archive laid out as the mirror's, and a manifest of its four photos."""
        photos = {"train/1.jpg": make.jpeg(1), "train/2.jpg": make.jpeg(2), "test/3.jpg": make.jpeg(3)}
        inside = {"train/": "BSDS500/data/images/train/", "test/": "BSDS500/data/images/val/"}
        members = {
            f"BSDS500-abc/{inside[file[: file.index('/') + 1]]}{file.split('/')[1]}": content
            for file, content in photos.items()
        }
        members["BSDS500-abc/BSDS500/data/images/train/Thumbs.db"] = b"not wanted"
        rows = [
            {"file": file, "size": len(x), "sha256": hashlib.sha256(x).hexdigest(), "split": file.split("/")[0]}
            for file, x in photos.items()
        ]
        manifest = tmp_path / "small.json"
        manifest.write_text(json.dumps({"name": "small", "files": rows, "skipped": {}}))
        url = server.put("archive.tar.gz", make.tar(members))
        return url, manifest, members

    def test_prepares_verifies_and_says_so(self, server, mirror, tmp_path):
        url, manifest, _ = mirror
        out = tmp_path / "data" / "bsd300"
        assert bsd300.prepare(out, url, manifest) == f"{out}: 1 test, 2 train photos"
        assert tree(tmp_path / "data") == [
            f"bsd300/{x}" for x in ("manifest.json", "test/3.jpg", "train/1.jpg", "train/2.jpg")
        ]
        assert open_photos(out, "test").names == ["3.jpg"]
        bsd300.prepare(out, url, manifest)
        assert len(server.asked) == 1  # what is whole is not downloaded again
        (out / "train" / "1.jpg").write_bytes(b"bit rot")
        with pytest.raises(DataError, match=r"train/1\.jpg is another file.*delete it and run"):
            bsd300.prepare(out, url, manifest)

    def test_another_photo_in_the_archive(self, server, mirror, tmp_path, make):
        url, manifest, members = mirror
        other = {name: make.jpeg(9) if name.endswith("/2.jpg") else content for name, content in members.items()}
        server.put("archive.tar.gz", make.tar(other))
        with pytest.raises(DataError, match=r"train/2\.jpg is another file.*run the same command again"):
            bsd300.prepare(tmp_path / "data" / "bsd300", url, manifest)
        assert tree(tmp_path / "data") == []

    def test_missing_photo_and_empty_archive(self, server, mirror, tmp_path, make):
        url, manifest, members = mirror
        for left in (dict(list(members.items())[1:]), {"readme": b""}):
            server.put("archive.tar.gz", make.tar(left))
            with pytest.raises(DataError, match=r"train/1\.jpg is missing"):
                bsd300.prepare(tmp_path / "data" / "bsd300", url, manifest)
            assert tree(tmp_path / "data") == []

    def test_a_folder_in_the_way(self, mirror, tmp_path):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.txt").write_text("precious")
        with pytest.raises(DataError, match="choose another --out"):
            bsd300.prepare(tmp_path / "mine", *mirror[:2])
        assert tree(tmp_path / "mine") == ["thesis.txt"]


class TestImagenette:
    @pytest.fixture
    def source(self, server, make):
        members = {
            f"imagenette2-160/{split}/n01440764/{i}.JPEG": make.jpeg(i) for split in ("train", "val") for i in range(2)
        }
        members["imagenette2-160/train/n01440764/broken.JPEG"] = make.jpeg(5)[:300]
        content = make.tar(members)
        return server.put("imagenette2-160.tgz", content), "md5:" + hashlib.md5(content).hexdigest()

    def test_prepares_what_torchvision_reads(self, server, source, tmp_path):
        server.cuts = [500]
        out = tmp_path / "imagenette2-160"
        summary = imagenette.prepare(out, *source)
        assert "2 train, 2 val photos, 1 files left out: train/n01440764/broken.JPEG: cannot be read" in summary
        assert len(Imagenette(tmp_path, "val", "160px")) == 2
        assert tree(tmp_path)[0] == "imagenette2-160/manifest.json"
        with pytest.warns(UserWarning, match="1 files left out"):
            photos = open_photos(out, "train")
        assert photos.names == ["n01440764/0.JPEG", "n01440764/1.JPEG"]
        assert open_photos(out, "test").names == photos.names
        assert imagenette.prepare(out, *source) == summary

    def test_another_archive(self, server, tmp_path, make):
        content = make.tar({"something/else": b""})
        url = server.put("imagenette2-160.tgz", content)
        with pytest.raises(DataError, match="not Imagenette"):
            imagenette.prepare(tmp_path / "a", url, "md5:" + hashlib.md5(content).hexdigest())
        assert not (tmp_path / "a").exists()

    def test_addresses(self):
        assert set(imagenette.ARCHIVES) == {"full", "320px", "160px"}
        assert all(url.startswith("https://") and len(md5) == 32 for url, md5 in imagenette.ARCHIVES.values())


class TestImageNet:
    @pytest.fixture
    def copy(self, tmp_path, make):
        for split, count in (("train", 7), ("val", 3)):
            for i in range(count):
                path = tmp_path / "copy" / split / f"n{i % 2}" / f"n{i % 2}.{i}.JPEG"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(make.jpeg(i))
        (tmp_path / "copy" / "train" / "n0" / "empty.JPEG").write_bytes(b"")
        return tmp_path / "copy"

    def test_packs_all_photos(self, copy, tmp_path):
        out = tmp_path / "shards"
        summary = imagenet.prepare(copy, out, photos=3)
        assert "7 train, 3 val photos, 1 files left out: train/n0/empty.JPEG" in summary
        assert tree(out) == ["manifest.json", *(f"train-00000{i}.tar" for i in range(3)), "val-000000.tar"]
        photos = open_photos(out, "train")
        assert (len(photos), list(photos.skipped)) == (7, ["train/n0/empty.JPEG"])

    def test_stopped_and_run_again(self, copy, tmp_path, monkeypatch):
        whole = tmp_path / "whole"
        imagenet.prepare(copy, whole, photos=3)
        out, shards = tmp_path / "out", imagenet.plan(copy, tmp_path / "out", 3)
        rows = [imagenet.write_shard(shard) for shard in shards[:2]]
        (out / "done.jsonl").write_text("\n".join(map(json.dumps, rows)) + '\n{"file": "train-0000')
        (out / "train-000001.tar").write_bytes(b"damaged since")
        written = []

        class Here:  # in this process, to see what is written
            def __init__(self, workers, *_):
                pass

            def __enter__(self):
                return self

            def __exit__(self, *error):
                pass

            def map(self, work, shards):
                written.extend(path.name for path, _ in shards)
                return map(work, shards)

        monkeypatch.setattr(imagenet, "ProcessPoolExecutor", Here)
        imagenet.prepare(copy, out, photos=3)
        assert written == ["train-000001.tar", "train-000002.tar", "val-000000.tar"]
        assert [(out / name).read_bytes() for name in tree(out)] == [
            (whole / name).read_bytes() for name in tree(whole)
        ]

    def test_shards_of_another_plan_are_not_kept(self, copy, tmp_path):
        out = tmp_path / "out"
        row = imagenet.write_shard(imagenet.plan(copy, out, 2)[0])
        (out / "done.jsonl").write_text(json.dumps(row) + "\n")
        imagenet.prepare(copy, out, photos=8)
        assert tree(out) == ["manifest.json", "train-000000.tar", "val-000000.tar"]
        assert len(open_photos(out, "train")) == 7

    def test_wrong_folder(self, copy, tmp_path):
        with pytest.raises(DataError, match="no folder train and no val"):
            imagenet.prepare(copy / "train", tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_a_photo_that_cannot_be_opened_is_left_out(self, copy, tmp_path):
        """It was there when the shards were planned."""
        shard = imagenet.plan(copy, tmp_path, 20)[0]
        shard[1][2][1].unlink()
        row = imagenet.write_shard(shard)
        assert (row["photos"], len(row["skipped"])) == (6, 2)
        assert "No such file" in row["skipped"][shard[1][2][0]]

    def test_without_any_photo_it_fails_and_can_be_run_again(self, copy, tmp_path):
        whole = {path: path.read_bytes() for path in (copy / "val").rglob("*.JPEG")}
        for path in whole:
            path.write_bytes(b"broken")
        with pytest.raises(
            DataError, match=r"copy/val holds no photo that can be read \(.*val/n0/n0.0.JPEG: not a photo"
        ):
            imagenet.prepare(copy, tmp_path / "out")
        assert not (tmp_path / "out" / "manifest.json").exists()
        for path, content in whole.items():
            path.write_bytes(content)
        assert "7 train, 3 val photos" in imagenet.prepare(copy, tmp_path / "out")
        for path in whole:
            path.unlink()
        with pytest.raises(DataError, match="copy/val holds no photo"):
            imagenet.prepare(copy, tmp_path / "other")

    @pytest.mark.parametrize("line", ["5", "[]", '{"file": 5}', "null", '{"file": "train-000000.tar"}', "\x00"])
    def test_a_log_that_is_none(self, copy, tmp_path, line):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "done.jsonl").write_text(line + "\n")
        assert "7 train, 3 val photos" in imagenet.prepare(copy, tmp_path / "out")


class TestFolder:
    @pytest.fixture
    def photos(self, tmp_path, make):
        (tmp_path / "deep").mkdir()
        for i in range(30):
            (tmp_path / ("deep" if i % 2 else "") / f"{i}.jpg").write_bytes(make.jpeg(i))
        (tmp_path / "notes.txt").write_text("no photo")
        return tmp_path

    def test_holds_out_by_content(self, photos):
        folder.prepare(photos, 0.3)
        with pytest.warns(UserWarning, match="1 files left out"):
            train, test = open_photos(photos, "train"), open_photos(photos, "test")
        assert len(train) + len(test) == 30
        assert 3 <= len(test) <= 15
        assert not set(train.names) & set(test.names)
        assert "notes.txt" in train.skipped
        (photos / "copy.jpg").write_bytes((photos / "deep" / "1.jpg").read_bytes())
        folder.prepare(photos, 0.3)
        with pytest.warns(UserWarning, match="1 files left out"):
            again = open_photos(photos, "test")
        assert set(again.names) - {"copy.jpg"} == set(test.names)
        assert ("copy.jpg" in again.names) == ("deep/1.jpg" in test.names)

    def test_given_splits_are_kept(self, tmp_path, make):
        for split in ("train", "val"):
            (tmp_path / split).mkdir()
            (tmp_path / split / "1.jpg").write_bytes(make.jpeg(split == "val"))
        assert folder.prepare(tmp_path, 0.5) == f"{tmp_path}: 1 train, 1 val photos"

    def test_nothing_to_hold_out(self, tmp_path, make):
        (tmp_path / "1.jpg").write_bytes(make.jpeg(1))
        with pytest.raises(DataError, match="1 usable photos leave none to t"):
            folder.prepare(tmp_path, 0.5)
        assert tree(tmp_path) == ["1.jpg"]

    @pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
    def test_impossible_share(self, tmp_path, share):
        with pytest.raises(ValueError, match="--test is a share from 0 to 1"):
            folder.prepare(tmp_path, share)

    def test_a_photo_may_be_called_as_its_owner_likes(self, tmp_path, make):
        names = ["Anna's.jpg", "-1.jpg", "a & b; c.jpg", "ä.jpg", "100% [x].jpg", "$HOME.jpg"]
        for number, name in enumerate(names):
            (tmp_path / name).write_bytes(make.jpeg(number))
        folder.prepare(tmp_path, 0)
        assert open_photos(tmp_path, "train").names == sorted(names)

    @pytest.mark.skipif(sys.platform == "win32", reason="no pipes in folders")
    def test_odd_files_are_left_out(self, tmp_path, make):
        (tmp_path / "1.jpg").write_bytes(make.jpeg(1))
        for name, content in {
            "empty.png": b"",
            "huge.ppm": b"P6 999999999 999999999 255\n",
            "cut.jpg": make.jpeg(1)[:99],
        }.items():
            (tmp_path / name).write_bytes(content)
        os.mkfifo(tmp_path / "pipe.jpg")
        (tmp_path / "device.jpg").symlink_to("/dev/zero")
        (tmp_path / "circle.jpg").symlink_to("circle.jpg")
        assert "1 train photos, 3 files left out" in folder.prepare(tmp_path, 0)


class TestCommand:
    """`cascade data`, and the scripts by themselves."""

    def call(self, *arguments, **environment) -> subprocess.CompletedProcess:
        root = Path(__file__).parents[2]
        given = {**os.environ, "PYTHONPATH": str(root), **environment}
        return subprocess.run([sys.executable, *arguments], env=given, capture_output=True, text=True, errors="replace")

    @pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
    def test_a_terminal_that_cannot_show_a_name(self, tmp_path, make, encoding):
        (tmp_path / "ä→").mkdir()
        (tmp_path / "ä→" / "1.jpg").write_bytes(make.jpeg(1))
        (tmp_path / "ä→" / "→.txt").write_text("no photo")
        for module in (("cascade_lab", "data", "folder"), ("data_scripts.folder",)):
            ended = self.call("-OO", "-m", *module, str(tmp_path / "ä→"), "--test", "0", PYTHONIOENCODING=encoding)
            assert (ended.returncode, ended.stderr) == (0, "")
            assert "1 train photos, 1 files left out: " in ended.stdout

    @pytest.mark.parametrize("script", ["bsd300", "imagenette", "imagenet", "folder", "trainingset"])
    def test_help(self, script):
        ended = self.call("-m", f"data_scripts.{script}", "--help")
        assert f"Usage: cascade data {script}" in ended.stdout

    def fails(self, capsys, *arguments) -> str:
        with pytest.raises(SystemExit) as ended:
            cli.main(["data", *map(str, arguments)])
        error = capsys.readouterr().err
        assert ended.value.code == 1
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        return error

    def test_verify(self, tmp_path, make, capsys):
        for number in range(3):
            (tmp_path / f"{number}.jpg").write_bytes(make.jpeg(number))
        for command in (["folder", tmp_path, "--test", 0], ["verify", tmp_path]):
            with pytest.raises(SystemExit) as ended:
                cli.main(["data", *map(str, command)])
            assert ended.value.code == 0
            assert capsys.readouterr().out == f"{tmp_path}: 3 train photos\n"
        (tmp_path / "1.jpg").write_bytes(b"bit rot")
        assert f"{tmp_path} is not what its manifest.json lists (1.jpg is another file)" in self.fails(
            capsys, "verify", tmp_path
        )
        assert "there is no file" in self.fails(capsys, "verify", tmp_path / "no")

    @pytest.mark.parametrize(
        "content", [b"{}", b"5", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"files": [5], "skipped": {}}', b""]
    )
    def test_a_garbage_manifest_is_named(self, tmp_path, capsys, content):
        (tmp_path / "manifest.json").write_bytes(content)
        for arguments in (["bsd300", "--out", tmp_path], ["imagenette", "--out", tmp_path], ["verify", tmp_path]):
            assert f"{tmp_path / 'manifest.json'}" in self.fails(capsys, *arguments)

    @pytest.mark.parametrize("url", ["/no/such.tgz", "file:///no/such.tgz"])
    def test_a_local_archive_that_is_not_there(self, tmp_path, capsys, url):
        assert f"{url} is neither a file" in self.fails(capsys, "bsd300", "--out", tmp_path / "new", "--url", url)

    def test_a_size_that_is_none(self, capsys):
        with pytest.raises(SystemExit) as ended:
            cli.main(["data", "imagenette", "--size", "5px"])
        assert ended.value.code == 2
        assert "--size: there are full, 320px, 160px, and no 5px" in capsys.readouterr().err


class TestManifest:
    @staticmethod
    def read(folder, file: str) -> dict:
        row = {"file": file, "size": 1, "sha256": "0", "split": "train", "photos": 1}
        (folder / "manifest.json").write_text(json.dumps({"name": "x", "files": [row], "skipped": {}}))
        return read_manifest(folder / "manifest.json")

    @pytest.mark.parametrize(
        "file",
        [
            *("x'; touch PWNED; '.tar", "$(touch PWNED).tar", "`id`.tar", "-rf.tar", "a|b.tar", 'a".tar', "a\nb.tar"),
            *("a;b/.tar", "a>b.tar", "a\\b.tar", "a{1..9}.tar", "../a.tar", "/a.tar", "a*.tar", "x'y/.tar"),
        ],
    )
    def test_shards_with_names_that_mean_something_to_a_shell_are_refused(self, file, tmp_path):
        with pytest.raises(ValueError, match="is not a manifest of data_scripts"):
            self.read(tmp_path, file)

    @pytest.mark.parametrize("file", ["train-000000.tar", "a/b_c.1.tar", "Bücher (2).tar", "a,b+c=d~e@f.tar"])
    def test_other_shards_are_read(self, file, tmp_path):
        assert self.read(tmp_path, file)["files"][0]["file"] == file
