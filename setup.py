"""The packages: `cli/` and `tfds_builders/` lie at the top of the checkout, install in `keras_m3s`.

Everything else is in pyproject.toml. A new folder with an `__init__.py` is found by itself.
"""

from setuptools import find_packages, setup

INSIDE = {"keras_m3s.cli": "cli", "keras_m3s.tfds_builders": "tfds_builders"}

packages = find_packages(include=["keras_m3s", "keras_m3s.*"])
for package, folder in INSIDE.items():
    packages += [package, *(f"{package}.{name}" for name in find_packages(folder))]

setup(packages=packages, package_dir=INSIDE)
