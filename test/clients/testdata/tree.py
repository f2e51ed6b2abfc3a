"""Fetches the files named on standard input: tls host port data user password ca remote local."""
import os
import socket
import sys

import ftps

tls, host, port, data, user, password, ca, remote, local = sys.argv[1:]
ftp = ftps.connect(tls, host, port, user, password, ca)
ftp.set_pasv(data in ("PASV", "EPSV"))
if data == "EPSV":
    # ftplib keeps EPSV for this family alone; it dials the address of the control connection.
    ftp.af = socket.AF_INET6
if data == "EPRT":
    ftps.extended_active(ftp)
for name in sys.stdin.read().splitlines():
    path = os.path.join(local, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb", buffering=0) as out:
        ftp.retrbinary("RETR %s/%s" % (remote, name), out.write, blocksize=65536)
ftp.quit()
