"""A stand-in for the `sglang` package: its `ServerArgs` with the parser that infertune asks, and a server.

`install(folder)` writes it as a package with metadata; nothing of SGLang itself is in it.
"""

from pathlib import Path

STUB = Path(__file__).parent.parent / "serving" / "stub.py"
_ARGUMENTS = '''
class ServerArgs:
    """As `sglang.srt.server_args.ServerArgs` of 0.5.23, in the arguments that are looked at."""

    @staticmethod
    def add_cli_args(parser):
        parser.add_argument("--model-path", "--model", required=True)
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=30000)
        parser.add_argument("--load-format", default="auto")
        parser.add_argument("--device", default=None)
        parser.add_argument("--revision", default=None)
        parser.add_argument("--enable-metrics", action="store_true")
        parser.add_argument("--mem-fraction-static", type=float, default=None)
        parser.add_argument("--max-running-requests", type=int, default=None)
        parser.add_argument("--chunked-prefill-size", type=int, default=None)
        parser.add_argument("--schedule-policy", default="fcfs", choices=["lpm", "random", "fcfs", "dfs-weight"])
        parser.add_argument("--schedule-conservativeness", type=float, default=1.0)
        parser.add_argument("--enable-mixed-chunk", action="store_true")
        parser.add_argument("--kv-cache-dtype", default="auto", choices=["auto", "fp8_e5m2", "fp8_e4m3", "bf16"])
        parser.add_argument("--tensor-parallel-size", "--tp-size", "--tp", dest="tp_size", type=int, default=1)
        parser.add_argument("--num-continuous-decode-steps", type=int, default=1)
        parser.add_argument("--trust-remote-code", action="store_true")
        parser.add_argument("--stream-interval", type=int, default=1)
'''
_SERVER = """
import argparse, runpy, sys
from sglang.srt.server_args import ServerArgs

parser = argparse.ArgumentParser()
ServerArgs.add_cli_args(parser)
asked = parser.parse_args()
if asked.mem_fraction_static == 0.99:
    print("RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.", file=sys.stderr)
    sys.exit(1)
sys.argv = ["stub", f"--port={{asked.port}}", "--ready-after-s=0.2"]
runpy.run_path({stub!r}, run_name="__main__")
"""


def install(folder: Path, version: str = "0.5.23") -> Path:
    """Write the package below a folder, which then belongs on the path of Python."""
    package = folder / "sglang"
    (package / "srt").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "srt" / "__init__.py").touch()
    (package / "srt" / "server_args.py").write_text(_ARGUMENTS)
    (package / "launch_server.py").write_text(_SERVER.format(stub=str(STUB)))
    about = folder / f"sglang-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: sglang\nVersion: {version}\n")
    return folder
