"""Requests and answers as octets of HTTP/1.1, for both sides of the socket. Pure."""


def request_text(method: str, target: str, body: bytes) -> bytes:
    """A request that keeps the connection."""
    head = f"{method} {target} HTTP/1.1\r\nHost: cellwall\r\nAccept: application/json\r\n"
    if body or method in ("POST", "PUT", "PATCH"):
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def answer_text(status: str, media: str, body: bytes, *lines: str) -> bytes:
    """An answer; `status` is its number and phrase, `lines` are headers beside those of any."""
    first = (f"HTTP/1.1 {status}", f"Content-Type: {media}", "Server: cellwall", f"Content-Length: {len(body)}")
    return "\r\n".join((*first, *lines, "\r\n")).encode() + body
