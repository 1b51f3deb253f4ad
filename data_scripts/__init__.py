"""One script a data set: `python -m data_scripts.bsd300`, and so on.

Each leaves a folder of verified photos (or shards) with a manifest.json, which `cascade_lab.data.open_photos` reads.
"""
