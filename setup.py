"""Adds to setup.cfg what it can't say: configs/ is installed as the package convmae_det.configs."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["convmae_det", "convmae_det.*"]), "convmae_det.configs"],
    package_dir={"convmae_det.configs": "configs"},
    package_data={
        "convmae_det": ["py.typed"],
        "convmae_det.configs": ["*.yaml", "*/*.yaml"],
        "convmae_det.report": ["templates/*"],
    },
)
