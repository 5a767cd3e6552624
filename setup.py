"""Installs `conf/` as `layerwise/conf`, where `layerwise train` finds it; pyproject.toml says the rest."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["layerwise*"]), "layerwise.conf"], package_dir={"layerwise.conf": "conf"})
