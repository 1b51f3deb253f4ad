"""The training set from files on loopback, and the committed manifest."""

import csv
import hashlib
import io
import json
import lzma
import os
import re
import urllib.parse
from pathlib import Path

import pytest
from PIL import Image

from cascade_lab import cli
from cascade_lab.data import open_photos
from cascade_lab.data.photos import hash_lines
from cascade_lab.evaluation.protocol import open_test_photos
from data_scripts import download, trainingset, verify
from data_scripts.download import DataError

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("CASCADE_DATA", ROOT.parent / "shared" / "data"))
BIG = 10**6
# file, path in its repository, size, quality, optimized
PHOTOS = [
    ("train/photos8k/p1.jpg", "a/jack-o'-lantern 1.JPEG", (20, 15), 90, True),
    ("train/photos8k/p2.jpg", "a/2.jpg", (24, 18), 90, True),
    ("train/photos8k/p3.jpg", "a/3.jpg", (16, 16), 90, True),
    ("train/imagenet/n1_carpenter's_kit.jpg", "b/4.jpg", (16, 12), 92, False),
    ("train/bsds/5.jpg", "c/5.jpg", (40, 30), 0, False),
    ("imagenet/n2.jpg", "b/6.jpg", (16, 12), 92, False),
]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def saved(original: bytes, size, quality, optimize) -> bytes:
    file = io.BytesIO()
    photo = Image.open(io.BytesIO(original)).convert("RGB").resize(size, Image.Resampling.LANCZOS)
    photo.save(file, "JPEG", quality=quality, optimize=optimize)
    return file.getvalue()


class Source:
    """Six originals on a server, the photos that are to be made of them, and their manifest."""

    def __init__(self, server, folder, jpeg):
        self.server, self.manifest = server, folder / "small.tsv.xz"
        self.originals, self.photos, self.rows = {}, {}, []
        for seed, (file, path, size, quality, optimize) in enumerate(PHOTOS):
            original = jpeg(seed)
            photo = saved(original, size, quality, optimize) if quality else original
            self.originals[file], self.photos[file] = original, photo
            row = {"file": file, "sha256": sha256(photo), "original_sha256": sha256(original), "repository": "me/it"}
            row |= {"commit": "abc", "path": path, "width": size[0], "height": size[1], "quality": quality}
            self.rows.append({**row, "optimize": int(optimize), "licence": f"licence of {path[0]}"})
            self.put(file, original)
        self.write()

    def address(self, file: str) -> str:
        return "me/it/abc/" + urllib.parse.quote(next(row["path"] for row in self.rows if row["file"] == file))

    def put(self, file: str, content: bytes) -> None:
        self.server.put(self.address(file), content)

    def write(self) -> None:
        with lzma.open(self.manifest, "wt", newline="") as file:
            writer = csv.DictWriter(file, self.rows[0], delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE)
            writer.writeheader()
            writer.writerows(self.rows)

    def prepare(self, out: Path, first: int | None = None, workers: int = 1, url: str = "") -> str:
        url = url or f"http://127.0.0.1:{self.server.server_port}/"
        return trainingset.prepare(out, url, first, workers, self.manifest)

    def asked(self) -> list[str]:
        """Addresses asked for since the last call."""
        paths = [path.removeprefix("/") for path, _ in self.server.asked]
        self.server.asked.clear()
        return paths


@pytest.fixture
def source(server, tmp_path, make, monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    return Source(server, tmp_path, make.jpeg)


def tree(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in ("manifest.json", "LICENCES")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


class TestMakes:
    def test_the_listed_bytes_in_folders_that_are_read_as_they_are(self, source, tmp_path, capsys):
        out = tmp_path / "new" / "out"
        assert source.prepare(out, workers=3) == f"{out}: 1 test, 5 train photos"
        assert tree(out) == source.photos
        assert not (out / ".originals").exists()
        train, below = open_photos(out, "train"), open_photos(out / "train", "train")
        assert train.names == [
            "bsds/5.jpg",
            "imagenet/n1_carpenter's_kit.jpg",
            *(f"photos8k/p{i}.jpg" for i in (1, 2, 3)),
        ]
        assert (train.names, train.hash) == (below.names, below.hash)
        assert open_photos(out, "test").names == ["imagenet/n2.jpg"]
        assert open_test_photos([str(out / "imagenet")]).names == ["n2.jpg"]
        assert verify.prepare(out) == f"{out}: 1 test, 5 train photos"
        licences = (out / "LICENCES").read_text()
        assert licences in capsys.readouterr().out
        assert licences.startswith("3 photos: licence of a\n    from https://github.com/me/it at abc\n2 photos: ")

    def test_what_is_right_is_kept_and_what_is_not_is_made_anew(self, source, tmp_path):
        summary = source.prepare(tmp_path / "out")
        assert len(source.asked()) == 6
        (tmp_path / "out" / "train" / "photos8k" / "p2.jpg").write_bytes(b"bit rot")
        (tmp_path / "out" / "imagenet" / "n2.jpg").unlink()
        assert source.prepare(tmp_path / "out") == summary
        assert source.asked() == [source.address(file) for file in ("train/photos8k/p2.jpg", "imagenet/n2.jpg")]
        assert tree(tmp_path / "out") == source.photos

    def test_goes_on_after_a_cut(self, source, tmp_path):
        """The last photo breaks off and the server then sends nothing: the run ends, and the next one goes on."""
        source.server.cuts = [*[BIG] * 5, 300, *[0] * 7]
        with pytest.raises(DataError, match="300 bytes are kept: run the same command again"):
            source.prepare(tmp_path / "out")
        assert tree(tmp_path / "out" / "train").keys() == {file[6:] for file in source.photos if file[:6] == "train/"}
        with pytest.warns(UserWarning, match=r"1 files left out \(imagenet/n2\.jpg: not made yet\)"):
            open_photos(tmp_path / "out", "train")
        source.asked()
        assert source.prepare(tmp_path / "out").endswith("1 test, 5 train photos")
        assert source.server.asked == [("/" + source.address("imagenet/n2.jpg"), "bytes=300-")]
        assert tree(tmp_path / "out") == source.photos

    @pytest.mark.parametrize(("there", "why"), [(None, "404"), (b"another", "expected sha256:")])
    def test_a_gone_photo_ends_no_run(self, source, tmp_path, capsys, there, why):
        file = "train/photos8k/p2.jpg"
        source.put(file, there)
        with pytest.raises(DataError, match="1 test, 4 train photos; 1 are gone, listed above"):
            source.prepare(tmp_path / "out")
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith(file)]
        assert why in line
        assert tree(tmp_path / "out") == {name: photo for name, photo in source.photos.items() if name != file}
        with pytest.warns(UserWarning, match="1 files left out"):
            assert len(open_photos(tmp_path / "out", "train")) == 4
        source.put(file, source.originals[file])
        source.asked()
        source.prepare(tmp_path / "out")
        assert source.asked() == [source.address(file)]
        assert tree(tmp_path / "out") == source.photos

    def test_another_pillow_is_said_and_its_photos_are_kept(self, source, tmp_path):
        for row in source.rows[:2]:
            row["sha256"] = "0" * 64
        source.write()
        summary = source.prepare(tmp_path / "out")
        assert "1 test, 5 train photos; 2 are not the listed bytes, as Pillow" in summary
        assert tree(tmp_path / "out") == source.photos
        source.asked()
        assert source.prepare(tmp_path / "out") == summary
        assert source.asked() == []
        (tmp_path / "out" / source.rows[0]["file"]).write_bytes(b"bit rot")
        assert source.prepare(tmp_path / "out") == summary
        assert len(source.asked()) == 1

    def test_a_gray_original(self, source, tmp_path):
        file, row = io.BytesIO(), source.rows[0]
        Image.open(io.BytesIO(source.originals[row["file"]])).convert("L").save(file, "JPEG")
        row["original_sha256"] = sha256(file.getvalue())
        row["sha256"] = sha256(saved(file.getvalue(), (20, 15), 90, True))
        source.put(row["file"], file.getvalue())
        source.write()
        assert source.prepare(tmp_path / "out").endswith("5 train photos")

    def test_from_a_folder(self, source, tmp_path):
        for file, content in source.originals.items():
            path = tmp_path / "mirror" / urllib.parse.unquote(source.address(file))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        source.prepare(tmp_path / "out", url=str(tmp_path / "mirror"))
        assert tree(tmp_path / "out") == source.photos
        assert source.asked() == []


class TestFirst:
    def test_takes_so_many_of_the_sample_and_all_others(self, source, tmp_path):
        for first, expected in ((0, "1 test, 2 train"), (2, "1 test, 4 train"), (9, "1 test, 5 train")):
            assert f"{expected} photos" in source.prepare(tmp_path / "out", first)
        assert len(source.asked()) == 6  # each is downloaded once
        assert tree(tmp_path / "out") == source.photos

    def test_a_larger_set_is_in_the_way(self, source, tmp_path):
        source.prepare(tmp_path / "out")
        with pytest.raises(DataError, match=r"out holds what was not asked for \(.*photos8k/p3\.jpg\): choose another"):
            source.prepare(tmp_path / "out", 2)
        assert tree(tmp_path / "out") == source.photos


def test_other_photos_in_the_way(source, tmp_path):
    """Neither trained on as if they belonged to the set, nor is the manifest of another set written over."""
    (tmp_path / "mine" / "train").mkdir(parents=True)
    (tmp_path / "mine" / "train" / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(DataError, match=r"not asked for \(.*holiday\.jpg\): choose another --out"):
        source.prepare(tmp_path / "mine")
    (tmp_path / "bsd300").mkdir()
    (tmp_path / "bsd300" / "manifest.json").write_text('{"name": "BSD300", "files": [], "skipped": {}}')
    with pytest.raises(DataError, match="holds another data set: choose another --out"):
        source.prepare(tmp_path / "bsd300")
    assert source.asked() == []


def test_the_command_says_by_its_status_that_photos_are_gone(tmp_path, capsys):
    arguments = ["--out", tmp_path / "out", "--first", 3, "--url", tmp_path]
    with pytest.raises(SystemExit) as ended:
        cli.main(["data", "trainingset", *map(str, arguments)])
    printed = capsys.readouterr()
    assert ended.value.code == 1
    assert "; 1103 are gone, listed above and in manifest.json" in printed.err.splitlines()[-1]
    assert "900 photos: ImageNet" in printed.out


@pytest.fixture(scope="module")
def rows():
    return trainingset.read_rows(trainingset.MANIFEST, None)


class TestCommittedManifest:
    COUNTS = {"train/photos8k": 8349, "train/imagenet": 800, "train/bsds": 200, "imagenet": 100}

    def test_lists_each_photo_once(self, rows):
        folders = [row["file"].rpartition("/")[0] for row in rows]
        assert {folder: folders.count(folder) for folder in set(folders)} == self.COUNTS
        for column in ("file", "sha256", "original_sha256"):
            assert len({row[column].lower() for row in rows}) == len(rows)
        for row in rows:
            assert re.fullmatch("[0-9a-f]{64} [0-9a-f]{64}", f"{row['sha256']} {row['original_sha256']}")
            assert re.fullmatch(r"[0-9a-f]{40} [\w.-]+/[\w.-]+", f"{row['commit']} {row['repository']}")
            assert row["licence"]
            assert (row["quality"] == "0") == (row["sha256"] == row["original_sha256"])

    def test_its_test_set_is_that_of_the_results(self, rows):
        """The hash of a record is that of the same photos in the folder `imagenet`."""
        photos = {row["file"].removeprefix("imagenet/"): row["sha256"] for row in rows if row["file"][0] == "i"}
        recorded = hash_lines((photos[name], name) for name in sorted(photos))
        assert recorded in json.dumps(json.loads((ROOT / "results" / "runs.json").read_text("utf-8")))

    @pytest.mark.skipif(not DATA.is_dir(), reason="the photos are not here; CASCADE_DATA names their folder")
    def test_it_is_the_photos_that_were_trained_on(self, rows):
        places = dict(
            zip(
                self.COUNTS,
                ("photos8k", "imagenet_samples/train", "bsds500_extra", "imagenet_samples/val"),
                strict=True,
            )
        )
        listed, found = {}, {}
        for folder, place in places.items():
            found |= {f"{folder}/{path.name}": path for path in (DATA / place).glob("*.jpg")}
        for row in rows:
            listed[row["file"]] = (row["sha256"], int(row["width"]), int(row["height"]))
        assert set(found) == set(listed)
        for file, path in found.items():
            with Image.open(path) as photo:
                assert (sha256(path.read_bytes()), *photo.size) == listed[file]
