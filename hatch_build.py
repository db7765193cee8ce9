"""Compile the modules of the hot path, where that is asked for by ``ASGI_LLM_COMPILE=1``.

A module is compiled if a ``.pxd`` file of its name lies beside it, which says the types of its
classes. The source is the same, and so is what it does: without a compiler all works from it. A few
modules of nothing but bytes and numbers have a ``.pyx`` file too, which C takes in place of the
``.py`` file; the tests of these run with both.

A wheel gets the compiled modules for the Python that builds it; an editable install has them beside
their sources. There ``python hatch_build.py`` makes those anew whose source has changed, and
``python hatch_build.py --clean`` takes them away.
"""

from __future__ import annotations

import argparse
import os
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "asgi_llm"


class CompileHook(BuildHookInterface[Any]):
    """Adds compiled modules to what is built."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """What has to be installed to build."""
        return ["cython>=3.3,<4", "setuptools>=80"] if _is_wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before anything is packed."""
        if not _is_wanted() or self.target_name != "wheel":
            return
        root = Path(self.root)
        target = root
        if version != "editable":
            target = Path(tempfile.mkdtemp(prefix="asgi-llm-compiled-"))
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
        with tempfile.TemporaryDirectory(prefix="asgi-llm-build-") as work:
            made = compile_modules(root, target, Path(work))
        for compiled in made:
            if version != "editable":
                build_data["force_include"][str(compiled)] = str(compiled.relative_to(target))


def compile_modules(root: Path, target: Path, work: Path) -> list[Path]:
    """Compile what is to be compiled below ``root``, to the same places below ``target``.

    Args:
        root: Of the project.
        target: Of what is made.
        work: For files in between; what it has from a time before is not made again.
    """
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    extensions = [
        Extension(
            ".".join(source.with_suffix("").relative_to(root).parts),
            [str(source.relative_to(root))],
            # Each line is run once in a request, so that short code is what is fast.
            extra_compile_args=[
                "-O2",
                "-fno-plt",
                "-fvisibility=hidden",
                "-g0",
                "-Wno-array-bounds",
            ],
        )
        for pxd in sorted((root / PACKAGE).rglob("*.pxd"))
        if (source := _source_of(pxd)).name != "__init__.py"
    ]
    before = Path.cwd()
    os.chdir(root)
    try:
        distribution = Distribution(
            {
                "name": PACKAGE,
                "packages": [],
                "ext_modules": cythonize(
                    extensions,
                    build_dir=str(work),
                    language_level="3",
                    # Annotations tell readers and mypy; what C is to know the .pxd files say.
                    compiler_directives={"annotation_typing": False, "binding": True},
                ),
            }
        )
        command = distribution.get_command_obj("build_ext")
        command.build_lib = str(target)
        command.build_temp = str(work)
        command.parallel = os.cpu_count()
        command.ensure_finalized()
        command.run()
        return [Path(path) for path in command.get_outputs()]
    finally:
        os.chdir(before)


def _source_of(pxd: Path) -> Path:
    pyx = pxd.with_suffix(".pyx")
    return pyx if pyx.exists() else pxd.with_suffix(".py")


def _is_wanted() -> bool:
    return os.environ.get("ASGI_LLM_COMPILE", "") not in ("", "0")


def remove_compiled(root: Path) -> list[Path]:
    """Remove what was compiled beside the sources below ``root``."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    found = [
        pxd.with_name(pxd.stem + suffix)
        for pxd in sorted((root / PACKAGE).rglob("*.pxd"))
        if pxd.with_name(pxd.stem + suffix).exists()
    ]
    for path in found:
        path.unlink()
    return found


def main() -> None:
    """Compile beside the sources, or clean up."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clean", action="store_true", help="remove what was compiled")
    root = Path(__file__).resolve().parent
    clean = parser.parse_args().clean
    paths = remove_compiled(root) if clean else compile_modules(root, root, root / "build")
    print(f"{len(paths)} compiled modules {'removed' if clean else 'made'}")


if __name__ == "__main__":
    main()
