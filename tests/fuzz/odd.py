"""Odd values, and requests made of them: the same ones in every run."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

UUID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
NUMBERS = [
    *("-1", "0", "1.5", "1e400", "nan", "0x10", "٣", " 1", "1_0", "2147483648"),
    *("9223372036854775808", "-9223372036854775809", "9" * 50, "1" * 5000),
]
DATES = [
    *("9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "9999-12-31", "0001-01-01", "0000-00-00"),
    *(
        "2026-02-30",
        "99999-01-01",
        "2026-11-25 24:00",
        "2026-11-25T00:00:00+99:99",
        "2026-03-29 02:30:00.9999999",
    ),
]
TEXTS = [
    *(
        "",
        "\0",
        "唐\0",
        "\u202e",
        "'",
        '"><script>alert(1)</script>',
        "{{ 7|add:7 }}",
        "%",
        "_",
        "\\",
        "唐" * 3000,
    ),
    *(
        "../../etc/passwd",
        "None",
        "[]",
        "{}",
        "true",
        "a\r\nX: y",
        "\ufffe",
        "\U0001f409",
        "(",
        "[",
        "*",
        "a__b",
    ),
]
KEYS = [UUID, UUID.replace("-", ""), f"{{{UUID}}}", f"urn:uuid:{UUID}", UUID[:-1], f"{UUID}\0", "0" * 32]
MARKS = [
    *(f"0_{moment}_{UUID}" for moment in DATES),
    *(f"{number}_2026-11-25T00:00:00+00:00_{UUID}" for number in NUMBERS),
    *("__", f"0_2026-11-25_{UUID}", f"0_2026-11-25T00:00:00+00:00_{UUID}\0"),
]
LISTS = [",", "1,2,x", ",".join("1" * 900), "唐,\0", f"{UUID},1"]
VALUES = [*NUMBERS, *DATES, *TEXTS, *KEYS, *LISTS]
RAW = ["%ff%fe", "%ED%A0%80", "%", "%0", "%u0041", "&&&==&=", "a" * 9000, "a=1;b=2", "%00=%00"]
LANGUAGES = [
    "",
    "zz",
    "xx-YY;q=2",
    "\xff\xfe",
    "a" * 9000,
    "en;q=nan",
    "*;q=1e400",
    "en_US\0",
    "-" * 500,
    "en,zh;q=,;q",
]
COOKIES = [
    *("sessionid=x", "sessionid=" + "a" * 32, 'sessionid="\\000\\000\\000\\000\\000\\000\\000\\000"'),
    *(
        'reader="\\000"',
        "reader=x:y:z",
        "reader=" + "a" * 5000,
        "messages=garbage",
        'messages="\\000"',
        "csrftoken=\xff",
    ),
    *("django_language=../../x", 'django_language="en\\000"', ";;;===", "=", "\xff\xfe=\xff", "sessionid"),
]
HOSTS = [
    "evil.example",
    "",
    "[::1",
    "a" * 300,
    "testserver:99999999",
    "testserver:x",
    "\xff",
    "127.0.0.1:0",
    "a b",
]
ADDRESSES = ["", "x", "::1%eth0", "999.1.1.1", "::ffff:192.0.2.7", "2001:db8::", "1" * 300]
TYPES = [
    *(
        "",
        "text/plain",
        "application/json",
        "text/xml",
        "multipart/form-data",
        "multipart/form-data; boundary=",
    ),
    *(
        "multipart/form-data; boundary=" + "x" * 300,
        "multipart/form-data; boundary=\xff",
        "x" * 2000,
        "a/b/c; ;=;",
    ),
    *("application/x-www-form-urlencoded; charset=utf-16", "multipart/form-data; boundary=x; charset=utf-7"),
    "application/x-www-form-urlencoded; charset",
]
# Codecs of Python's that decode no text; only a real server builds a request of them (see `BodyMiddleware`).
CODECS = [
    "multipart/form-data; boundary=x; charset=rot13",
    "text/plain; charset=hex",
    "text/plain; charset=zip",
]
PART = b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
BODIES = [
    *(
        b"",
        b"\0",
        b"\xff\xfe",
        b"a=%ff&b=%00",
        b"a" * 5000,
        b"{",
        b"--x",
        b"--x--",
        b"&".join([b"a=1"] * 1200),
    ),
    *(
        PART % (b"a", b"", b"b") + b"--x--\r\n",
        PART % (b"\xff", b"", b"\xff") + b"--x--",
        PART % (b"a", b"", b"b"),
    ),
    PART % (b"file", b'; filename="\xff\0.csv"', b"\xff\xfe\0") + b"--x--\r\n",
    PART % (b"file", b"; filename=\"../../x\"; filename*=rot13''x", b"dynasty") + b"--x--\r\n",
    b'--x\r\nContent-Type: text/plain; charset=rot13\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
    b'--x\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: form-data; name="a"\r\n\r\n!\r\n--x--\r\n',
    b"--x\r\n" + b"X: y\r\n" * 2000 + b"\r\n--x--\r\n",
]
METHODS = ["HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "BREW"]
# The wire carries no control character in a header.
WORDS = [text for text in TEXTS if text.isprintable()]
HEADERS = {
    "Accept-Language": LANGUAGES,
    "Cookie": COOKIES,
    "Host": HOSTS,
    "Referer": [*WORDS, "http://[::1", "https://testserver:x/"],
    "Origin": ["null", "http://[::1", "http://testserver", "\xff", "a" * 5000],
    "User-Agent": [*WORDS, "\xff" * 900],
    "Accept": ["", "*", "text/html;q=x", "a/b/c", ";" * 900, "\xff", "application/json"],
    "X-Forwarded-For": ["x", "1" * 5000, "\xff", "::ffff:1.2.3.4, [::1"],
    "X-Csrftoken": ["", "x", "\xff", "a" * 64, "a" * 5000],
    "Hx-Request": ["true", "\xff"],
    "Hx-Current-Url": ["http://[::1", "%ff", "\xff"],
    "Hx-Trigger": ["%ff", "\xff"],
    "If-Modified-Since": [*DATES, "Mon, 99 Foo 99999 99:99:99 GMT"],
    "If-None-Match": ["*", '"', "W/", "a" * 5000],
    "Range": ["bytes=9-1", "bytes=-", "x"],
}


@dataclass(frozen=True)
class Request:
    """One request. `headers` are names as HTTP spells them; `query` is sent as it stands."""

    path: str
    query: str = ""
    method: str = "GET"
    body: bytes = b""
    kind: str = "application/x-www-form-urlencoded"
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [self.method, self.path[:90], self.query[:90], self.body[:90], self.headers]
        return " ".join(str(part) for part in parts if part) + (f" ({self.kind[:60]})" if self.body else "")


def form(**values: Any) -> bytes:
    return "&".join(f"{quote(name)}={quote(str(value))}" for name, value in values.items()).encode()


def one_by_one(path: str, names: list[str], values: list[str]) -> Iterator[Request]:
    """Each parameter with each value, alone in its query."""
    for name in names:
        for value in values:
            yield Request(path, f"{quote(name)}={quote(value)}")


def with_headers(path: str) -> Iterator[Request]:
    """Each header with each of its odd values, alone."""
    for name, values in HEADERS.items():
        for value in values:
            yield Request(path, headers={name: value})


def with_bodies(path: str) -> Iterator[Request]:
    """Each body under each content type."""
    for kind in [*TYPES, "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]:
        for body in BODIES:
            yield Request(path, method="POST", body=body, kind=kind)


def sample(requests: list[Request], *, most: int, seed: str) -> list[Request]:
    """That many of them, the same in every run."""
    return random.Random(seed).sample(requests, min(most, len(requests)))
