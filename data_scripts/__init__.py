"""One script a data set: `cascade data bsd300`, and so on.

Each leaves a folder of verified photos (or shards) with a manifest.json, which `cascade_lab.data.open_photos` reads.
"""
