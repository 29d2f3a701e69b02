"""A server that speaks as much of OpenAI's completions API as a load needs, and fails as it is told.

Standard library only. It starts a helper process of its own, which must be gone when the server is.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time

FAULTS = (
    "none", "500", "429", "early", "short", "error event", "hang", "die", "slow start", "never ready", "exit", "oom",
    "close idle", "port taken", "garbage", "long",
)  # fmt: skip


class Stub:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self.fault: str = arguments.fault
        self.every: int = arguments.every
        self.owner: str = arguments.owner
        self.models: list[str] = arguments.models.split(",")
        self.text_field: str = arguments.text_field
        self.token_s: float = arguments.token_s
        self.refuse, _, self.status = arguments.refuse.partition("=")
        self.ready_at = time.monotonic() + arguments.ready_after_s
        self.seen = self.running = 0
        self.connections = 0
        self.asked: list[dict] = []
        self.arrived: list[float] = []
        self.tokenized: list[str] = []
        self.failed = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                method, path, version = head[0].split(" ")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:])}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if not await self.answer(method, path, headers, body, writer):
                    break
                await writer.drain()
                if version == "HTTP/1.0":
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        if path == self.refuse and headers.get("authorization") != "Bearer a-key":
            return self.plain(writer, int(self.status), json.dumps({"error": {"message": "Not so"}}))
        if path == "/health":
            ready = time.monotonic() >= self.ready_at and self.fault != "never ready"
            return self.plain(writer, 200 if ready else 503, "")
        if path == "/metrics":
            text = (
                f'# HELP stub:running r\nstub:running{{engine="0"}} {self.running}.0\nstub:waiting 0\n'
                'stub:kv{engine="0"} 0.25\nstub:kv{engine="1"} 0.5\nstub:preempted_total 2\nstub:other 9\n'
            )
            return self.plain(writer, 200, text)
        if path == "/v1/models":
            if headers.get("authorization", "Bearer a-key") != "Bearer a-key":
                message = f"a wrong key: {headers['authorization']}"
                return self.plain(writer, 401, json.dumps({"error": {"message": message}}))
            models = [{"id": name, "max_model_len": 4096, "owned_by": self.owner} for name in self.models]
            return self.plain(writer, 200, json.dumps({"data": models}))
        if path == "/version":
            return self.plain(writer, 200, '{"version": "9.9"}')
        if path == "/seen":
            seen = {"connections": self.connections, "asked": self.asked, "tokenized": self.tokenized}
            return self.plain(writer, 200, json.dumps(seen))
        if path == "/arrived":
            return self.plain(writer, 200, json.dumps(self.arrived))
        if path == "/failed":
            return self.plain(writer, 200, json.dumps(self.failed))
        if path == "/tokenize":
            text = json.loads(body).get(self.text_field, "")  # of a form that it does not know, llama.cpp sees no text
            self.tokenized.append(text)
            return self.plain(writer, 200, json.dumps({"tokens": list(text.encode())}))
        if path == "/v1/completions":
            self.arrived.append(time.perf_counter())
            return await self.complete(json.loads(body), writer)
        return self.plain(writer, 404, "no such path")

    async def complete(self, asked: dict, writer: asyncio.StreamWriter) -> bool:
        self.seen += 1
        self.asked.append(asked)
        fault = self.fault if self.seen % self.every == 0 else "none"
        self.failed += fault != "none"
        n = asked["max_tokens"]
        if fault == "500":
            return self.plain(writer, 500, "Internal Server Error")
        if fault == "429":
            return self.plain(writer, 429, json.dumps({"error": {"message": "too many\nrequests", "code": 429}}))
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault == "die":
            print("RuntimeError: the stub falls over", file=sys.stderr, flush=True)
            os._exit(3)
        self.running += 1
        try:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            given = n // 2 if fault in ("short", "early") else n + 1 if fault == "long" else n
            for number in range(given):
                if self.token_s:
                    await asyncio.sleep(self.token_s)
                reason = "length" if number == given - 1 else None
                choice = {"index": 0, "text": f"t{number} ", "finish_reason": reason}
                if asked.get("return_token_ids"):
                    choice["token_ids"] = [number]
                self.event(writer, json.dumps({"choices": [choice]}))
                if fault == "garbage" and number == 1:
                    self.event(writer, "{no json")
                if fault == "error event" and number == 1:
                    self.event(writer, json.dumps({"error": {"message": "engine dead", "code": 500}}))
                    break
            if fault == "early":
                await writer.drain()
                return False
            usage = {"prompt_tokens": len(asked["prompt"]), "completion_tokens": given}
            if fault != "error event":
                self.event(writer, json.dumps({"choices": [], "usage": usage}))
            self.event(writer, "[DONE]")
            writer.write(b"0\r\n\r\n")
            return fault != "close idle"
        finally:
            self.running -= 1

    def event(self, writer: asyncio.StreamWriter, text: str) -> None:
        content = f"data: {text}\n\n".encode()
        writer.write(b"%x\r\n%s\r\n" % (len(content), content))

    def plain(self, writer: asyncio.StreamWriter, status: int, text: str) -> bool:
        content = text.encode()
        writer.write(b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\n\r\n%s" % (status, len(content), content))
        return True

    async def run(self, port: int) -> None:
        server = await asyncio.start_server(self.talk, "127.0.0.1", port, backlog=4096, limit=1 << 24)
        async with server:
            await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--fault", choices=FAULTS, default="none")
    parser.add_argument("--every", type=int, default=1, help="only every so many requests fail")
    parser.add_argument("--owner", default="")
    parser.add_argument("--models", default="stub", help="their names")
    parser.add_argument("--text-field", default="prompt", help="where /tokenize looks for the text")
    parser.add_argument("--refuse", default="", help="PATH=STATUS: answered so without the key")
    parser.add_argument("--token-s", type=float, default=0.0)
    parser.add_argument("--ready-after-s", type=float, default=0.0)
    arguments = parser.parse_args()
    if arguments.fault == "exit":
        print("ValueError: the stub takes no such setting", file=sys.stderr)
        sys.exit(7)
    if arguments.fault == "port taken":
        print("OSError: [Errno 98] error while attempting to bind: address already in use", file=sys.stderr)
        sys.exit(1)
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    asyncio.run(Stub(arguments).run(arguments.port))


if __name__ == "__main__":
    main()
