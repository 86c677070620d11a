"""hijack.py SERVER NAME LIAR: makes a network in which it is SERVER itself and says there that NAME is
at LIAR; then a process that has stayed in the first network connects to LIAR, port 80. Prints what
was told, and what the connect got."""
import ctypes
import errno
import fcntl
import os
import socket
import struct
import sys
import threading

SERVER, NAME, LIAR = sys.argv[1:]
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCSIFFLAGS, SIOCSIFADDR, IFF_UP = 0x8914, 0x8916, 1
QUESTION = b"".join(bytes([len(part)]) + part for part in NAME.encode().split(b".")) + struct.pack(
    "!B2H", 0, 1, 1)
PATIENCE = 20


def lie(server):
    query, peer = server.recvfrom(512)
    answer = struct.pack("!3HIH", 0xc00c, 1, 1, 60, 4) + socket.inet_aton(LIAR)
    server.sendto(query[:2] + struct.pack("!5H", 0x8180, 1, 1, 0, 0) +
                  query[12:12 + len(QUESTION)] + answer, peer)


def main():
    told, tell = os.pipe()
    if os.fork() == 0:
        os.close(tell)
        os.read(told, 1)
        with socket.socket() as made:
            made.settimeout(PATIENCE)
            print(errno.errorcode.get(made.connect_ex((LIAR, 80)), "OK"), flush=True)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
        fcntl.ioctl(control, SIOCSIFADDR, struct.pack("16s2sH4s8x", b"lo:1", struct.pack(
            "=H", socket.AF_INET), 0, socket.inet_aton(SERVER)))
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((SERVER, 53))
    threading.Thread(target=lie, args=(server,), daemon=True).start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.sendto(struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + QUESTION, (SERVER, 53))
        print(socket.inet_ntoa(client.recv(512)[-4:]), flush=True)
    os.close(tell)
    os.wait()


main()
