"""Fetches the files named on standard input: tls host port data user password ca remote local."""
import os
import sys

import ftps

tls, host, port, data, user, password, ca, remote, local = sys.argv[1:]
ftp = ftps.connect(tls, host, port, user, password, ca)
ftp.set_pasv(data in ("PASV", "EPSV"))
if data == "EPRT":
    ftps.extended_active(ftp)
for name in sys.stdin.read().splitlines():
    path = os.path.join(local, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as out:
        ftp.retrbinary("RETR %s/%s" % (remote, name), out.write)
ftp.quit()
